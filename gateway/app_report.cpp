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
#include "nfq/queue.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;

constexpr std::chrono::milliseconds kReachabilityPatience{1000};
constexpr std::uint16_t kSmtpPort = 25;

}  // namespace

std::string App::counters() {
  Samples samples;
  for (const auto& worker : workers_) {
    worker->counters().collect(mailer_ids_.names(), samples);
    const std::string queue = std::to_string(worker->queue_number());
    const nfq::QueueDrops drops =
        nfq::queue_drops(worker->queue_number()).value_or(nfq::QueueDrops{});
    samples[{"postern_queue_packets_dropped_total", {{"queue", queue}, {"where", "queue_full"}}}] +=
        drops.queue_full;
    samples[{"postern_queue_packets_dropped_total",
             {{"queue", queue}, {"where", "receiver_full"}}}] += drops.receiver_full;
  }
  if (const auto kernel = nfq::kernel_counters()) {
    for (const nfq::KernelCounter& counter : *kernel) {
      samples[{"postern_kernel_packets_total", {{"counter", counter.name}}}] += counter.packets;
    }
  }
  add_certificate_expiry(samples);
  return to_json(samples);
}

void App::add_certificate_expiry(Samples& samples) const {
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    for (const CertificateReport& certificate : report_certificates(mailer.id)) {
      samples[{"postern_certificate_expiry_timestamp_seconds",
               {{"mailer", mailer.name}, {"certificate", certificate.file}}}] =
          static_cast<std::uint64_t>(certificate.not_after);
    }
  }
}

std::vector<std::string> App::blocked(Cursor& cursor) {
  cursor.resize(workers_.size(), 0);
  std::vector<BlockedAttempt> attempts;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    BlockedLog::Page page = workers_[i]->blocked().since(cursor[i]);
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
  // A table that somebody else flushed guards nothing, however well the rest is.
  if (const auto kernel = nfq::kernel_counters(); !kernel) {
    status.problems.push_back(
        "the nft table inet postern is not there, port 25 is not guarded; restart posternd: " +
        kernel.error());
  }
  co_return to_json(status);
}

StatusReport App::report() const {
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
  StatusReport status{.version = std::string(kVersion),
                      .pid = getpid(),
                      .uptime_seconds = uptime.count(),
                      .state = is_draining_ ? "draining" : "running",
                      .config_file = file_.string(),
                      .last_reload = last_reload_,
                      .on_failure = to_label(config_.datapath.on_failure),
                      .observe = config_.policy->observe,
                      .queue_form = to_label(firewall_->form()),
                      .workers = report_workers(),
                      .session_limits = {.in_all = config_.smtp.max_sessions,
                                         .per_mailer = config_.smtp.max_sessions_per_mailer,
                                         .per_client = config_.smtp.max_sessions_per_client},
                      .recipients = recipients()};
  add_blocked_today(status);
  for (const WorkerReport& worker : status.workers) {
    status.sessions_open += worker.sessions;
  }
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    status.mailers.push_back(report_mailer(mailer));
  }
  for (const auto& worker : workers_) {
    if (!worker->is_responsive()) {
      status.problems.push_back(
          fmt::format("the worker of queue {} does not answer", worker->queue_number()));
    }
  }
  if (!last_reload_.success) {
    status.problems.push_back("the last reload failed: " + last_reload_.message);
  }
  if (!policy_route_.ipv6_missing().empty()) {
    status.problems.push_back("IPv6 is not guarded: " + policy_route_.ipv6_missing());
  }
  if (is_draining_) {
    status.problems.emplace_back("draining");
  }
  add_tls_problems(status);
  return status;
}

void App::add_tls_problems(StatusReport& status) const {
  judge_certificates(status, std::chrono::system_clock::now());
  std::ranges::move(certificates_.problems(), std::back_inserter(status.problems));
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    if (mailer.starttls == rules::Starttls::pass) {
      status.warnings.push_back(fmt::format(
          "mailer {} has starttls = \"pass\": nothing is judged behind STARTTLS", mailer.name));
    }
  }
}

std::vector<CertificateReport> App::report_certificates(rules::MailerId mailer) const {
  std::vector<CertificateReport> reports;
  const auto found = config_.tls->find(mailer);
  if (found != config_.tls->end() && found->second.towards_clients != nullptr) {
    for (const auto& certificate : found->second.towards_clients->certificates()) {
      reports.push_back(describe(certificate, std::chrono::system_clock::now()));
    }
  }
  return reports;
}

std::vector<WorkerReport> App::report_workers() const {
  std::vector<WorkerReport> reports;
  for (const auto& worker : workers_) {
    const nfq::QueueDrops drops =
        nfq::queue_drops(worker->queue_number()).value_or(nfq::QueueDrops{});
    reports.push_back({.index = static_cast<std::uint16_t>(reports.size()),
                       .queue = worker->queue_number(),
                       .sessions = worker->counters().sessions_open(),
                       .packets = worker->queue_packets(),
                       .enobufs = worker->queue_overruns(),
                       .kernel_queue_dropped = drops.queue_full,
                       .kernel_user_dropped = drops.receiver_full});
  }
  return reports;
}

MailerReport App::report_mailer(const rules::Mailer& mailer) const {
  MailerReport report{.name = mailer.name,
                      .starttls = to_label(mailer.starttls),
                      .upstream_tls = to_label(mailer.upstream_tls),
                      .certificates = report_certificates(mailer.id)};
  for (const rules::IpAddress& address : mailer.addresses) {
    report.addresses.push_back(address.to_string());
  }
  for (const auto& worker : workers_) {
    report.sessions_open += worker->counters().sessions_open(mailer.id);
    if (report.last_upstream_error.empty()) {
      report.last_upstream_error = worker->counters().last_upstream_error(mailer.id);
    }
  }
  return report;
}

BlockedTotals App::blocked_in_all() const {
  BlockedTotals totals;
  for (const auto& worker : workers_) {
    worker->counters().add_blocked_by_reason(totals);
  }
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

RecipientMatrix App::recipients() const {
  RecipientMatrix matrix{};
  for (const auto& worker : workers_) {
    worker->counters().add_recipients(matrix);
  }
  return matrix;
}

}  // namespace postern::gateway
