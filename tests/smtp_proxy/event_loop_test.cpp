// A worker's epoll, on a pair of sockets.
#include "smtp_proxy/event_loop.hpp"

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

}  // namespace
}  // namespace postern::smtp_proxy
