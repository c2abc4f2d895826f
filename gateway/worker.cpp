#include "gateway/worker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <fmt/format.h>
#include <pthread.h>

#include <utility>

namespace postern::gateway {
namespace {

namespace net = boost::asio;

smtp_proxy::SessionSettings session_settings(const Config& config) {
  return {.policy = config.policy,
          .smtp = std::make_shared<const smtp_proxy::Settings>(config.smtp),
          .tls = config.tls};
}

}  // namespace

Worker::Worker(std::uint16_t index, const Config& config, smtp_proxy::SessionLedger& ledger,
               smtp_proxy::AuthLedger& authentications, Log& log)
    : event_log_(log, config.policy),
      policy_(config.policy),
      source_filter_(authentications),
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
    event_log_.use(policy);
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
    queue_.drain(*policy_, source_filter_, *this);
    queue_packets_.set(queue_.statistics().packets);
    queue_overruns_.set(queue_.statistics().overruns);
  }
}

void Worker::on_event(const rules::Ends& ends, const rules::Event& event) {
  counters_.count(event);
  if (auto attempt = to_blocked_attempt(ends, event)) {
    event_log_.note(*attempt);
    blocked_.add(std::move(*attempt));
  } else {
    event_log_.note(ends, event);
  }
}

}  // namespace postern::gateway
