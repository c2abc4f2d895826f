// The closed list of reasons: why a packet, a recipient or a session was refused.
// One row is everything the outside sees of a reason: its word in logs, counters, commands and
// docs, and the SMTP reply that says it. To add a reason, add an enumerator and a row.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace postern::rules {

enum class Reason : std::uint8_t {
  none,
  // packets
  unmanaged_destination,
  unmanaged_sender,
  translated_source,
  impossible_source,
  malformed_packet,
  rate_limited,
  // recipients and senders
  relay_denied,
  source_route,
  routing_character,
  quoted_at_sign,
  address_literal,
  domainless_recipient,
  malformed_address,
  malformed_sender,
  smtputf8_required,
  sender_not_local,
  // the dialogue
  early_talker,
  bare_newline,
  control_character,
  line_too_long,
  syntax_error,
  parameter_not_offered,
  forbidden_command,
  unknown_command,
  no_valid_recipients,
  bad_sequence,
  malformed_chunk,
  message_too_big,
  unauthorised_pipelining,
  not_smtp,
  command_injection,
  tls_failed,
  too_many_handshakes,
  encryption_required,
  too_many_errors,
  too_many_recipients,
  too_many_refused_recipients,
  too_many_idle_commands,
  auth_failed,
  protocol_error,
  timeout,
  upstream_unreachable,
  upstream_lost,
  upstream_not_secured,
  too_many_sessions,
  too_many_mailer_sessions,
  too_many_client_sessions,
  direct_connection,
  shutting_down,
  internal_error,
  count_,
};

inline constexpr std::size_t kReasonCount = static_cast<std::size_t>(Reason::count_);

struct ReasonInfo {
  Reason reason;
  std::string_view label;     // snake_case, fixed for ever
  std::uint16_t smtp_code;    // 0: never said in SMTP
  std::string_view enhanced;  // RFC 3463
  std::string_view text;      // what the SMTP reply and the log say, without code
};

