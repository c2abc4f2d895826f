#include "gateway/counters.hpp"

#include <type_traits>
#include <variant>

namespace postern::gateway {
namespace {

using rules::Reason;

template <typename Enum>
constexpr std::size_t index(Enum value) {
  return static_cast<std::size_t>(value);
}

void add(Samples& samples, std::string name, Labels labels, const Counter& counter) {
  if (const std::uint64_t value = counter.get(); value != 0) {
    samples[{std::move(name), std::move(labels)}] += value;
  }
}

template <typename Visitor>
void for_each_reason(Visitor visit) {
  for (const rules::ReasonInfo& info : rules::kReasons) {
    visit(index(info.reason), std::string(info.label));
  }
}

constexpr std::array kZones{rules::Zone::external, rules::Zone::internal};
constexpr std::array kClasses{rules::RecipientClass::local, rules::RecipientClass::foreign};
constexpr std::array kDecisions{"refused", "observed"};
constexpr std::array kTlsPeers{rules::TlsPeer::client, rules::TlsPeer::server};
constexpr std::array kHandshakeResults{
    rules::HandshakeResult::full, rules::HandshakeResult::resumed, rules::HandshakeResult::failed,
    rules::HandshakeResult::aborted};
constexpr std::array kAuthResults{rules::AuthResult::accepted, rules::AuthResult::refused,
                                  rules::AuthResult::aborted};
constexpr std::array kOutcomes{rules::MessageOutcome::accepted, rules::MessageOutcome::refused,
                               rules::MessageOutcome::aborted};

// How a connection to a mailer came out, and behind it when, in one number.
constexpr std::uint64_t kUpstreamOutcomes = rules::kUpstreamErrorCount + 1;

std::uint64_t outcome_now(std::uint64_t outcome) {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
  return static_cast<std::uint64_t>(now.count()) * kUpstreamOutcomes + outcome;
}

}  // namespace

rules::Reason blocked_reason(const rules::Event& event) {
  return std::visit(
      [](const auto& happened) {
        using T = std::decay_t<decltype(happened)>;
        if constexpr (std::is_same_v<T, rules::FlowDecided>) {
          const rules::FlowVerdict verdict = happened.decision.verdict;
          const bool is_blocked = verdict == rules::FlowVerdict::reject ||
                                  verdict == rules::FlowVerdict::drop ||
                                  verdict == rules::FlowVerdict::observe;
          return is_blocked ? happened.decision.reason : Reason::none;
        } else if constexpr (std::is_same_v<T, rules::RecipientDecided>) {
          return happened.decision.reason;
        } else if constexpr (std::is_same_v<T, rules::CommandRefused> ||
                             std::is_same_v<T, rules::ConnectionRefused>) {
          return happened.reason;
        } else {
          return Reason::none;
        }
      },
      event);
}

bool was_only_observed(const rules::Event& event) {
  return std::visit(
      [](const auto& happened) {
        using T = std::decay_t<decltype(happened)>;
        if constexpr (std::is_same_v<T, rules::FlowDecided>) {
          return happened.decision.verdict == rules::FlowVerdict::observe;
        } else if constexpr (std::is_same_v<T, rules::RecipientDecided> ||
                             std::is_same_v<T, rules::CommandRefused> ||
                             std::is_same_v<T, rules::ConnectionRefused>) {
          return happened.observed;
        } else {
          return false;
        }
      },
      event);
}

void Counters::count(const rules::Event& event) {
  std::visit([this](const auto& happened) { count_event(happened); }, event);
  if (const Reason reason = blocked_reason(event); reason != Reason::none) {
    blocked_[was_only_observed(event) ? 1 : 0][index(reason)].add();
  }
}

Counters::MailerCounters& Counters::mailer(rules::MailerId id) {
  if (id >= mailers_.size()) {
    const std::lock_guard lock(growth_);
    while (mailers_.size() <= id) {
      mailers_.emplace_back();
    }
  }
  return mailers_[id];
}

void Counters::count_event(const rules::FlowDecided& event) {
  const rules::FlowDecision& decision = event.decision;
  flows_[index(decision.direction)][index(decision.verdict)][index(decision.reason)].add();
}

void Counters::count_event(const rules::SessionOpened& event) {
  mailer(event.mailer).sessions_open[index(event.zone)].add();
}

void Counters::count_event(const rules::SessionClosed& event) {
  MailerCounters& counters = mailer(event.mailer);
  counters.sessions_open[index(event.zone)].subtract();
  counters.sessions_closed[index(event.zone)][index(event.reason)].add();
}

void Counters::count_event(const rules::ConnectionRefused& event) {
  connections_refused_[event.observed ? 1 : 0][index(event.reason)].add();
}

void Counters::count_event(const rules::RecipientDecided& event) {
  auto& cell = mailer(event.mailer).recipients[index(event.zone)][index(event.decision.recipient)];
  cell[event.observed ? 1 : 0][index(event.decision.reason)].add();
}

void Counters::count_event(const rules::CommandRefused& event) {
  auto& refused = mailer(event.mailer).commands_refused[index(event.zone)];
  refused[event.observed ? 1 : 0][index(event.reason)].add();
}

void Counters::count_event(const rules::SessionBecameOpaque& event) {
  mailer(event.mailer).sessions_opaque[index(event.zone)].add();
}

void Counters::count_event(const rules::HandshakeEnded& event) {
  mailer(event.mailer).handshakes[index(event.peer)][index(event.result)].add();
}

void Counters::count_event(const rules::AuthEnded& event) {
  mailer(event.mailer).authentications[index(event.zone)][index(event.result)].add();
}

void Counters::count_event(const rules::SourceBarred& event) {
  mailer(event.mailer).sources_barred.add();
}

void Counters::count_event(const rules::RepeatOffender& /*event*/) {
  repeat_offenders_.add();
}

void Counters::count_event(const rules::AccountSpread& event) {
  mailer(event.mailer).accounts_spread.add();
}

void Counters::count_event(const rules::MessageEnded& event) {
  MailerCounters& counters = mailer(event.mailer);
  counters.messages[index(event.zone)][index(event.outcome)].add();
  counters.message_octets.add(event.octets);
}

void Counters::count_event(const rules::UpstreamFailed& event) {
  MailerCounters& counters = mailer(event.mailer);
  counters.upstream_errors[index(event.error)].add();
  counters.last_upstream_outcome.set(outcome_now(index(event.error) + 1));
}

void Counters::count_event(const rules::UpstreamConnected& event) {
  mailer(event.mailer).last_upstream_outcome.set(outcome_now(0));
}

void Counters::collect(const std::vector<std::string>& mailer_names, Samples& samples) const {
  for (std::size_t direction = 0; direction < rules::kFlowDirectionCount; ++direction) {
    for (std::size_t verdict = 0; verdict < rules::kFlowVerdictCount; ++verdict) {
      for_each_reason([&](std::size_t reason, const std::string& label) {
        add(samples, "postern_flows_total",
            {{"direction", to_label(static_cast<rules::FlowDirection>(direction))},
             {"verdict", to_label(static_cast<rules::FlowVerdict>(verdict))},
             {"reason", label}},
            flows_[direction][verdict][reason]);
      });
    }
  }
  for_each_reason([&](std::size_t reason, const std::string& label) {
    for (const std::size_t outcome : {0U, 1U}) {
      add(samples, "postern_connections_refused_total",
          {{"decision", kDecisions[outcome]}, {"reason", label}},
          connections_refused_[outcome][reason]);
    }
  });
  add(samples, "postern_repeat_offenders_total", {}, repeat_offenders_);
  const std::lock_guard lock(growth_);
  for (std::size_t id = 0; id < mailers_.size() && id < mailer_names.size(); ++id) {
    collect(mailers_[id], mailer_names[id], samples);
  }
}

void Counters::collect(const MailerCounters& counters, const std::string& name, Samples& samples) {
  for (const rules::Zone zone : kZones) {
    const std::string zone_label = to_label(zone);
    const std::size_t z = index(zone);
    const Labels labels{{"mailer", name}, {"zone", zone_label}};
    const auto with = [&labels](Labels more) {
      more.insert(more.begin(), labels.begin(), labels.end());
      return more;
    };
    add(samples, "postern_sessions_open", labels, counters.sessions_open[z]);
    for_each_reason([&](std::size_t reason, const std::string& label) {
      const std::string outcome = reason == index(Reason::none) ? "completed" : label;
      add(samples, "postern_sessions_total", with({{"outcome", outcome}}),
          counters.sessions_closed[z][reason]);
      for (const std::size_t decision : {0U, 1U}) {
        add(samples, "postern_commands_refused_total",
            with({{"decision", kDecisions[decision]}, {"reason", label}}),
            counters.commands_refused[z][decision][reason]);
        for (const rules::RecipientClass recipient : kClasses) {
          add(samples, "postern_recipients_total",
              with(
                  {{"recipient", to_label(recipient)},
                   {"decision", reason == index(Reason::none) ? "forwarded" : kDecisions[decision]},
                   {"reason", label}}),
              counters.recipients[z][index(recipient)][decision][reason]);
        }
      }
    });
    add(samples, "postern_sessions_opaque_total", labels, counters.sessions_opaque[z]);
    for (const rules::AuthResult result : kAuthResults) {
      add(samples, "postern_auth_total", with({{"result", to_label(result)}}),
          counters.authentications[z][index(result)]);
    }
    for (const rules::MessageOutcome outcome : kOutcomes) {
      add(samples, "postern_messages_total", with({{"outcome", to_label(outcome)}}),
          counters.messages[z][index(outcome)]);
    }
  }
  for (const rules::TlsPeer peer : kTlsPeers) {
    for (const rules::HandshakeResult result : kHandshakeResults) {
      add(samples, "postern_tls_handshakes_total",
          {{"mailer", name}, {"peer", to_label(peer)}, {"result", to_label(result)}},
          counters.handshakes[index(peer)][index(result)]);
    }
  }
  add(samples, "postern_sources_barred_total", {{"mailer", name}}, counters.sources_barred);
  add(samples, "postern_accounts_spread_total", {{"mailer", name}}, counters.accounts_spread);
  add(samples, "postern_message_bytes_total", {{"mailer", name}, {"direction", "to_server"}},
      counters.message_octets);
  for (std::size_t error = 0; error < rules::kUpstreamErrorCount; ++error) {
    add(samples, "postern_upstream_errors_total",
        {{"mailer", name}, {"kind", to_label(static_cast<rules::UpstreamError>(error))}},
        counters.upstream_errors[error]);
  }
}

void Counters::add_blocked_by_reason(BlockedTotals& totals) const {
  for (std::size_t reason = 0; reason < rules::kReasonCount; ++reason) {
    totals.refused[reason] += blocked_[0][reason].get();
    totals.observed[reason] += blocked_[1][reason].get();
  }
}

void Counters::add_recipients(RecipientMatrix& matrix) const {
  const std::lock_guard lock(growth_);
  for (const MailerCounters& counters : mailers_) {
    for (const rules::Zone zone : kZones) {
      for (const rules::RecipientClass recipient : kClasses) {
        const ByOutcome& cell = counters.recipients[index(zone)][index(recipient)];
        RecipientTotals& totals = matrix[index(zone)][index(recipient)];
        for_each_reason([&](std::size_t reason, const std::string&) {
          (reason == index(Reason::none) ? totals.forwarded : totals.refused) +=
              cell[0][reason].get();
          totals.observed += cell[1][reason].get();
        });
      }
    }
  }
}

std::uint64_t Counters::sessions_open(rules::MailerId mailer) const {
  const std::lock_guard lock(growth_);
  if (mailer >= mailers_.size()) {
    return 0;
  }
  const auto& open = mailers_[mailer].sessions_open;
  return open[0].get() + open[1].get();
}

std::uint64_t Counters::sessions_open() const {
  const std::lock_guard lock(growth_);
  std::uint64_t total = 0;
  for (const MailerCounters& counters : mailers_) {
    total += counters.sessions_open[0].get() + counters.sessions_open[1].get();
  }
  return total;
}

std::optional<Counters::UpstreamOutcome> Counters::last_upstream_outcome(
    rules::MailerId mailer) const {
  const std::lock_guard lock(growth_);
  const std::uint64_t outcome =
      mailer < mailers_.size() ? mailers_[mailer].last_upstream_outcome.get() : 0;
  if (outcome == 0) {
    return std::nullopt;
  }
  const std::uint64_t error = outcome % kUpstreamOutcomes;
  return UpstreamOutcome{
      .at = std::chrono::steady_clock::time_point(
          std::chrono::microseconds(outcome / kUpstreamOutcomes)),
      .error =
          error == 0 ? std::nullopt : std::optional(static_cast<rules::UpstreamError>(error - 1))};
}

}  // namespace postern::gateway
