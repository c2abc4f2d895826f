// A netfilter queue overflows: in the kernel, or in the socket that the daemon reads it from.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "tests/netns/failure_matrix.hpp"

namespace postern::testing {
namespace {

// The daemon's own sockets of its queues, in our hands: no load that a test could make would fill them.
class QueueSockets {
 public:
  explicit QueueSockets(pid_t process) {
    const std::string proc = "/proc/" + std::to_string(process);
    // "queue_num peer_portid ..."
    std::ifstream rows(proc + "/net/netfilter/nfnetlink_queue");
    std::map<std::uint32_t, std::uint16_t> queues;
    std::uint16_t queue = 0;
    std::uint32_t owner = 0;
    for (std::string rest; rows >> queue >> owner && std::getline(rows, rest);) {
      queues[owner] = queue;
    }
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
    for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd")) {
      const int number = std::stoi(entry.path().filename());
      const int copy = static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0));
      if (const auto found = queues.find(netlink_port(copy)); found != queues.end()) {
        sockets_[found->second] = copy;
      } else {
        ::close(copy);
      }
    }
    ::close(pidfd);
  }
  ~QueueSockets() {
    for (const auto& [queue, socket] : sockets_) {
      ::close(socket);
    }
  }
  QueueSockets(const QueueSockets&) = delete;
  QueueSockets& operator=(const QueueSockets&) = delete;

  [[nodiscard]] std::size_t count() const { return sockets_.size(); }

  void set_receive_buffer(int octets) const {
    for (const auto& [queue, socket] : sockets_) {
      EXPECT_EQ(::setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets), 0);
    }
  }
  void set_length(std::uint32_t packets) const {
    for (const auto& [queue, socket] : sockets_) {
      const LengthMessage message(queue, packets);
      EXPECT_EQ(::send(socket, &message, sizeof message, 0), static_cast<ssize_t>(sizeof message));
    }
  }

 private:
  struct LengthMessage {
    LengthMessage(std::uint16_t queue, std::uint32_t length)
        : family{.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue)},
          packets(htonl(length)) {}
    nlmsghdr header{.nlmsg_len = sizeof(LengthMessage),
                    .nlmsg_type = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_CONFIG,
                    .nlmsg_flags = NLM_F_REQUEST,
                    .nlmsg_seq = 0,
                    .nlmsg_pid = 0};
    nfgenmsg family;
    nlattr attribute{.nla_len = sizeof(nlattr) + sizeof(std::uint32_t),
                     .nla_type = NFQA_CFG_QUEUE_MAXLEN};
    std::uint32_t packets;
  };
  // 0: it is no netlink socket.
  static std::uint32_t netlink_port(int socket) {
    sockaddr_nl address{};
    socklen_t size = sizeof address;
    const bool is_netlink =
        ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        address.nl_family == AF_NETLINK;
    return is_netlink ? address.nl_pid : 0;
  }

  std::map<std::uint16_t, int> sockets_;  // by queue
};

class QueueFailure : public FailureMatrix {
 protected:
  [[nodiscard]] std::int64_t dropped(const char* where) const {
    return posternd->counter("postern_queue_packets_dropped_total", {{"where", where}});
  }
};

TEST_F(QueueFailure, FullDropsFirstPacketsAndCountsThem) {
  begin({.gateway = "workers = 2\n"});
  const pid_t process = pid_of(Half::packet_filter);
  const QueueSockets sockets(process);
  ASSERT_EQ(sockets.count(), 2U);
  sockets.set_length(1);
  {
    const StuckThreads stuck(process, "packets-");
    ASSERT_EQ(stuck.count(), 2U);
    EXPECT_TRUE(noticed("it is counted", [&] { return dropped("queue_full") > 0; }));
  }
  sockets.set_length(8192);
  EXPECT_TRUE(wait_until("the log says so", [&] {
    return log_says("connections were lost before they were judged");
  }));
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_F(QueueFailure, OverflowOfTheSocketDropsFirstPacketsAndCountsThem) {
  begin({.gateway = "workers = 2\n"});
  const pid_t process = pid_of(Half::packet_filter);
  const QueueSockets sockets(process);
  ASSERT_EQ(sockets.count(), 2U);
  sockets.set_receive_buffer(1);  // the kernel makes it the least it allows: two packets or so
  {
    const StuckThreads stuck(process, "packets-");
    EXPECT_TRUE(noticed("it is counted", [&] { return dropped("receiver_full") > 0; }));
  }
  sockets.set_receive_buffer(8 * 1024 * 1024);
  EXPECT_TRUE(wait_until("the log says so", [&] {
    return log_says("connections were lost before they were judged");
  }));
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

}  // namespace
}  // namespace postern::testing
