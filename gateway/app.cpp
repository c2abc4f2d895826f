#include "gateway/app.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "gateway/host.hpp"
#include "gateway/reachability.hpp"
#include "gateway/version.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds kWatchInterval{1};
constexpr std::chrono::seconds kCertificateInterval{5};
constexpr std::chrono::milliseconds kReachabilityPatience{1000};
constexpr std::uint16_t kSmtpPort = 25;

// A session takes two descriptors. The kernel's hard limit is the only one that should count.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

std::int64_t unix_now() {
  return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
}

const char* to_text(nfq::OnFailure on_failure) {
  return on_failure == nfq::OnFailure::closed ? "closed" : "open";
}

std::string json_result(bool ok, std::string_view message) {
  return json::serialize(json::value{{"ok", ok}, {"message", message}});
}

}  // namespace

App::App(std::filesystem::path file, Config config, MailerIds mailer_ids)
    : file_(std::move(file)),
      config_(std::move(config)),
      mailer_ids_(std::move(mailer_ids)),
      log_(config_.log),
      signals_(context_, SIGHUP, SIGTERM, SIGINT),
      watch_(context_),
      policy_route_(config_.datapath) {
  certificates_.use(config_.tls_sources, config_.tls, std::chrono::system_clock::now());
}

App::~App() = default;

void App::run() {
  start();
  announce_start();
  context_.run();
  stop();
}

// --- start and stop --------------------------------------------------------------------------------------------

void App::start() {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  control_.emplace(context_, config_.control_socket, *this);
  for (unsigned i = 0; i < config_.workers; ++i) {
    workers_.push_back(std::make_unique<Worker>(static_cast<std::uint16_t>(i), config_, ledger_,
                                                authentications_, log_));
  }
  policy_route_.install();
  firewall_.emplace(config_.datapath);
  firewall_->install(*config_.policy);
  for (const auto& worker : workers_) {
    worker->start();
  }
  start_new_day();
  note_reload(true, "configuration loaded at start");
  net::co_spawn(context_, [this]() { return obey_signals(); }, net::detached);
  net::co_spawn(context_, [this]() { return keep_watch(); }, net::detached);
}

void App::announce_start() {
  for (const Diagnostic& warning : config_.warnings) {
    log_.line(LogLevel::warning, warning.to_string());
  }
  if (!policy_route_.ipv6_missing().empty()) {
    log_.line(LogLevel::warning, "IPv6 is not guarded", {{"cause", policy_route_.ipv6_missing()}});
  }
  const bool observes = config_.policy->observe;
  log_.line(observes ? LogLevel::warning : LogLevel::info,
            observes ? "posternd observes port 25, nothing is refused" : "posternd guards port 25",
            {{"version", std::string(kVersion)},
             {"mailers", std::to_string(config_.policy->mailers().size())},
             {"workers", std::to_string(workers_.size())},
             {"queue_form", to_label(firewall_->form())},
             {"on_failure", to_text(config_.datapath.on_failure)}});
  sd_notifyf(0, "READY=1\nSTATUS=%s port 25 for %zu mailers",
             observes ? "nothing is refused: only observing" : "guarding",
             config_.policy->mailers().size());
}

void App::stop() {
  for (const auto& worker : workers_) {
    worker->stop();
  }
  // Workers first, kernel second: a packet that arrives in between waits for nobody and is dropped, not let through.
  if (const auto removed = firewall_->remove(); !removed) {
    log_.line(LogLevel::error, "the rules could not be removed", {{"cause", removed.error()}});
  }
  if (const auto removed = policy_route_.remove(); !removed) {
    log_.line(LogLevel::error, "the routes could not be removed", {{"cause", removed.error()}});
  }
  log_.line(LogLevel::info, "posternd has stopped");
}

net::awaitable<void> App::obey_signals() {
  while (true) {
    const auto [error, signal] = co_await signals_.async_wait(use_tuple);
    if (error) {
      co_return;
    }
    if (signal == SIGHUP) {
      (void)reload();
    } else if (is_draining_) {
      log_.line(LogLevel::warning,
                "told to stop a second time: not waiting for the sessions that are left");
      context_.stop();
    } else {
      begin_drain();
    }
  }
}

void App::begin_drain() {
  if (std::exchange(is_draining_, true)) {
    return;
  }
  log_.line(LogLevel::info, "draining: sessions may end, new ones are answered 421");
  sd_notify(0, "STOPPING=1\nSTATUS=draining");
  for (const auto& worker : workers_) {
    worker->drain([this]() { net::post(context_, [this]() { on_worker_drained(); }); });
  }
}

void App::on_worker_drained() {
  if (++workers_drained_ == workers_.size()) {
    context_.stop();
  }
}

// A watchdog that only shows that the main thread lives would be a lie: every worker has to answer.
net::awaitable<void> App::keep_watch() {
  while (true) {
    watch_.expires_after(kWatchInterval);
    const auto [error] = co_await watch_.async_wait(use_tuple);
    if (error) {
      co_return;
    }
    bool all_answered = true;
    for (const auto& worker : workers_) {
      all_answered = worker->ping() && all_answered;
    }
    if (all_answered) {
      sd_notify(0, "WATCHDOG=1");
    }
    start_new_day();
    look_after_certificates();
  }
}

