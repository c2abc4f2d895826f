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

#include <algorithm>
#include <csignal>
#include <iterator>
#include <utility>

#include "gateway/host.hpp"
#include "gateway/version.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds kWatchInterval{1};
// A million domains, keys on a slow disk; less than the unit's WatchdogSec=.
constexpr std::chrono::seconds kPatienceToLoad{20};
// Each takes a second and ProxyProcess::ask's patience: before the unit's WatchdogSec= is over, so
// that the log says why.
constexpr int kMostMissedPings = 4;

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

std::vector<std::string> to_lines(const Diagnostics& diagnostics) {
  std::vector<std::string> lines;
  for (const Diagnostic& diagnostic : diagnostics) {
    lines.push_back(diagnostic.to_string());
  }
  return lines;
}

std::string json_result(bool ok, std::string_view message) {
  return json::serialize(json::value{{"ok", ok}, {"message", message}});
}

}  // namespace

App::App(std::filesystem::path file, Config config, MailerIds mailer_ids, ForkedProxy proxy)
    : file_(std::move(file)),
      config_(std::move(config)),
      mailer_ids_(std::move(mailer_ids)),
      log_(config_.log),
      signals_(context_, SIGHUP, SIGTERM, SIGINT),
      watch_(context_),
      proxy_(context_, std::move(proxy),
             {.on_barred = [this](const Barred& barred) { on_barred(barred); },
              .on_drained = [this]() { on_drained(); },
              .on_ended = [this](const std::string& end) { give_up("it has ended: " + end); }}) {}

App::~App() = default;

bool App::run() {
  // Once there are rules only an orderly stop takes them away.
  try {
    start();
    announce_start();
    context_.run();
  } catch (...) {
    leave_rules();
    throw;
  }
  if (has_given_up_) {
    proxy_.kill();
    leave_rules();
    return false;
  }
  stop();
  return true;
}

void App::leave_rules() {
  if (packet_filter_) {
    packet_filter_->leave_rules();
  }
}

// --- start and stop --------------------------------------------------------------------------------------------

void App::start() {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  control_.emplace(context_, config_.control_socket, *this);
  await_listeners();
  packet_filter_.emplace(config_, log_);
  packet_filter_->start(config_, context_);
  note_reload(true, "configuration loaded at start");
  net::co_spawn(context_, [this]() { return obey_signals(); }, smtp_proxy::rethrow);
  net::co_spawn(context_, [this]() { return keep_watch(); }, smtp_proxy::rethrow);
  control_->start();
}

// The kernel must not be told to send what nobody listens for.
void App::await_listeners() {
  std::optional<ProxyProcess::Answer> answer;
  net::co_spawn(context_, proxy_.ask(command("listen")),
                [&](const std::exception_ptr& failure, ProxyProcess::Answer given) {
                  answer = failure ? std::unexpected("it cannot be asked") : std::move(given);
                });
  while (!answer && !has_given_up_) {
    context_.run_one();
  }
  if (!answer) {
    throw std::runtime_error("the proxy does not start");
  }
  if (!*answer) {
    throw std::runtime_error("the proxy does not start: " + answer->error());
  }
  if (const json::value* error = (*answer)->if_contains("error")) {
    throw std::runtime_error(std::string(error->as_string()));
  }
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
  proxy_.stop();
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
      reload_by_signal();
    } else if (is_draining_) {
      log_.line(LogLevel::warning,
                "told to stop a second time: not waiting for the sessions that are left");
      context_.stop();
    } else {
      begin_drain();
    }
  }
}

// Not awaited: a stop must be heard meanwhile. A file that was changed while it was read is read again.
void App::reload_by_signal() {
  if (std::exchange(reload_again_, is_reloading_)) {
    return;
  }
  if (!is_reloading_) {
    net::co_spawn(context_, reload(), [](const std::exception_ptr& failure, const std::string&) {
      smtp_proxy::rethrow(failure);
    });
  }
}

void App::begin_drain() {
  if (std::exchange(is_draining_, true)) {
    return;
  }
  log_.line(LogLevel::info, "draining: sessions may end, new ones are answered 421");
  sd_notify(0, "STOPPING=1\nSTATUS=draining");
  net::co_spawn(context_, proxy_.ask(command("drain")), net::detached);
}

void App::on_barred(const Barred& barred) {
  if (packet_filter_) {
    packet_filter_->bar(barred);
  }
}

// The proxy's word alone does not take rules away.
void App::on_drained() {
  if (is_draining_) {
    context_.stop();
  } else {
    give_up("it ends its sessions without being told to");
  }
}

void App::give_up(const std::string& cause) {
  log_.line(LogLevel::error,
            "the proxy has failed, so the daemon ends; its rules stay, and keep port 25",
            {{"cause", cause}});
  has_given_up_ = true;
  context_.stop();
}

