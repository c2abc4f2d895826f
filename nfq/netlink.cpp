#include "nfq/netlink.hpp"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace postern::nfq {
namespace {

constexpr std::size_t kReceiveOctets = 32'768;  // what the kernel fills at most while it dumps

constexpr int kBatchRoomOctets = 262'144;

}  // namespace

NetlinkSocket::NetlinkSocket(int bus)
    : socket_(mnl_socket_open2(bus, SOCK_CLOEXEC)), buffer_(kReceiveOctets) {
  if (socket_ == nullptr || mnl_socket_bind(socket_, 0, MNL_SOCKET_AUTOPID) < 0) {
    const int error_number = errno;
    close();
    throw std::system_error(error_number, std::generic_category(), "no netlink socket");
  }
  // The kernel then sorts out what a dump is not asked for: a router may hold a million routes.
  // Refused by kernels before 4.20, which list everything.
  int strict = 1;
  (void)mnl_socket_setsockopt(socket_, NETLINK_GET_STRICT_CHK, &strict, sizeof(strict));
}

NetlinkSocket::~NetlinkSocket() {
  close();
}

void NetlinkSocket::close() {
  if (socket_ != nullptr) {
    mnl_socket_close(socket_);
  }
}

int NetlinkSocket::ask(NetlinkMessage message, const OnAnswer& on_answer) {
  nlmsghdr* request = header_of(message);
  request->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_, request, request->nlmsg_len) < 0) {
    return errno;
  }
  return read_answers(on_answer);
}

int NetlinkSocket::send_batch(const NetlinkMessage& messages) {
  const int size = static_cast<int>(messages.size()) * 2 + kBatchRoomOctets;
  const int fd = mnl_socket_get_fd(socket_);
  (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
  if (mnl_socket_sendto(socket_, messages.data(), messages.size()) < 0) {
    return errno;
  }
  // The kernel has answered when the system call returns.
  int first_error = 0;
  for (;;) {
    const ssize_t count = ::recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (count < 0) {
      const bool is_all = errno == EAGAIN || errno == EWOULDBLOCK;
      return first_error != 0 || is_all ? first_error : errno;
    }
    const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer_.data());
    int left = static_cast<int>(count);
    for (; mnl_nlmsg_ok(answer, left); answer = mnl_nlmsg_next(answer, &left)) {
      if (answer->nlmsg_type == NLMSG_ERROR && first_error == 0) {
        first_error = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
      }
    }
  }
}

int NetlinkSocket::read_answers(const OnAnswer& on_answer) {
  const auto call = [](const nlmsghdr* answer, void* data) {
    if (const auto& function = *static_cast<const OnAnswer*>(data)) {
      function(answer);
    }
    return MNL_CB_OK;
  };
  for (;;) {
    const ssize_t count = mnl_socket_recvfrom(socket_, buffer_.data(), buffer_.size());
    if (count < 0) {
      return errno;
    }
    const int result =
        mnl_cb_run(buffer_.data(), static_cast<std::size_t>(count), sequence_,
                   mnl_socket_get_portid(socket_), call, const_cast<OnAnswer*>(&on_answer));
    if (result <= MNL_CB_STOP) {
      return result == MNL_CB_STOP ? 0 : errno;
    }
  }
}

}  // namespace postern::nfq
