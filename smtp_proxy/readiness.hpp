// Tells coroutines when a socket can be read or written. One Readiness a worker: an edge-triggered epoll of its own,
// itself watched by the worker's io_context, so one system call brings the news of many sockets.
// Source:   epoll(7), "Level-triggered and edge-triggered" and its questions 9 and 10.
// Threads:  the io_context's.
// Lifetime: a Watch must not outlive its Readiness. A coroutine that waits is kept by the Watch.
// Why not:  async_wait of a socket arms epoll anew at every wait: a third of all system calls of a message. And
//           async_read_some needs a buffer for as long as the peer is silent.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/epoll.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <span>

namespace postern::smtp_proxy {

namespace net = boost::asio;

class Watch;

// For co_spawn of a worker's loops. A worker without one of them would look alive and serve nobody. Thrown out of the
// thread, what failed ends the daemon, and the kernel goes on dropping what is not judged.
inline void rethrow(const std::exception_ptr& failure) {
  if (failure) {
    std::rethrow_exception(failure);
  }
}

class Readiness {
 public:
  // Throws std::system_error.
  explicit Readiness(net::io_context& context);
  void start();

 private:
  friend class Watch;
  net::awaitable<void> dispatch();
  void tell(std::span<epoll_event> events);
  void forget(const Watch& watch);

  net::io_context& context_;
  net::posix::stream_descriptor epoll_;
  std::span<epoll_event> being_told_;  // what is left of the batch that tell() works on
};

// The news of one socket. The owner tells what it learned by reading and writing; the rest comes from the kernel.
class Watch {
 public:
  explicit Watch(Readiness& readiness) : readiness_(readiness) {}
  ~Watch() { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // `socket` must be non-blocking, and closed only after stop().
  void start(int socket);
  void stop();

  // They return when there is news, or after wake().
  auto readable() { return wait(readable_); }
  auto writable() { return wait(writable_); }
  // A read that took everything there was; the next news is to be waited for.
  void was_read_empty() { readable_.is_ready = has_ended_; }
  void was_written_full() { writable_.is_ready = false; }
  [[nodiscard]] bool has_ended() const { return has_ended_; }
  // Lets those who wait go on, at their next turn.
  void wake();

 private:
  friend class Readiness;
  using Waiter = std::move_only_function<void()>;
  struct Side {
    Waiter waiter;
    bool is_ready = false;
  };

  net::awaitable<void> wait(Side& side) {
    return net::async_initiate<const net::use_awaitable_t<>, void()>(
        [this, &side](auto handler) { enqueue(side, std::move(handler)); }, net::use_awaitable);
  }
  void enqueue(Side& side, Waiter waiter);
  void tell(std::uint32_t events);

  Readiness& readiness_;
  Side readable_;
  Side writable_;
  bool is_started_ = false;
  bool has_ended_ =
      false;  // the peer closed or reset: there will be no further news, a read never waits again
};

}  // namespace postern::smtp_proxy
