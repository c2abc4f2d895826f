// A worker's event loop: one epoll for its sockets, one io_context for its coroutines, one thread for both.
// Source:   epoll(7), "Level-triggered and edge-triggered" and its questions 9 and 10.
// Threads:  post() and stop() from any; everything else on the thread in run().
// Lifetime: a Watch and a Signal must not outlive their EventLoop; a coroutine that waits is kept by what it waits for.
// Errors:   the constructor and Watch::start() throw std::system_error.
// Why not:  Asio's own reactor arms epoll anew at every wait for readiness: a third of all system calls of a message. And
//           its async_read_some needs a buffer for as long as the peer is silent. bench/README.md has what each costs.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <span>
#include <utility>

#include "smtp_proxy/transparent.hpp"

namespace postern::smtp_proxy {

namespace net = boost::asio;

using Clock = std::chrono::steady_clock;

class Watch;

// For co_spawn of a worker's loops. A worker without one of them would look alive and serve nobody. Thrown out of the
// thread, what failed ends the daemon, and the kernel goes on dropping what is not judged.
inline void rethrow(const std::exception_ptr& failure) {
  if (failure) {
    std::rethrow_exception(failure);
  }
}

using Waiter = std::move_only_function<void()>;

// Suspends the coroutine; `keep` is given what lets it go on.
template <typename Keep>
net::awaitable<void> suspend(Keep keep) {
  return net::async_initiate<const net::use_awaitable_t<>, void()>(
      [keep](auto handler) { keep(Waiter(std::move(handler))); }, net::use_awaitable);
}

class EventLoop {
 public:
  EventLoop();

  // Until stop(). `on_tick` is called every kTick: one clock for all that has to end some time.
  static constexpr std::chrono::milliseconds kTick{250};
  void run(const std::function<void(Clock::time_point)>& on_tick);
  // One turn: what is ready now, and at most one batch of news, for which it waits until `latest`.
  void step(Clock::time_point latest);
  void post(std::move_only_function<void()> work);
  void stop();

  // For work that takes long, such as a private key's: of those who wait here one goes on in each
  // turn, so that everything else that is ready comes in between.
  net::awaitable<void> long_work_turn() {
    return suspend([this](Waiter waiter) { long_work_.push_back(std::move(waiter)); });
  }

  // For co_spawn. Nothing that needs a reactor (a socket, a timer) may be made with it.
  [[nodiscard]] net::io_context& context() { return context_; }

 private:
  friend class Watch;
  // True: there is more to run.
  bool run_coroutines();
  void tell(std::span<epoll_event> events);
  void forget(const Watch& watch);
  void wake();

  FileDescriptor epoll_;
  FileDescriptor wake_up_;  // eventfd
  std::atomic<bool> is_stopped_ = false;
  std::span<epoll_event> being_told_;  // what is left of the batch that tell() works on
  net::io_context context_{1};
  net::executor_work_guard<net::io_context::executor_type> work_ = net::make_work_guard(context_);
  std::deque<Waiter> long_work_;
};

// "Look again", said by one coroutine to another.
class Signal {
 public:
  explicit Signal(EventLoop& loop) : loop_(loop) {}
  net::awaitable<void> wait() {
    return suspend([this](Waiter waiter) { waiter_ = std::move(waiter); });
  }
  // The one who waits, if any, goes on at its next turn.
  void notify();

 private:
  EventLoop& loop_;
  Waiter waiter_;
};

// The news of one socket. The owner tells what it learned by reading and writing; the rest comes from the kernel.
class Watch {
 public:
  // A stream is told of once for each change, so its owner must know when it has read all. A listener likewise. A queue
  // is told of for as long as it holds something.
  static constexpr std::uint32_t kStream = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  static constexpr std::uint32_t kListener = EPOLLIN | EPOLLET;
  static constexpr std::uint32_t kQueue = EPOLLIN;

  explicit Watch(EventLoop& loop) : loop_(loop) {}
  ~Watch() { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // `socket` must be non-blocking, and closed only after stop().
  void start(int socket, std::uint32_t events);
  void stop();

  // They return when there is news, or after wake().
  net::awaitable<void> readable() { return wait(readable_); }
  net::awaitable<void> writable() { return wait(writable_); }
  // A read that took everything there was; the next news is to be waited for.
  void was_read_empty() { readable_.is_ready = has_ended_; }
  void was_written_full() { writable_.is_ready = false; }
  // Something came that was not read yet.
  [[nodiscard]] bool has_unread() const { return readable_.is_ready; }
  // The peer of a stream closed or reset: there will be no further news, a read never waits again.
  [[nodiscard]] bool has_ended() const { return has_ended_; }
  // Lets those who wait now go on, at their next turn.
  void wake();

 private:
  friend class EventLoop;
  struct Side {
    Waiter waiter;
    bool is_ready = false;
  };

  net::awaitable<void> wait(Side& side) {
    return suspend([this, &side](Waiter waiter) { enqueue(side, std::move(waiter)); });
  }
  void enqueue(Side& side, Waiter waiter);
  void tell(std::uint32_t events);

  EventLoop& loop_;
  Side readable_;
  Side writable_;
  int socket_ = -1;
  std::uint32_t events_ = 0;  // 0: not started
  bool has_ended_ = false;
};

}  // namespace postern::smtp_proxy
