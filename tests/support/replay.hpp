// Reads what a client said beside what it was answered, when the session is over: one answer for each
// command, in order; a 2xx for a message only from the server, for exactly the message that it has; nothing
// said in clear counts in TLS; what holds a credential is told of; and what is refused, is refused for a reason that holds. With Policy::observe: nothing but what the other
// side said.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/gullible_server.hpp"
#include "tests/support/hostile_session.hpp"
#include "tests/support/smtp_session.hpp"

namespace postern::testing_support {

// Of the client's, as the proxy read it.
struct GivenPiece {
  std::size_t end = 0;     // how many octets had been given with it
  bool is_secret = false;  // by what the proxy told
};

struct Course {
  const HostilePlan& plan;
  const Seen& seen;
  const GullibleServer& server;
  // How many octets the client had sent when the server's reply to its first, second… command came.
  const std::vector<std::size_t>& sent_at_reply;
  const std::string& server_said;
  std::size_t sent = 0;
  std::vector<GivenPiece> pieces{};
  // How many octets the client had sent when its TLS began.
  std::optional<std::size_t> client_tls_at{};
  bool client_was_not_admitted = false;
  bool server_tls_failed = false;
};

// What does not hold, in words.
[[nodiscard]] std::vector<std::string> replay(const Course& course);
[[nodiscard]] std::vector<std::string> replay_observed(const Course& course);

}  // namespace postern::testing_support