// A watchdog that only shows that the main thread lives would be a lie: every thread of both
// processes has to answer.
net::awaitable<void> App::keep_watch() {
  while (true) {
    watch_.expires_after(kWatchInterval);
    const auto [error] = co_await watch_.async_wait(use_tuple);
    if (error) {
      co_return;
    }
    const bool packets_answered = packet_filter_->ping();
    packet_filter_->look_around();
    const auto pong = co_await proxy_.ask(command("ping"));
    note_proxy(pong.has_value());
    if (packets_answered && pong && pong->contains("answered") && pong->at("answered") == true) {
      sd_notify(0, "WATCHDOG=1");
    }
    missed_pings_ = pong || is_reloading_ ? 0 : missed_pings_ + 1;
    if (missed_pings_ == kMostMissedPings) {
      give_up("it does not answer");
    }
  }
}

void App::note_proxy(bool answers) {
  if (std::exchange(proxy_answers_, answers) != answers) {
    log_.line(answers ? LogLevel::info : LogLevel::error,
              answers ? "the proxy answers again" : "the proxy does not answer");
  }
}

// --- reload ----------------------------------------------------------------------------------------------------

net::awaitable<std::string> App::reload() {
  if (is_draining_ || is_reloading_) {
    co_return json::serialize(
        json::value{{"ok", false},
                    {"diagnostics",
                     {is_draining_ ? "posternd is draining, it takes no new configuration"
                                   : "posternd is reloading just now; try again"}}});
  }
  is_reloading_ = true;
  sd_notify(0, "RELOADING=1");
  std::string result;
  // Whatever is thrown here must not end the loop that obeys signals.
  try {
    result = co_await try_reload();
  } catch (const std::exception& error) {
    result =
        refuse_reload({Diagnostic{.file = file_.string(), .message = error.what()}.to_string()});
  }
  is_reloading_ = false;
  if (std::exchange(reload_again_, false)) {
    reload_by_signal();
  }
  co_return result;
}

// Both processes read the same text. The proxy knows about certificates, too, so it tells of every
// mistake at once.
net::awaitable<std::string> App::try_reload() {
  const auto text = read_config(file_);
  if (!text) {
    co_return refuse_reload(to_lines(text.error()));
  }
  auto loaded = parse_config(*text, file_, mailer_ids_, Certificates::leave);
  std::vector<std::string> mistakes = co_await prepare_proxy(*text);
  if (mistakes.empty()) {
    mistakes = loaded ? update_kernel(*loaded) : to_lines(loaded.error());
  }
  if (!mistakes.empty()) {
    co_return refuse_reload(mistakes);
  }
  std::ranges::move(warn_against_host(*loaded, local_addresses()),
                    std::back_inserter(loaded->warnings));
  co_await apply(std::move(*loaded));
  co_return json_result(true, last_reload_.message);
}

std::vector<std::string> App::update_kernel(const Config& config) {
  if (const Diagnostics problems = check_reload(config); !problems.empty()) {
    return to_lines(problems);
  }
  if (const auto updated = packet_filter_->update_kernel(*config.policy); !updated) {
    return to_lines(
        {{.file = file_.string(), .message = "nft refused the new sets: " + updated.error()}});
  }
  return {};
}

net::awaitable<std::vector<std::string>> App::prepare_proxy(const std::string& text) {
  json::object request = command("prepare");
  request["text"] = text;
  const auto answer = co_await proxy_.ask(std::move(request), kPatienceToLoad);
  if (!answer) {
    co_return std::vector<std::string>{answer.error()};
  }
  for (const char* key : {"diagnostics", "error"}) {
    if (const json::value* mistakes = answer->if_contains(key)) {
      co_return mistakes->is_string() ? std::vector{std::string(mistakes->get_string())}
                                      : json::value_to<std::vector<std::string>>(*mistakes);
    }
  }
  co_return std::vector<std::string>{};
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

net::awaitable<void> App::apply(Config config) {
  // In this order: an address that is a mailer's no more is refused before the proxy forgets it.
  config_ = std::move(config);
  log_.use(config_.log);
  packet_filter_->use(config_);
  const auto committed = co_await proxy_.ask(command("commit"), kPatienceToLoad);
  if (!committed || committed->contains("error")) {
    give_up("it did not take the configuration that is in force");
    co_return;
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

std::string App::refuse_reload(const std::vector<std::string>& diagnostics) {
  for (const std::string& diagnostic : diagnostics) {
    log_.line(LogLevel::error, diagnostic);
  }
  note_reload(false, "the new configuration was refused, the old one stays in force");
  log_.line(LogLevel::error, last_reload_.message);
  return json::serialize(
      json::value{{"ok", false}, {"diagnostics", json::value_from(diagnostics)}});
}

void App::note_reload(bool success, std::string message) {
  last_reload_ = {.success = success, .unix_seconds = unix_now(), .message = std::move(message)};
  if (success) {
    last_reload_success_ = last_reload_.unix_seconds;
  }
  sd_notifyf(0, "READY=1\nSTATUS=%s", last_reload_.message.c_str());
}

std::string App::drain() {
  begin_drain();
  return json_result(true, "sessions may end, new ones are answered 421");
}

}  // namespace postern::gateway
