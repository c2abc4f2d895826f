// What the daemon answers to the control socket: the state of things.
#include <boost/asio/awaitable.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "gateway/app.hpp"
#include "gateway/reachability.hpp"
#include "gateway/version.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;

constexpr std::chrono::milliseconds kReachabilityPatience{1000};
constexpr std::uint16_t kSmtpPort = 25;

}  // namespace

std::string App::counters() {
  Samples samples;
  packet_filter_->collect(mailer_ids_.names(), samples);
  proxy_->collect(mailer_ids_.names(), samples);
  return to_json(samples);
}

std::vector<std::string> App::blocked(Cursor& cursor) {
  std::vector<const BlockedLog*> logs = packet_filter_->blocked_logs();
  std::ranges::copy(proxy_->blocked_logs(), std::back_inserter(logs));
  cursor.resize(logs.size(), 0);
  std::vector<BlockedAttempt> attempts;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    BlockedLog::Page page = logs[i]->since(cursor[i]);
    cursor[i] = page.next;
    std::ranges::move(page.attempts, std::back_inserter(attempts));
  }
  std::ranges::stable_sort(attempts, {}, &BlockedAttempt::when);
  std::vector<std::string> lines;
  lines.reserve(attempts.size());
  for (const BlockedAttempt& attempt : attempts) {
    lines.push_back(to_json(attempt, attempt.mailer ? mailer_ids_.names()[*attempt.mailer] : ""));
  }
  return lines;
}

net::awaitable<void> App::ask_mailers(StatusReport& status) {
  // Held: a reload may put another in its place while we wait.
  const std::shared_ptr<const rules::Policy> policy = config_.policy;
  std::vector<rules::IpAddress> addresses;
  for (const rules::Mailer& mailer : policy->mailers()) {
    addresses.insert(addresses.end(), mailer.addresses.begin(), mailer.addresses.end());
  }
  const std::vector<bool> answers =
      co_await accept_connections(addresses, kSmtpPort, kReachabilityPatience);
  std::size_t next = 0;
  for (std::size_t i = 0; i < status.mailers.size(); ++i) {
    MailerReport& mailer = status.mailers[i];
    for (const rules::IpAddress& address : policy->mailers()[i].addresses) {
      if (!answers[next++]) {
        mailer.upstream_ok = false;
        status.problems.push_back(fmt::format("mailer {} does not answer at {} port {}",
                                              mailer.name, address.to_string(), kSmtpPort));
      }
    }
  }
}

net::awaitable<std::string> App::status() {
  StatusReport status = report();
  co_await ask_mailers(status);
  co_return to_json(status);
}

StatusReport App::report() const {
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
  ProxyReport proxy = proxy_->report();
  StatusReport status{.version = std::string(kVersion),
                      .pid = getpid(),
                      .uptime_seconds = uptime.count(),
                      .state = is_draining_ ? "draining" : "running",
                      .config_file = file_.string(),
                      .last_reload = last_reload_,
                      .on_failure = to_label(config_.datapath.on_failure),
                      .observe = config_.policy->observe,
                      .queue_form = to_label(packet_filter_->queue_form()),
                      .workers = packet_filter_->report_workers(),
                      .mailers = std::move(proxy.mailers),
                      .session_limits = {.in_all = config_.smtp.max_sessions,
                                         .per_mailer = config_.smtp.max_sessions_per_mailer,
                                         .per_client = config_.smtp.max_sessions_per_client},
                      .recipients = proxy.recipients,
                      .problems = std::move(proxy.problems)};
  for (std::size_t i = 0; i < proxy.sessions.size(); ++i) {
    status.workers[i].sessions = proxy.sessions[i];
    status.sessions_open += proxy.sessions[i];
  }
  add_blocked_today(status);
  packet_filter_->add_problems(status.problems);
  if (!last_reload_.success) {
    status.problems.push_back("the last reload failed: " + last_reload_.message);
  }
  if (is_draining_) {
    status.problems.emplace_back("draining");
  }
  judge_certificates(status, std::chrono::system_clock::now());
  std::ranges::move(proxy.certificate_problems, std::back_inserter(status.problems));
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    if (mailer.starttls == rules::Starttls::pass) {
      status.warnings.push_back(fmt::format(
          "mailer {} has starttls = \"pass\": nothing is judged behind STARTTLS", mailer.name));
    }
  }
  return status;
}

BlockedTotals App::blocked_in_all() const {
  BlockedTotals totals;
  packet_filter_->add_blocked(totals);
  proxy_->add_blocked(totals);
  return totals;
}

void App::add_blocked_today(StatusReport& status) const {
  const BlockedTotals totals = blocked_in_all();
  const auto add = [](CountsByReason& counts, const auto& now, const auto& before) {
    for (std::size_t i = 0; i < rules::kReasonCount; ++i) {
      if (now[i] > before[i]) {
        counts.emplace_back(rules::kReasons[i].label, now[i] - before[i]);
      }
    }
  };
  add(status.blocked_today, totals.refused, blocked_before_today_.refused);
  add(status.observed_today, totals.observed, blocked_before_today_.observed);
}

}  // namespace postern::gateway
