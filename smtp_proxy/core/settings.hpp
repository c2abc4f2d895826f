// What the administrator may set of the dialogue. Defaults are those of RFC 5321 4.5.3.2 where it
// names one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "rules/ip.hpp"

namespace postern::smtp_proxy {

// keep: as the client wrote it. Not for the administrator to choose: a lax server may see an end of
// data there.
enum class BareNewline : std::uint8_t { normalize, reject, keep };
enum class EarlyTalker : std::uint8_t { refuse, wait };
enum class UnauthorisedPipelining : std::uint8_t { refuse, wait };

struct Settings {
  BareNewline bare_newline = BareNewline::normalize;
  EarlyTalker early_talker = EarlyTalker::refuse;
  UnauthorisedPipelining unauthorised_pipelining = UnauthorisedPipelining::refuse;

  std::size_t max_errors = 20;        // refused commands in a session, then 421
  std::size_t max_recipients = 1000;  // in a message, then 452 for each (RFC 5321 4.5.3.1.10)
  std::size_t max_refused_recipients = 100;  // in a session, then 421
  std::size_t max_idle_commands = 100;       // NOOP and the like since the last message, then 421

  // From this many refusals in a session on, the client waits after each: a second, then twice as
  // long each time, up to the longest delay.
  std::size_t refusals_before_delay = 10;
  std::chrono::seconds longest_delay{30};

  std::size_t max_sessions = 20'000;  // in all; more are answered 421
  std::size_t max_sessions_per_mailer = 10'000;
  std::size_t max_sessions_per_client = 50;  // external ones; an IPv6 client is its /64

  // TLS handshakes with clients in progress, of one worker; then see HandshakeLimit.
  std::size_t max_handshakes = 500;

  // Failed authentications: in a session, then 421; of a stranger (an IPv6 one is its /64) within the
  // window, then it is refused for a while; of a user name within the window, then every further
  // one costs the longest delay.
  std::size_t max_auth_failures = 5;
  std::size_t max_auth_failures_per_client = 20;
  std::size_t max_auth_failures_per_user = 20;
  std::chrono::seconds auth_failure_window{600};
  std::chrono::seconds auth_refusal_time{600};
  // Through these the site's mail is known to come, so that none of them is refused for its passwords.
  rules::PrefixSet expected_relays;
  // An account that was used from more strangers within this time is reported as probably stolen.
  std::size_t max_clients_per_user = 10;
  std::chrono::seconds auth_spread_window{3600};

  std::chrono::seconds connect_timeout{30};            // to the mailer
  std::chrono::seconds greeting_timeout{300};          // the mailer's 220
  std::chrono::seconds command_timeout{300};           // the client's next whole command
  std::chrono::seconds reply_timeout{300};             // the mailer's whole reply to a command
  std::chrono::seconds data_initiation_timeout{120};   // the mailer's 354
  std::chrono::seconds data_block_timeout{180};        // any progress of a body
  std::chrono::seconds data_termination_timeout{600};  // the mailer's reply to the end of data
  std::chrono::seconds handshake_timeout{30};          // a TLS handshake, on either side
  std::chrono::seconds closing_timeout{5};             // for the other side's FIN
  std::chrono::seconds session_timeout{7200};          // a session in all
  std::chrono::seconds drain_timeout{30};  // at a stop: for sessions to come to their end
};

}  // namespace postern::smtp_proxy
