#include "smtp_proxy/event_loop.hpp"

#include <boost/asio/post.hpp>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace postern::smtp_proxy {
namespace {

// News taken at once, and coroutines run between two looks for news.
constexpr std::size_t kBatch = 128;

FileDescriptor checked(int fd, const char* call) {
  if (fd < 0) {
    throw std::system_error(errno, std::system_category(), call);
  }
  return FileDescriptor(fd);
}

void add(int epoll, int fd, std::uint32_t events, void* whose) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = whose;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::system_error(errno, std::system_category(), "epoll_ctl");
  }
}

int milliseconds_until(Clock::time_point then) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(then - Clock::now());
  return static_cast<int>(std::max<std::chrono::milliseconds::rep>(left.count(), 0));
}

}  // namespace

EventLoop::EventLoop()
    : epoll_(checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_up_(checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
  // Edge-triggered and never read: every write is news. No watch belongs to it.
  add(epoll_.get(), wake_up_.get(), EPOLLIN | EPOLLET, nullptr);
}

void EventLoop::run(const std::function<void(Clock::time_point)>& on_tick) {
  Clock::time_point next_tick = Clock::now() + kTick;
  while (!is_stopped_) {
    step(next_tick);
    if (const Clock::time_point now = Clock::now(); now >= next_tick) {
      on_tick(now);
      next_tick = now + kTick;
    }
  }
}

void EventLoop::step(Clock::time_point latest) {
  std::array<epoll_event, kBatch> events;
  if (!long_work_.empty()) {
    net::post(context_, std::move(long_work_.front()));
    long_work_.pop_front();
  }
  const bool has_more = run_coroutines() || !long_work_.empty();
  const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(kBatch),
                               has_more ? 0 : milliseconds_until(latest));
  if (count > 0) {
    tell(std::span(events).first(static_cast<std::size_t>(count)));
  }
}

// Not all that is ready: a session whose socket never runs dry would keep every other from its news.
bool EventLoop::run_coroutines() {
  for (std::size_t i = 0; i < kBatch; ++i) {
    if (context_.poll_one() == 0) {
      return false;
    }
  }
  return true;
}

void EventLoop::post(std::move_only_function<void()> work) {
  net::post(context_, std::move(work));
  wake();
}

void EventLoop::stop() {
  is_stopped_ = true;
  wake();
}

void EventLoop::wake() {
  eventfd_write(wake_up_.get(), 1);
}

void EventLoop::tell(std::span<epoll_event> events) {
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
void EventLoop::forget(const Watch& watch) {
  for (epoll_event& event : being_told_) {
    if (event.data.ptr == &watch) {
      event.data.ptr = nullptr;
    }
  }
}

void Signal::notify() {
  if (waiter_) {
    net::post(loop_.context(), std::exchange(waiter_, nullptr));
  }
}

void Watch::start(int socket, std::uint32_t events) {
  add(loop_.epoll_.get(), socket, events, this);
  socket_ = socket;
  events_ = events;
}

// Not left to close(): a child that another thread forked holds the socket too until its exec (a reload runs nft), and
// meanwhile epoll goes on telling whoever is registered.
void Watch::stop() {
  if (std::exchange(events_, 0) != 0) {
    epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, socket_, nullptr);
    loop_.forget(*this);
  }
}

void Watch::enqueue(Side& side, Waiter waiter) {
  if (side.is_ready) {
    net::post(loop_.context(), std::move(waiter));
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
  has_ended_ = has_ended_ || (events_ == kStream && (events & kEnd) != 0);
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
    if (side->waiter) {
      net::post(loop_.context(), std::exchange(side->waiter, nullptr));
    }
  }
}

}  // namespace postern::smtp_proxy
