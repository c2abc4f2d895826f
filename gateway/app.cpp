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
#include "gateway/version.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds kWatchInterval{1};
constexpr std::chrono::seconds kCertificateInterval{5};

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
             {"on_failure", to_label(config_.datapath.on_failure)}});
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

void App::start_new_day() {
  const std::time_t now = unix_now();
  std::tm local{};
  localtime_r(&now, &local);
  if (std::exchange(day_, local.tm_yday) != local.tm_yday) {
    blocked_before_today_ = blocked_in_all();
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

std::string App::drain() {
  begin_drain();
  return json_result(true, "sessions may end, new ones are answered 421");
}

}  // namespace postern::gateway
