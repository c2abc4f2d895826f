#include "gateway/worker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <fmt/format.h>
#include <pthread.h>

#include <utility>
#include <variant>

namespace postern::gateway {
namespace {

namespace net = boost::asio;

smtp_proxy::SessionSettings session_settings(const Config& config) {
  return {.policy = config.policy,
          .smtp = std::make_shared<const smtp_proxy::Settings>(config.smtp),
          .tls = config.tls};
}

std::string to_text(const rules::Endpoint& endpoint) {
  return endpoint.address.is_v4()
             ? fmt::format("{}:{}", endpoint.address.to_string(), endpoint.port)
             : fmt::format("[{}]:{}", endpoint.address.to_string(), endpoint.port);
}

}  // namespace

Worker::Worker(std::uint16_t index, const Config& config, smtp_proxy::SessionLedger& ledger,
               smtp_proxy::AuthLedger& authentications, Log& log)
    : log_(log),
      policy_(config.policy),
      queue_(static_cast<std::uint16_t>(config.datapath.queue_base + index),
             nfq::MarkField(config.datapath.mark_mask)),
      queue_watch_(loop_),
      proxy_(loop_, config.datapath.proxy_ports, session_settings(config), ledger, authentications,
             *this) {}

Worker::~Worker() {
  stop();
}

void Worker::start() {
  queue_watch_.start(queue_.fd(), smtp_proxy::Watch::kQueue);
  net::co_spawn(loop_.context(), [this]() { return judge_packets(); }, smtp_proxy::rethrow);
  proxy_.start();
  thread_ = std::thread([this]() {
    loop_.run([this](smtp_proxy::Clock::time_point now) { proxy_.check_time(now); });
  });
  pthread_setname_np(thread_.native_handle(), fmt::format("worker-{}", queue_.number()).c_str());
}

void Worker::stop() {
  if (thread_.joinable()) {
    loop_.stop();
    thread_.join();
  }
}

void Worker::use(const Config& config) {
  loop_.post([this, policy = config.policy, settings = session_settings(config)]() mutable {
    policy_ = std::move(policy);
    proxy_.use(std::move(settings));
  });
}

void Worker::drain(std::function<void()> when_done) {
  loop_.post([this, done = std::move(when_done)]() mutable { proxy_.drain(std::move(done)); });
}

bool Worker::ping() {
  is_responsive_ = answered_;
  if (is_responsive_) {
    answered_ = false;
    loop_.post([this]() { answered_ = true; });
  }
  return is_responsive_;
}

net::awaitable<void> Worker::judge_packets() {
  while (true) {
    co_await queue_watch_.readable();
    queue_watch_.was_read_empty();  // what is left is told again
    queue_.drain(*policy_, *this);
    queue_packets_.set(queue_.statistics().packets);
    queue_overruns_.set(queue_.statistics().overruns);
  }
}

void Worker::on_event(const rules::Ends& ends, const rules::Event& event) {
  counters_.count(event);
  if (auto attempt = to_blocked_attempt(ends, event)) {
    log_blocked(*attempt);
    blocked_.add(std::move(*attempt));
  } else if (const auto* failed = std::get_if<rules::UpstreamFailed>(&event)) {
    log_upstream(ends, *failed);
  } else if (const auto* opaque = std::get_if<rules::SessionBecameOpaque>(&event)) {
    log_opaque(ends, *opaque);
  } else if (const auto* closed = std::get_if<rules::SessionClosed>(&event)) {
    log_closed(ends, *closed);
  }
}

bool Worker::may_log() {
  std::uint64_t suppressed = 0;
  if (!log_budget_.take(std::chrono::steady_clock::now(), suppressed)) {
    return false;
  }
  if (suppressed > 0) {
    log_.line(LogLevel::warning, "log lines were left out, the counters have them all",
              {{"count", std::to_string(suppressed)}});
  }
  return true;
}

void Worker::log_blocked(const BlockedAttempt& attempt) {
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

void Worker::log_upstream(const rules::Ends& ends, const rules::UpstreamFailed& failed) {
  if (may_log()) {
    log_.line(LogLevel::warning, "the mailer failed a session",
              {{"mailer", mailer_name(failed.mailer)},
               {"kind", to_label(failed.error)},
               {"client", to_text(ends.client)},
               {"server", to_text(ends.server)}});
  }
}

void Worker::log_opaque(const rules::Ends& ends, const rules::SessionBecameOpaque& opaque) {
  if (may_log()) {
    log_.line(LogLevel::warning, "a session is passed on unread from here on",
              {{"mailer", mailer_name(opaque.mailer)},
               {"zone", to_label(opaque.zone)},
               {"client", to_text(ends.client)},
               {"server", to_text(ends.server)}});
  }
}

void Worker::log_closed(const rules::Ends& ends, const rules::SessionClosed& closed) {
  if (log_.shows(LogLevel::debug)) {
    log_.line(LogLevel::debug, "session closed",
              {{"mailer", mailer_name(closed.mailer)},
               {"client", to_text(ends.client)},
               {"reason", std::string(rules::label(closed.reason))}});
  }
}

std::string Worker::mailer_name(rules::MailerId id) const {
  for (const rules::Mailer& mailer : policy_->mailers()) {
    if (mailer.id == id) {
      return mailer.name;
    }
  }
  return "-";  // taken out of the configuration while its last sessions live
}

}  // namespace postern::gateway
