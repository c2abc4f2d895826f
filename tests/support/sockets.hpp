// Two ends of a stream, non-blocking, within the process.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "smtp_proxy/transparent.hpp"

namespace postern::testing {

class SocketPair {
 public:
  // `buffer_octets`: as small as the kernel lets it be, so that a side that does not read is soon felt; 0: its own size.
  explicit SocketPair(int buffer_octets = 0) {
    std::array<int, 2> pair{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()), 0);
    for (const int fd : pair) {
      if (buffer_octets > 0) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_octets, sizeof buffer_octets);
      }
    }
    ours_ = smtp_proxy::FileDescriptor(pair[0]);
    theirs_ = smtp_proxy::FileDescriptor(pair[1]);
  }

  [[nodiscard]] int ours() const { return ours_.get(); }
  [[nodiscard]] int theirs() const { return theirs_.get(); }
  smtp_proxy::FileDescriptor take_ours() { return std::move(ours_); }
  void close_ours() { ours_ = {}; }
  void close_theirs() { theirs_ = {}; }

 private:
  smtp_proxy::FileDescriptor ours_;
  smtp_proxy::FileDescriptor theirs_;
};

}  // namespace postern::testing
