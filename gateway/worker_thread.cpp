#include "gateway/worker_thread.hpp"

#include <pthread.h>

#include <utility>

namespace postern::gateway {

void WorkerThread::start(const std::string& name,
                         std::function<void(smtp_proxy::Clock::time_point)> on_tick) {
  name_ = name;
  thread_ = std::thread([this, tick = std::move(on_tick)]() { loop_.run(tick); });
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

void WorkerThread::stop() {
  if (thread_.joinable()) {
    loop_.stop();
    thread_.join();
  }
}

bool WorkerThread::ping(Log& log) {
  const bool was_responsive = std::exchange(is_responsive_, answered_.load());
  if (is_responsive_ != was_responsive) {
    log.line(is_responsive_ ? LogLevel::info : LogLevel::error,
             is_responsive_ ? "a thread answers again" : "a thread does not answer",
             {{"thread", name_}});
  }
  if (is_responsive_) {
    answered_ = false;
    loop_.post([this]() { answered_ = true; });
  }
  return is_responsive_;
}

}  // namespace postern::gateway
