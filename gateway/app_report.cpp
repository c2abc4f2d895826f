// What the daemon answers to the control socket: the state of things.
#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
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
namespace json = boost::json;

constexpr std::chrono::milliseconds kReachabilityPatience{1000};
constexpr std::uint16_t kSmtpPort = 25;
constexpr std::size_t kShownOffenders = 3;

void add(CountsByReason& counts, const std::array<std::uint64_t, rules::kReasonCount>& more) {
  for (std::size_t i = 0; i < more.size(); ++i) {
    if (more[i] > 0) {
      counts.emplace_back(rules::kReasons[i].label, more[i]);
    }
  }
}

// What cannot be asked is a problem to be shown, not a reason to show nothing.
ProxyReport read_report(const ProxyProcess::Answer& answer) {
  auto report =
      answer && answer->contains("report") ? report_of(answer->at("report")) : std::nullopt;
  if (report) {
    return std::move(*report);
  }
  ProxyReport none;
  none.problems.push_back(answer ? "the proxy's report cannot be read" : answer.error());
  return none;
}

void add_blocked_today(StatusReport& status, const BlockedTotals& totals) {
  add(status.blocked_today, totals.refused);
  add(status.observed_today, totals.observed);
}

}  // namespace

net::awaitable<std::string> App::counters() {
  Samples samples;
  packet_filter_->collect(mailer_ids_.names(), samples);
  samples[{"postern_log_lines_lost_total", {}}] = log_.lost();
  samples[{"postern_config_last_reload_success_timestamp_seconds", {}}] =
      static_cast<std::uint64_t>(last_reload_success_);
  const auto answer = co_await proxy_.ask(command("counters"));
  if (const auto of_proxy = answer && answer->contains("samples")
                                ? samples_of(answer->at("samples"))
                                : std::nullopt) {
    for (const auto& [key, value] : *of_proxy) {
      samples[key] += value;
    }
  }
  co_return to_json(samples);
}

std::string App::offenders(std::size_t limit) {
  return json::serialize(to_value(packet_filter_->report_offenders(limit)));
}

net::awaitable<std::vector<std::string>> App::blocked(Cursor& cursor) {
  BlockedPage page = packet_filter_->blocked_since(cursor.packets);
  cursor.packets = page.cursor;
  json::object request = command("blocked");
  request["cursor"] = json::value_from(cursor.sessions);
  const auto answer = co_await proxy_.ask(std::move(request));
  if (auto of_proxy =
          answer && answer->contains("page") ? page_of(answer->at("page")) : std::nullopt) {
    cursor.sessions = std::move(of_proxy->cursor);
    std::ranges::move(of_proxy->lines, std::back_inserter(page.lines));
  }
  std::ranges::stable_sort(page.lines, {}, &BlockedLine::unix_seconds);
  std::vector<std::string> lines;
  lines.reserve(page.lines.size());
  for (BlockedLine& line : page.lines) {
    lines.push_back(std::move(line.json));
  }
  co_return lines;
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
  for (std::size_t i = 0; i < std::min(status.mailers.size(), policy->mailers().size()); ++i) {
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
  const ProxyProcess::Answer answer = co_await proxy_.ask(command("report"));
  StatusReport status = report(read_report(answer));
  co_await ask_mailers(status);
  co_return to_json(status);
}

StatusReport App::report(ProxyReport proxy) const {
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
  StatusReport status{.version = std::string(kVersion),
                      .pid = getpid(),
                      .proxy_pid = proxy_.pid(),
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
                      .offenders = packet_filter_->report_offenders(kShownOffenders),
                      .source_concentration = proxy.source_concentration,
                      .problems = std::move(proxy.problems)};
  for (std::size_t i = 0; i < std::min(proxy.sessions.size(), status.workers.size()); ++i) {
    status.workers[i].sessions = proxy.sessions[i];
    status.sessions_open += proxy.sessions[i];
  }
  add_blocked_today(status, proxy.blocked_today);
  add_blocked_today(status, packet_filter_->blocked_today());
  packet_filter_->add_problems(status.problems);
  packet_filter_->add_warnings(status.warnings);
  if (!last_reload_.success) {
    status.problems.push_back("the last reload failed: " + last_reload_.message);
  }
  if (is_draining_) {
    status.problems.emplace_back("draining");
  }
  if (std::string problem = log_.problem(); !problem.empty()) {
    status.problems.push_back(std::move(problem));
  }
  judge_certificates(status, std::chrono::system_clock::now());
  std::ranges::move(proxy.certificate_problems, std::back_inserter(status.problems));
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    if (mailer.starttls == rules::Starttls::pass) {
      status.warnings.push_back(fmt::format(
          "mailer {} has starttls = \"pass\": nothing is judged behind STARTTLS", mailer.name));
    }
  }
  if (status.source_concentration) {
    status.warnings.push_back(to_warning(*status.source_concentration));
  }
  return status;
}

}  // namespace postern::gateway