// clang-format off
inline constexpr std::array kReasons{
    ReasonInfo{Reason::none, "none", 0, "", "allowed"},
    ReasonInfo{Reason::unmanaged_destination, "unmanaged_destination", 0, "", "the destination is no managed mailer"},
    ReasonInfo{Reason::unmanaged_sender, "unmanaged_sender", 0, "", "the sending host is no managed mailer"},
    ReasonInfo{Reason::translated_source, "translated_source", 0, "", "an internal address arrived on an external interface"},
    ReasonInfo{Reason::impossible_source, "impossible_source", 0, "", "no host can have this source address"},
    ReasonInfo{Reason::malformed_packet, "malformed_packet", 0, "", "the packet cannot be parsed"},
    ReasonInfo{Reason::rate_limited, "rate_limited", 421, "4.7.0", "too many connections"},
    ReasonInfo{Reason::relay_denied, "relay_denied", 550, "5.7.1", "relay access denied"},
    ReasonInfo{Reason::source_route, "source_route", 550, "5.7.1", "source routes are not accepted"},
    ReasonInfo{Reason::routing_character, "routing_character", 550, "5.7.1", "routing characters in the local part are not accepted"},
    ReasonInfo{Reason::quoted_at_sign, "quoted_at_sign", 550, "5.7.1", "an at sign in the local part is not accepted"},
    ReasonInfo{Reason::address_literal, "address_literal", 550, "5.7.1", "address literals are not accepted"},
    ReasonInfo{Reason::domainless_recipient, "domainless_recipient", 550, "5.7.1", "the recipient needs a domain"},
    ReasonInfo{Reason::malformed_address, "malformed_address", 501, "5.1.3", "malformed address"},
    ReasonInfo{Reason::malformed_sender, "malformed_sender", 501, "5.1.7", "malformed sender address"},
    ReasonInfo{Reason::smtputf8_required, "smtputf8_required", 553, "5.6.7", "this address needs SMTPUTF8"},
    ReasonInfo{Reason::sender_not_local, "sender_not_local", 550, "5.7.1", "the sender address is not local"},
    ReasonInfo{Reason::early_talker, "early_talker", 554, "5.5.1", "you spoke before the greeting"},
    ReasonInfo{Reason::bare_newline, "bare_newline", 500, "5.5.2", "bare CR or LF received"},
    ReasonInfo{Reason::control_character, "control_character", 500, "5.5.2", "control or 8-bit character in a command"},
    ReasonInfo{Reason::line_too_long, "line_too_long", 500, "5.5.2", "command line too long"},
    ReasonInfo{Reason::syntax_error, "syntax_error", 501, "5.5.4", "syntax error in arguments"},
    ReasonInfo{Reason::parameter_not_offered, "parameter_not_offered", 555, "5.5.4", "parameter not recognised or not offered"},
    ReasonInfo{Reason::forbidden_command, "forbidden_command", 502, "5.5.1", "command not available here"},
    ReasonInfo{Reason::unknown_command, "unknown_command", 500, "5.5.1", "command not recognised"},
    ReasonInfo{Reason::no_valid_recipients, "no_valid_recipients", 554, "5.5.1", "no valid recipients"},
    ReasonInfo{Reason::bad_sequence, "bad_sequence", 503, "5.5.1", "bad sequence of commands"},
    ReasonInfo{Reason::malformed_chunk, "malformed_chunk", 501, "5.5.4", "BDAT needs the chunk's size in octets and then LAST or nothing"},
    ReasonInfo{Reason::message_too_big, "message_too_big", 552, "5.3.4", "the message is larger than the mail server takes"},
    ReasonInfo{Reason::unauthorised_pipelining, "unauthorised_pipelining", 554, "5.5.0", "you did not wait for a reply that must be waited for"},
    ReasonInfo{Reason::not_smtp, "not_smtp", 554, "5.5.1", "this is a mail server, and that was not SMTP"},
    ReasonInfo{Reason::command_injection, "command_injection", 421, "4.7.0", "unexpected bytes after STARTTLS"},
    ReasonInfo{Reason::tls_failed, "tls_failed", 0, "", "the TLS handshake with the client failed"},
    ReasonInfo{Reason::too_many_handshakes, "too_many_handshakes", 454, "4.7.0", "TLS is not available right now, try again later"},
    ReasonInfo{Reason::encryption_required, "encryption_required", 538, "5.7.11", "this needs TLS: say STARTTLS first"},
    ReasonInfo{Reason::too_many_errors, "too_many_errors", 421, "4.7.0", "too many errors"},
    ReasonInfo{Reason::too_many_recipients, "too_many_recipients", 452, "4.5.3", "too many recipients in one message"},
    ReasonInfo{Reason::too_many_refused_recipients, "too_many_refused_recipients", 421, "4.7.0", "too many refused recipients"},
    ReasonInfo{Reason::too_many_idle_commands, "too_many_idle_commands", 421, "4.7.0", "too many commands without a message"},
    ReasonInfo{Reason::auth_failed, "auth_failed", 421, "4.7.0", "too many failed authentications"},
    ReasonInfo{Reason::protocol_error, "protocol_error", 421, "4.3.0", "the mail server broke the protocol"},
    ReasonInfo{Reason::timeout, "timeout", 421, "4.4.2", "timeout exceeded"},
    ReasonInfo{Reason::upstream_unreachable, "upstream_unreachable", 421, "4.4.1", "the mail server cannot be reached, try again later"},
    ReasonInfo{Reason::upstream_lost, "upstream_lost", 421, "4.4.2", "the connection to the mail server was lost"},
    ReasonInfo{Reason::upstream_not_secured, "upstream_not_secured", 421, "4.7.5", "the connection to the mail server could not be secured, try again later"},
    ReasonInfo{Reason::too_many_sessions, "too_many_sessions", 421, "4.3.2", "too many sessions, try again later"},
    ReasonInfo{Reason::too_many_mailer_sessions, "too_many_mailer_sessions", 421, "4.3.2", "too many sessions with this mail server, try again later"},
    ReasonInfo{Reason::too_many_client_sessions, "too_many_client_sessions", 421, "4.7.0", "too many sessions from your address, try again later"},
    ReasonInfo{Reason::direct_connection, "direct_connection", 0, "", "a connection to the proxy's own port"},
    ReasonInfo{Reason::shutting_down, "shutting_down", 421, "4.3.2", "the service is shutting down"},
    ReasonInfo{Reason::internal_error, "internal_error", 421, "4.3.0", "local error in processing"},
};
// clang-format on

static_assert(kReasons.size() == kReasonCount);
static_assert([] {
  for (std::size_t i = 0; i < kReasons.size(); ++i) {
    if (kReasons[i].reason != static_cast<Reason>(i)) {
      return false;
    }
  }
  return true;
}());

[[nodiscard]] constexpr const ReasonInfo& info(Reason reason) {
  return kReasons[static_cast<std::size_t>(reason)];
}

[[nodiscard]] constexpr std::string_view label(Reason reason) {
  return info(reason).label;
}

}  // namespace postern::rules
