// A thread that does nothing but run an event loop, and shows that it lives.
// Threads:  one owner, but for the loop, which says so itself.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "gateway/log.hpp"
#include "smtp_proxy/event_loop.hpp"

namespace postern::gateway {

class WorkerThread {
 public:
  WorkerThread() = default;
  ~WorkerThread() { stop(); }
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  // `name`: at most 15 characters (pthread_setname_np(3)).
  void start(
      const std::string& name,
      std::function<void(smtp_proxy::Clock::time_point)> on_tick = [](auto) {});
  void stop();

  // Asks the event loop for a sign of life. False: the one before is still owed. The log hears where that changes.
  bool ping(Log& log);
  // What the last ping() said. Not whether an answer is owed: just after a ping one always is.
  [[nodiscard]] bool is_responsive() const { return is_responsive_; }

  [[nodiscard]] smtp_proxy::EventLoop& loop() { return loop_; }

 private:
  std::string name_;
  smtp_proxy::EventLoop loop_;
  std::atomic<bool> answered_ = true;
  bool is_responsive_ = true;
  std::thread thread_;
};

}  // namespace postern::gateway
