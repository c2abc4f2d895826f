#include "gateway/event_log.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <variant>

namespace postern::gateway {
namespace {

std::string to_text(const rules::Endpoint& endpoint) {
  return endpoint.address.is_v4()
             ? fmt::format("{}:{}", endpoint.address.to_string(), endpoint.port)
             : fmt::format("[{}]:{}", endpoint.address.to_string(), endpoint.port);
}

// The others are counted, and told where they are refused.
template <typename T>
constexpr bool kIsSilent =
    std::is_same_v<T, rules::FlowDecided> || std::is_same_v<T, rules::SessionOpened> ||
    std::is_same_v<T, rules::ConnectionRefused> || std::is_same_v<T, rules::RecipientDecided> ||
    std::is_same_v<T, rules::CommandRefused> || std::is_same_v<T, rules::MessageEnded> ||
    std::is_same_v<T, rules::UpstreamConnected>;

}  // namespace

void EventLog::note(const rules::Ends& ends, const rules::Event& event) {
  std::visit(
      [&](const auto& happened) {
        if constexpr (!kIsSilent<std::decay_t<decltype(happened)>>) {
          write(ends, happened);
        }
      },
      event);
}

bool EventLog::may_log() {
  std::uint64_t suppressed = 0;
  if (!budget_.take(std::chrono::steady_clock::now(), suppressed)) {
    return false;
  }
  if (suppressed > 0) {
    log_.line(LogLevel::warning, "log lines were left out, the counters have them all",
              {{"count", std::to_string(suppressed)}});
  }
  return true;
}

void EventLog::note(const BlockedAttempt& attempt) {
  if (!may_log()) {
    return;
  }
  log_.line(LogLevel::info, attempt.observed ? "would be blocked" : "blocked",
            {{"reason", std::string(rules::label(attempt.reason))},
             {"what", attempt.what},
             {"client", to_text(attempt.ends.client)},
             {"server", to_text(attempt.ends.server)},
             {"mailer", attempt.mailer ? mailer_name(*attempt.mailer) : "-"},
             {"detail", attempt.detail}});
}

void EventLog::write(const rules::Ends& ends, const rules::UpstreamFailed& failed) {
  if (may_log()) {
    log_.line(LogLevel::warning, "the mailer failed a session",
              {{"mailer", mailer_name(failed.mailer)},
               {"kind", to_label(failed.error)},
               {"client", to_text(ends.client)},
               {"server", to_text(ends.server)}});
  }
}

// With starttls = "pass" it is what was asked for, and happens in most sessions.
void EventLog::write(const rules::Ends& ends, const rules::SessionBecameOpaque& opaque) {
  const bool is_wanted = opaque.cause == rules::OpaqueCause::starttls;
  if (may_log()) {
    log_.line(is_wanted ? LogLevel::info : LogLevel::warning,
              is_wanted ? "a session is passed on unread behind STARTTLS"
                        : "a session is passed on unread from here on",
              {{"mailer", mailer_name(opaque.mailer)},
               {"zone", to_label(opaque.zone)},
               {"client", to_text(ends.client)},
               {"server", to_text(ends.server)}});
  }
}

void EventLog::write(const rules::Ends& ends, const rules::HandshakeEnded& handshake) {
  const bool has_failed = handshake.result == rules::HandshakeResult::failed;
  const LogLevel level = has_failed ? LogLevel::info : LogLevel::debug;
  if (log_.shows(level) && may_log()) {
    log_.line(level, has_failed ? "a TLS handshake failed" : "TLS began",
              {{"mailer", mailer_name(handshake.mailer)},
               {"peer", to_label(handshake.peer)},
               {"result", to_label(handshake.result)},
               {"client", to_text(ends.client)},
               {"server", to_text(ends.server)},
               {"detail", handshake.detail}});
  }
}

void EventLog::write(const rules::Ends& ends, const rules::AuthEnded& auth) {
  const bool was_refused = auth.result == rules::AuthResult::refused;
  const LogLevel level = was_refused ? LogLevel::info : LogLevel::debug;
  if (log_.shows(level) && may_log()) {
    log_.line(level, was_refused ? "an authentication was refused" : "an authentication ended",
              {{"mailer", mailer_name(auth.mailer)},
               {"zone", to_label(auth.zone)},
               {"result", to_label(auth.result)},
               {"client", to_text(ends.client)}});
  }
}

void EventLog::write(const rules::Ends& ends, const rules::SourceBarred& barred) {
  if (may_log()) {
    log_.line(LogLevel::warning, "a source guesses passwords, and is refused for a while",
              {{"mailer", mailer_name(barred.mailer)},
               {"client", to_text(ends.client)},
               {"seconds", std::to_string(barred.duration.count())}});
  }
}

void EventLog::write(const rules::Ends& ends, const rules::RepeatOffender& offender) {
  if (may_log()) {
    log_.line(
        LogLevel::warning,
        "a source goes on and on, and reaches nothing but the mailers for a while",
        {{"client", to_text(ends.client)}, {"seconds", std::to_string(offender.duration.count())}});
  }
}

// Not within the budget: a stranger cannot cause it without a password.
void EventLog::write(const rules::Ends& ends, const rules::AccountSpread& spread) {
  log_.line(LogLevel::warning, "an account was used from many sources, its password may be stolen",
            {{"mailer", mailer_name(spread.mailer)},
             {"user", spread.user},
             {"sources", std::to_string(spread.sources)},
             {"client", to_text(ends.client)}});
}

void EventLog::write(const rules::Ends& ends, const rules::SessionClosed& closed) {
  if (log_.shows(LogLevel::debug)) {
    log_.line(LogLevel::debug, "session closed",
              {{"mailer", mailer_name(closed.mailer)},
               {"client", to_text(ends.client)},
               {"reason", std::string(rules::label(closed.reason))}});
  }
}

std::string EventLog::mailer_name(rules::MailerId id) const {
  for (const rules::Mailer& mailer : policy_->mailers()) {
    if (mailer.id == id) {
      return mailer.name;
    }
  }
  return "-";  // taken out of the configuration while its last sessions live
}

}  // namespace postern::gateway
