// [smtp]: how the proxy deals with clients and mailers, and its limits.
#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

using smtp_proxy::Settings;

constexpr ChoiceTable<smtp_proxy::BareNewline, 2> kBareNewlines{{
    {"normalize", smtp_proxy::BareNewline::normalize},
    {"reject", smtp_proxy::BareNewline::reject},
}};
constexpr ChoiceTable<smtp_proxy::EarlyTalker, 2> kEarlyTalkers{{
    {"refuse", smtp_proxy::EarlyTalker::refuse},
    {"wait", smtp_proxy::EarlyTalker::wait},
}};
constexpr ChoiceTable<smtp_proxy::UnauthorisedPipelining, 2> kUnauthorisedPipelining{{
    {"refuse", smtp_proxy::UnauthorisedPipelining::refuse},
    {"wait", smtp_proxy::UnauthorisedPipelining::wait},
}};

constexpr std::int64_t kMostSessions = 1'000'000;
constexpr std::size_t kLeastRecipients = 100;  // RFC 5321 4.5.3.1.8

void read_habits(SectionReader& section, Settings& settings) {
  section.read_choice<smtp_proxy::BareNewline>("bare_newline", kBareNewlines,
                                               settings.bare_newline);
  section.read_choice<smtp_proxy::EarlyTalker>("early_talker", kEarlyTalkers,
                                               settings.early_talker);
  section.read_choice<smtp_proxy::UnauthorisedPipelining>(
      "unauthorised_pipelining", kUnauthorisedPipelining, settings.unauthorised_pipelining);
}

void read_limits(SectionReader& section, Settings& settings) {
  section.read_integer("max_errors", 1, 10'000, settings.max_errors);
  section.read_integer("max_recipients", 1, 1'000'000, settings.max_recipients);
  section.read_integer("max_refused_recipients", 1, 100'000, settings.max_refused_recipients);
  section.read_integer("max_idle_commands", 1, 1'000'000, settings.max_idle_commands);
  section.read_integer("refusals_before_delay", 1, 100'000, settings.refusals_before_delay);
  section.read("longest_delay", settings.longest_delay);
  section.read_integer("max_sessions", 1, kMostSessions, settings.max_sessions);
  section.read_integer("max_sessions_per_mailer", 1, kMostSessions,
                       settings.max_sessions_per_mailer);
  section.read_integer("max_sessions_per_client", 1, kMostSessions,
                       settings.max_sessions_per_client);
  section.read_integer("max_handshakes", 1, kMostSessions, settings.max_handshakes);
}

void read_auth_limits(SectionReader& section, Settings& settings) {
  section.read_integer("max_auth_failures", 1, 10'000, settings.max_auth_failures);
  section.read_integer("max_auth_failures_per_client", 1, 100'000,
                       settings.max_auth_failures_per_client);
  section.read_integer("max_auth_failures_per_user", 1, 100'000,
                       settings.max_auth_failures_per_user);
  section.read("auth_failure_window", settings.auth_failure_window);
  section.read("auth_refusal_time", settings.auth_refusal_time);
  section.read_integer("max_clients_per_user", 1, 100'000, settings.max_clients_per_user);
  section.read("auth_spread_window", settings.auth_spread_window);
}

void read_times(SectionReader& section, Settings& settings) {
  section.read("connect_timeout", settings.connect_timeout);
  section.read("greeting_timeout", settings.greeting_timeout);
  section.read("command_timeout", settings.command_timeout);
  section.read("reply_timeout", settings.reply_timeout);
  section.read("data_initiation_timeout", settings.data_initiation_timeout);
  section.read("data_block_timeout", settings.data_block_timeout);
  section.read("data_termination_timeout", settings.data_termination_timeout);
  section.read("handshake_timeout", settings.handshake_timeout);
  section.read("closing_timeout", settings.closing_timeout);
  section.read("session_timeout", settings.session_timeout);
  section.read("drain_timeout", settings.drain_timeout);
}

// Only of what was written: a default that another value makes pointless misleads nobody.
class Contradictions {
 public:
  Contradictions(const SectionReader& section, DiagnosticLog& log) : section_(section), log_(log) {}

  void warn_if(bool is_so, std::string_view key, std::string_view message) {
    if (is_so && section_.find(key) != nullptr) {
      log_.warning(section_.place_of(key), section_.path_of(key), std::string(message));
    }
  }

 private:
  const SectionReader& section_;
  DiagnosticLog& log_;
};

void check_limits(const SectionReader& section, const Settings& settings, DiagnosticLog& log) {
  Contradictions check(section, log);
  const auto over_all = [&](std::size_t limit) {
    return fmt::format(
        "found {}, which is never reached, because max_sessions is {}; lower it, or "
        "raise max_sessions",
        limit, settings.max_sessions);
  };
  check.warn_if(settings.max_sessions_per_mailer > settings.max_sessions, "max_sessions_per_mailer",
                over_all(settings.max_sessions_per_mailer));
  check.warn_if(settings.max_sessions_per_client > settings.max_sessions, "max_sessions_per_client",
                over_all(settings.max_sessions_per_client));
  check.warn_if(settings.max_handshakes > settings.max_sessions, "max_handshakes",
                over_all(settings.max_handshakes));
  // One below each of the two, and the one that reaches either.
  const std::size_t most_refusals = settings.max_errors + settings.max_refused_recipients - 1;
  check.warn_if(
      settings.refusals_before_delay >= most_refusals, "refusals_before_delay",
      fmt::format("found {}, but after {} refusals every session has ended (max_errors and "
                  "max_refused_recipients), so that nobody is ever delayed; lower it",
                  settings.refusals_before_delay, most_refusals));
  check.warn_if(settings.longest_delay >= settings.session_timeout, "longest_delay",
                fmt::format("found {} s, but a session ends after {} s (session_timeout); lower it",
                            settings.longest_delay.count(), settings.session_timeout.count()));
  check.warn_if(settings.max_recipients < kLeastRecipients, "max_recipients",
                fmt::format("found {}; RFC 5321 (4.5.3.1.8) wants at least {} taken, and some "
                            "senders give up below that",
                            settings.max_recipients, kLeastRecipients));
  check.warn_if(settings.handshake_timeout >= settings.session_timeout, "handshake_timeout",
                fmt::format("found {} s, but a session ends after {} s (session_timeout); lower it",
                            settings.handshake_timeout.count(), settings.session_timeout.count()));
}

void check_auth_limits(const SectionReader& section, const Settings& settings, DiagnosticLog& log) {
  Contradictions check(section, log);
  check.warn_if(settings.max_auth_failures > settings.max_auth_failures_per_client,
                "max_auth_failures",
                fmt::format("found {}, which no stranger reaches, because "
                            "max_auth_failures_per_client is {}; lower it, or raise that",
                            settings.max_auth_failures, settings.max_auth_failures_per_client));
}

}  // namespace

void read_smtp(SectionReader& section, Settings& settings, DiagnosticLog& log) {
  read_habits(section, settings);
  read_limits(section, settings);
  read_auth_limits(section, settings);
  read_times(section, settings);
  check_auth_limits(section, settings, log);
  check_limits(section, settings, log);
}

}  // namespace postern::gateway
