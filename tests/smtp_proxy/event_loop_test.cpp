// A worker's epoll, on a pair of sockets.
#include "smtp_proxy/event_loop.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>

namespace postern::smtp_proxy {
namespace {

class EventLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> pair{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()), 0);
    ours = FileDescriptor(pair[0]);
    theirs = FileDescriptor(pair[1]);
  }
  void take_news() { loop.step(Clock::now() + std::chrono::milliseconds{50}); }

  EventLoop loop;
  FileDescriptor ours;
  FileDescriptor theirs;
};

TEST_F(EventLoopTest, TellsOfWhatThePeerSent) {
  Watch watch(loop);
  watch.start(ours.get(), Watch::kStream);
  ASSERT_EQ(::write(theirs.get(), "x", 1), 1);
  take_news();
  EXPECT_TRUE(watch.has_unread());
}

// What a child of another thread does between fork and exec.
TEST_F(EventLoopTest, TellsNothingAfterStopThoughTheSocketIsHeldElsewhere) {
  Watch watch(loop);
  watch.start(ours.get(), Watch::kStream);
  const FileDescriptor held(::dup(ours.get()));
  watch.stop();
  ours = FileDescriptor();
  ASSERT_EQ(::write(theirs.get(), "x", 1), 1);
  take_news();
  EXPECT_FALSE(watch.has_unread());
}

net::awaitable<void> work_long(EventLoop& loop, int& done) {
  for (int i = 0; i < 10; ++i) {
    co_await loop.long_work_turn();
    ++done;
  }
}

TEST(LongWork, IsDoneOnceInATurn) {
  EventLoop loop;
  int done = 0;
  for (int i = 0; i < 3; ++i) {
    net::co_spawn(loop.context(), work_long(loop, done), net::detached);
  }
  loop.step(Clock::now());  // all of them come to wait
  for (int turn = 1; turn < 30; ++turn) {
    loop.step(Clock::now() + std::chrono::hours(1));  // not waiting: there is work left
    EXPECT_EQ(done, turn);
  }
}

TEST(LongWork, GoesWithTheLoop) {
  int done = 0;
  {
    EventLoop loop;
    net::co_spawn(loop.context(), work_long(loop, done), net::detached);
    loop.step(Clock::now());
  }
  EXPECT_EQ(done, 0);
}

}  // namespace
}  // namespace postern::smtp_proxy
