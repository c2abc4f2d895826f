// A hostile client, the proxy and the gullible server in one session, and what must hold of it
// whatever the client says: docs/invariants.md. Property tests and fuzzers share it.
#pragma once

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
};

struct HostileResult {
  Seen seen;
  std::vector<std::string> broken;  // invariants, in words; empty if all hold
};

[[nodiscard]] HostileResult run_hostile(const HostilePlan& plan);

// Any bytes from both sides, ends of streams, timeouts and stops, in the order that `script` says:
// what the server must never be made to do, and what must never be held, still holds.
[[nodiscard]] std::vector<std::string> run_chaos(const SessionSetup& setup,
                                                 std::string_view script);

// The plan that the bytes of a fuzzer's input stand for.
[[nodiscard]] HostilePlan plan_from(std::string_view input);
[[nodiscard]] SessionSetup setup_from(std::uint8_t flags);

}  // namespace postern::testing_support
