#include "gateway/worker_thread.hpp"

#include <pthread.h>

#include <utility>

namespace postern::gateway {

void WorkerThread::start(const std::string& name,
                         std::function<void(smtp_proxy::Clock::time_point)> on_tick) {
  thread_ = std::thread([this, tick = std::move(on_tick)]() { loop_.run(tick); });
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

void WorkerThread::stop() {
  if (thread_.joinable()) {
    loop_.stop();
    thread_.join();
  }
}

bool WorkerThread::ping() {
  is_responsive_ = answered_;
  if (is_responsive_) {
    answered_ = false;
    loop_.post([this]() { answered_ = true; });
  }
  return is_responsive_;
}

}  // namespace postern::gateway
