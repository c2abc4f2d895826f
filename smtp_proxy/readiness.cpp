#include "smtp_proxy/readiness.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace postern::smtp_proxy {
namespace {

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);

// News taken at once. The sessions of one batch are served before the listeners and the queue get their turn.
constexpr std::size_t kBatch = 128;

int make_epoll() {
  const int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) {
    throw std::system_error(errno, std::system_category(), "epoll_create1");
  }
  return fd;
}

}  // namespace

Readiness::Readiness(net::io_context& context) : context_(context), epoll_(context, make_epoll()) {}

void Readiness::start() {
  net::co_spawn(context_, [this]() { return dispatch(); }, rethrow);
}

net::awaitable<void> Readiness::dispatch() {
  std::array<epoll_event, kBatch> events;
  while (true) {
    const auto [error] =
        co_await epoll_.async_wait(net::posix::stream_descriptor::wait_read, use_tuple);
    if (error) {
      co_return;
    }
    const int count = epoll_wait(epoll_.native_handle(), events.data(), kBatch, 0);
    if (count > 0) {
      tell(std::span(events).first(static_cast<std::size_t>(count)));
    }
  }
}

void Readiness::tell(std::span<epoll_event> events) {
  being_told_ = events;
  while (!being_told_.empty()) {
    const epoll_event event = being_told_.front();
    being_told_ = being_told_.subspan(1);
    if (event.data.ptr != nullptr) {
      static_cast<Watch*>(event.data.ptr)->tell(event.events);
    }
  }
}

// What one session does may end another watch of the same batch.
void Readiness::forget(const Watch& watch) {
  for (epoll_event& event : being_told_) {
    if (event.data.ptr == &watch) {
      event.data.ptr = nullptr;
    }
  }
}

void Watch::start(int socket) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = this;
  if (epoll_ctl(readiness_.epoll_.native_handle(), EPOLL_CTL_ADD, socket, &event) != 0) {
    throw std::system_error(errno, std::system_category(), "epoll_ctl");
  }
  is_started_ = true;
}

// Closing the socket takes it out of the epoll; there is no other descriptor of it.
void Watch::stop() {
  if (std::exchange(is_started_, false)) {
    readiness_.forget(*this);
  }
}

void Watch::enqueue(Side& side, Waiter waiter) {
  if (side.is_ready) {
    net::post(readiness_.context_, std::move(waiter));
  } else if (side.waiter) {
    // Both directions of a session write to a client that does not read. A list would cost every wait what these need.
    side.waiter = [first = std::move(side.waiter), second = std::move(waiter)]() mutable {
      first();
      second();
    };
  } else {
    side.waiter = std::move(waiter);
  }
}

void Watch::tell(std::uint32_t events) {
  constexpr std::uint32_t kEnd = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  has_ended_ = has_ended_ || (events & kEnd) != 0;
  // Both are noted before anyone is resumed: the first may destroy this.
  readable_.is_ready = readable_.is_ready || (events & (EPOLLIN | kEnd)) != 0;
  writable_.is_ready = writable_.is_ready || (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
  Waiter reader = readable_.is_ready ? std::exchange(readable_.waiter, nullptr) : nullptr;
  Waiter writer = writable_.is_ready ? std::exchange(writable_.waiter, nullptr) : nullptr;
  if (reader) {
    reader();
  }
  if (writer) {
    writer();
  }
}

void Watch::wake() {
  for (Side* side : {&readable_, &writable_}) {
    side->is_ready = true;
    if (side->waiter) {
      net::post(readiness_.context_, std::exchange(side->waiter, nullptr));
    }
  }
}

}  // namespace postern::smtp_proxy
