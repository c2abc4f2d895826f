#include "nfq/kernel_watch.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include "nfq/policy_route.hpp"

namespace postern::nfq {
namespace {

constexpr std::size_t kBufferOctets = 65'536;
constexpr int kReceiveBufferOctets = 2 * 1024 * 1024;
constexpr int kMaxDatagramsPerRead = 256;
constexpr std::array<int, 7> kRouteGroups{
    RTNLGRP_LINK,       RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR};

int must(int result, const char* what) {
  if (result < 0) {
    throw std::system_error(errno, std::generic_category(), what);
  }
  return result;
}

int open_socket(int bus) {
  const int fd = must(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, bus),
                      "no netlink socket to watch the kernel");
  // Without CAP_NET_ADMIN the kernel's limit stands, and more is lost.
  const int size = kReceiveBufferOctets;
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
  return fd;
}

void bind_and_join(int fd, std::span<const int> groups) {
  const sockaddr_nl self{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  must(::bind(fd, reinterpret_cast<const sockaddr*>(&self), sizeof(self)),
       "cannot bind a netlink socket");
  for (const int group : groups) {
    must(::setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)),
         "the kernel does not tell of changes");
  }
}

// A router with a full table of the Internet has thousands of route changes a second. The kernel
// keeps those back that can be none of ours.
void attach_filter(int fd, std::uint32_t routing_table) {
  constexpr std::uint32_t kTypeAt = offsetof(nlmsghdr, nlmsg_type);
  constexpr std::uint32_t kTableAt = NLMSG_HDRLEN + offsetof(rtmsg, rtm_table);
  constexpr std::uint32_t kProtocolAt = NLMSG_HDRLEN + offsetof(rtmsg, rtm_protocol);
  constexpr std::uint32_t kWhole = 0xffffffff;
  const std::uint32_t table = routing_table < 256 ? routing_table : std::uint32_t{RT_TABLE_COMPAT};
  // A filter reads numbers as big endian; a message's type is in the host's order.
  std::array program{sock_filter BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kTypeAt),
                     sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 2, 0),
                     sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 1, 0),
                     sock_filter BPF_STMT(BPF_RET | BPF_K, kWhole),
                     sock_filter BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kTableAt),
                     sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, table, 2, 0),
                     sock_filter BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kProtocolAt),
                     sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kRouteProtocol, 0, 1),
                     sock_filter BPF_STMT(BPF_RET | BPF_K, kWhole),
                     sock_filter BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  must(::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)),
       "the kernel takes no filter for route changes");
}

void watch_for_input(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  must(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "cannot watch a netlink socket");
}

}  // namespace

KernelWatch::KernelWatch(const Settings& settings, std::vector<std::string> dynamic_sets)
    : reader_(settings, std::move(dynamic_sets)), buffer_(kBufferOctets / sizeof(std::uint64_t)) {
  try {
    open(settings);
  } catch (...) {
    close();
    throw;
  }
}

KernelWatch::~KernelWatch() {
  close();
}

void KernelWatch::open(const Settings& settings) {
  netfilter_ = open_socket(NETLINK_NETFILTER);
  bind_and_join(netfilter_, std::array<int, 1>{NFNLGRP_NFTABLES});
  route_ = open_socket(NETLINK_ROUTE);
  attach_filter(route_, settings.routing_table);
  bind_and_join(route_, kRouteGroups);
  both_ = must(::epoll_create1(EPOLL_CLOEXEC), "no epoll");
  watch_for_input(both_, netfilter_);
  watch_for_input(both_, route_);
}

void KernelWatch::close() {
  for (const int fd : {both_, route_, netfilter_}) {
    if (fd >= 0) {
      ::close(fd);
    }
  }
}

KernelChanges KernelWatch::read() {
  KernelChanges changes;
  read_socket(netfilter_, &KernelWatch::read_netfilter, changes);
  read_socket(route_, &KernelWatch::read_route, changes);
  return changes;
}

bool KernelWatch::read_netfilter(std::span<const std::uint8_t> octets, KernelChanges& changes) {
  return reader_.read_netfilter(octets, changes);
}

bool KernelWatch::read_route(std::span<const std::uint8_t> octets, KernelChanges& changes) {
  return reader_.read_route(octets, changes);
}

void KernelWatch::read_socket(int fd, Reader reader, KernelChanges& changes) {
  for (int i = 0; i < kMaxDatagramsPerRead; ++i) {
    // MSG_TRUNC: the real length, also of what did not fit.
    const ssize_t count = ::recv(fd, buffer_.data(), kBufferOctets, MSG_TRUNC);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return;
    }
    const auto length = static_cast<std::size_t>(count);
    if (count <= 0 || length > kBufferOctets ||
        !(this->*reader)({reinterpret_cast<const std::uint8_t*>(buffer_.data()), length},
                         changes)) {
      changes.everything();
    }
  }
}

}  // namespace postern::nfq
