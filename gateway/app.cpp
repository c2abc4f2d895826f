#include "gateway/app.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
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
      watch_(context_) {}

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
  proxy_.emplace(config_, log_);
  packet_filter_.emplace(config_, proxy_->barred_sources(), log_);
  packet_filter_->start(config_);
  proxy_->start();
  start_new_day();
  note_reload(true, "configuration loaded at start");
  net::co_spawn(context_, [this]() { return obey_signals(); }, net::detached);
  net::co_spawn(context_, [this]() { return keep_watch(); }, net::detached);
}

void App::announce_start() {
  for (const Diagnostic& warning : config_.warnings) {
    log_.line(LogLevel::warning, warning.to_string());
  }
  if (!packet_filter_->ipv6_missing().empty()) {
    log_.line(LogLevel::warning, "IPv6 is not guarded",
              {{"cause", packet_filter_->ipv6_missing()}});
  }
  const bool observes = config_.policy->observe;
  log_.line(observes ? LogLevel::warning : LogLevel::info,
            observes ? "posternd observes port 25, nothing is refused" : "posternd guards port 25",
            {{"version", std::string(kVersion)},
             {"mailers", std::to_string(config_.policy->mailers().size())},
             {"workers", std::to_string(config_.workers)},
             {"queue_form", to_label(packet_filter_->queue_form())},
             {"on_failure", to_label(config_.datapath.on_failure)}});
  sd_notifyf(0, "READY=1\nSTATUS=%s port 25 for %zu mailers",
             observes ? "nothing is refused: only observing" : "guarding",
             config_.policy->mailers().size());
}

void App::stop() {
  proxy_->stop();
  packet_filter_->stop();
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
  proxy_->drain([this]() { net::post(context_, [this]() { context_.stop(); }); });
}

// A watchdog that only shows that the main thread lives would be a lie: every worker has to answer.
net::awaitable<void> App::keep_watch() {
  while (true) {
    watch_.expires_after(kWatchInterval);
    const auto [error] = co_await watch_.async_wait(use_tuple);
    if (error) {
      co_return;
    }
    const bool proxy_answered = proxy_->ping();
    if (packet_filter_->ping() && proxy_answered) {
      sd_notify(0, "WATCHDOG=1");
    }
    start_new_day();
    proxy_->look_after_certificates();
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
  if (const auto updated = packet_filter_->update_kernel(*loaded->policy); !updated) {
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
  packet_filter_->use(config_);
  proxy_->use(config_);
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