void App::look_after_certificates() try {
  const auto now = std::chrono::steady_clock::now();
  if (now - certificates_looked_at_ < kCertificateInterval) {
    return;
  }
  certificates_looked_at_ = now;
  const CertificateWatch::Found found = certificates_.look(std::chrono::system_clock::now());
  if (found.contexts != nullptr) {
    config_.tls = found.contexts;
    for (const auto& worker : workers_) {
      worker->use(config_);
    }
  }
  for (const CertificateWatch::Renewal& renewal : found.renewals) {
    log_renewal(renewal);
  }
} catch (const std::exception& error) {
  // No memory, say. The next look tries again.
  log_.line(LogLevel::error, "certificates could not be looked after", {{"cause", error.what()}});
}

void App::log_renewal(const CertificateWatch::Renewal& renewal) {
  for (const std::string& problem : renewal.problems) {
    log_.line(renewal.was_taken ? LogLevel::warning : LogLevel::error,
              renewal.was_taken ? "of the new certificate" : "the old certificate stays in use",
              {{"mailer", renewal.mailer_name}, {"cause", problem}});
  }
  if (!renewal.was_taken) {
    return;
  }
  for (const CertificateReport& certificate : report_certificates(renewal.mailer)) {
    log_.line(LogLevel::info, "a new certificate is in use",
              {{"mailer", renewal.mailer_name},
               {"certificate", certificate.file},
               {"names", fmt::format("{}", fmt::join(certificate.names, " "))},
               {"days_left", std::to_string(certificate.days_left)}});
  }
}

// --- reload ----------------------------------------------------------------------------------------------------

// Whatever is thrown here must not end the loop that obeys signals.
std::string App::reload() try {
  if (is_draining_) {
    return json::serialize(json::value{
        {"ok", false}, {"diagnostics", {"posternd is draining, it takes no new configuration"}}});
  }
  sd_notify(0, "RELOADING=1");
  auto loaded = load_config(file_, mailer_ids_, Certificates::load);
  if (!loaded) {
    return refuse_reload(loaded.error());
  }
  if (const Diagnostics problems = check_reload(*loaded); !problems.empty()) {
    return refuse_reload(problems);
  }
  if (const auto updated = firewall_->update(*loaded->policy); !updated) {
    return refuse_reload(
        {{.file = file_.string(), .message = "nft refused the new sets: " + updated.error()}});
  }
  apply(std::move(*loaded));
  return json_result(true, last_reload_.message);
} catch (const std::exception& error) {
  return refuse_reload({{.file = file_.string(), .message = error.what()}});
}

// What is in the kernel under a number, or in a thread, cannot be moved under live sessions.
Diagnostics App::check_reload(const Config& config) const {
  Diagnostics problems = check_against_host(config, local_addresses());
  const auto needs_restart = [&](bool is_same, const char* key) {
    if (!is_same) {
      problems.push_back(
          {.file = file_.string(),
           .key = key,
           .message = "cannot be changed by a reload; restart posternd to change it"});
    }
  };
  const nfq::Settings& now = config_.datapath;
  const nfq::Settings& then = config.datapath;
  needs_restart(now.queue_base == then.queue_base, "gateway.queue_base");
  needs_restart(now.proxy_ports == then.proxy_ports, "gateway.proxy_ports");
  needs_restart(now.mark_mask == then.mark_mask, "gateway.mark_mask");
  needs_restart(now.routing_table == then.routing_table, "gateway.routing_table");
  needs_restart(now.on_failure == then.on_failure, "gateway.on_failure");
  needs_restart(config_.workers == config.workers, "gateway.workers");
  needs_restart(config_.control_socket == config.control_socket, "gateway.control_socket");
  return problems;
}

void App::apply(Config config) {
  config_ = std::move(config);
  log_.use(config_.log);
  certificates_.use(config_.tls_sources, config_.tls, std::chrono::system_clock::now());
  for (const auto& worker : workers_) {
    worker->use(config_);
  }
  for (const Diagnostic& warning : config_.warnings) {
    log_.line(LogLevel::warning, warning.to_string());
  }
  const std::size_t mailers = config_.policy->mailers().size();
  note_reload(true,
              fmt::format("{} in force{}",
                          mailers == 1 ? "1 mailer is" : fmt::format("{} mailers are", mailers),
                          config_.policy->observe ? ", nothing is refused" : ""));
  log_.line(LogLevel::info, "reloaded: " + last_reload_.message);
}

std::string App::refuse_reload(const Diagnostics& diagnostics) {
  json::array lines;
  for (const Diagnostic& diagnostic : diagnostics) {
    lines.emplace_back(diagnostic.to_string());
    log_.line(LogLevel::error, diagnostic.to_string());
  }
  note_reload(false, "the new configuration was refused, the old one stays in force");
  log_.line(LogLevel::error, last_reload_.message);
  return json::serialize(json::value{{"ok", false}, {"diagnostics", lines}});
}

void App::note_reload(bool success, std::string message) {
  last_reload_ = {.success = success, .unix_seconds = unix_now(), .message = std::move(message)};
  sd_notifyf(0, "READY=1\nSTATUS=%s", last_reload_.message.c_str());
}

// --- what the control socket asks ------------------------------------------------------------------------------

std::string App::drain() {
  begin_drain();
  return json_result(true, "sessions may end, new ones are answered 421");
}

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
                      .on_failure = to_text(config_.datapath.on_failure),
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

void App::start_new_day() {
  const std::time_t now = unix_now();
  std::tm local{};
  localtime_r(&now, &local);
  if (std::exchange(day_, local.tm_yday) != local.tm_yday) {
    blocked_before_today_ = blocked_in_all();
  }
}

}  // namespace postern::gateway
