// A hostile client, the proxy and the gullible server in one session, and what must hold of it
// whatever the client says: docs/invariants.md. Property tests and fuzzers share it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/gullible_server.hpp"
#include "tests/support/smtp_session.hpp"

namespace postern::testing_support {

struct HostilePlan {
  SessionSetup setup;
  GullibleServer::Habits server;
  std::string client;  // all that the client says, before it ends its stream
  bool speaks_early = false;
  // Whose bytes come next and how many: the lowest bit chooses the side, the others the size.
  std::vector<std::uint8_t> schedule;
  // Where the client waits until nothing more comes, and until its handshake is over.
  enum class Patience : std::uint8_t { none, behind_starttls, behind_each_line };
  Patience patience = Patience::none;
  // How TLS begins, each time in turn; past the end it does. Of eight, six is a client that is not
  // admitted, seven a handshake that fails.
  std::vector<std::uint8_t> handshakes;
  // Each turn's bytes are given in pieces of this size, and nothing happens between them.
  std::size_t piece = static_cast<std::size_t>(-1);
};

struct HostileResult {
  Seen seen;
  std::vector<std::string> broken;  // invariants, in words; empty if all hold
};

// With Policy::observe the server's misdeeds are nobody's fault: only that nothing is changed counts.
[[nodiscard]] HostileResult run_hostile(const HostilePlan& plan);

// Any bytes from both sides, ends of streams, timeouts and stops, in the order that `script` says:
// what the server must never be made to do, and what must never be held, still holds.
[[nodiscard]] std::vector<std::string> run_chaos(const SessionSetup& setup,
                                                 std::string_view script);

// Of a fuzzer's input: the plan that the bytes stand for, and either of the two runs.
[[nodiscard]] HostilePlan plan_from(std::string_view input);
[[nodiscard]] std::vector<std::string> run_input(std::string_view input);

// `more`: what only newer inputs say; of 128 in `flags` they have it. `security`: of 128 in `more`.
[[nodiscard]] SessionSetup setup_from(std::uint8_t flags, std::uint8_t more = 0,
                                      std::uint8_t security = 0);

}  // namespace postern::testing_support
