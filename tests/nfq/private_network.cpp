#include "tests/nfq/private_network.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <system_error>

#include "nfq/command.hpp"

namespace postern::test {
namespace {

int must(int result, const char* what) {
  if (result < 0) {
    throw std::system_error(errno, std::generic_category(), what);
  }
  return result;
}

int current_namespace() {
  return must(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "open ns/net");
}

int new_namespace() {
  must(::unshare(CLONE_NEWNET), "unshare");
  return current_namespace();
}

constexpr const char* kOutside = R"(
ip link set lo up
ip address add 198.51.100.2/24 dev eth0
ip address add 2001:db8:1::2/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 198.51.100.1
ip -6 route add default via 2001:db8:1::1
)";

constexpr const char* kInside = R"(
ip link set lo up
ip address add 203.0.113.7/32 dev lan1
ip address add 2001:db8:2::7/128 dev lan1 nodad
ip link set lan1 up
ip route add 203.0.113.1 dev lan1
ip -6 route add 2001:db8:2::1 dev lan1
ip route add default via 203.0.113.1
ip -6 route add default via 2001:db8:2::1
)";

constexpr const char* kRouter = R"(
ip link set lo up
ip address add 198.51.100.1/24 dev wan0
ip address add 2001:db8:1::1/64 dev wan0 nodad
ip link set wan0 up
ip address add 203.0.113.1/24 dev lan0
ip address add 2001:db8:2::1/64 dev lan0 nodad
ip link set lan0 up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
)";

}  // namespace

std::string run_or_throw(const std::string& shell_command) {
  auto output = nfq::run_command({"sh", "-e"}, shell_command);
  if (!output) {
    throw std::runtime_error(output.error());
  }
  return *output;
}

PrivateNetwork::PrivateNetwork() {
  before_ = current_namespace();
  outside_ = new_namespace();
  inside_ = new_namespace();
  router_ = new_namespace();
  const std::string ours = "/proc/" + std::to_string(::getpid()) + "/fd/";
  // Until its own addresses are out of doubt the router would ask for no neighbour.
  run_or_throw(
      "sysctl -qw net.ipv6.conf.default.accept_dad=0\n"
      "ip link add wan0 type veth peer name eth0\n"
      "ip link add lan0 type veth peer name lan1\n"
      "ip link set eth0 netns " +
      ours + std::to_string(outside_) + "\nip link set lan1 netns " + ours +
      std::to_string(inside_));
  outside([&] {
    run_or_throw(kOutside);
    outside_sockets_ = open_raw_sockets();
  });
  in(inside_, [&] {
    run_or_throw(kInside);
    inside_sockets_ = open_raw_sockets();
  });
  run_or_throw(kRouter);
}

PrivateNetwork::~PrivateNetwork() {
  ::setns(before_, CLONE_NEWNET);
  for (const int fd : {before_, router_, outside_, inside_, outside_sockets_.v4,
                       outside_sockets_.v6, inside_sockets_.v4, inside_sockets_.v6}) {
    ::close(fd);
  }
}

PrivateNetwork::RawSockets PrivateNetwork::open_raw_sockets() {
  return {.v4 = must(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), "raw socket"),
          .v6 = must(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), "raw socket")};
}

void PrivateNetwork::in(int name_space, const std::function<void()>& step) const {
  must(::setns(name_space, CLONE_NEWNET), "setns");
  try {
    step();
  } catch (...) {
    ::setns(router_, CLONE_NEWNET);
    throw;
  }
  must(::setns(router_, CLONE_NEWNET), "setns");
}

void PrivateNetwork::send(const RawSockets& sockets, const Octets& packet) {
  const bool is_v4 = packet[0] >> 4U == 4;
  const std::span<const std::uint8_t> octets(packet);
  rules::IpAddress to;
  if (is_v4) {
    rules::IpAddress::V4Bytes bytes{};
    std::ranges::copy(octets.subspan(16, 4), bytes.begin());
    to = rules::IpAddress(bytes);
  } else {
    rules::IpAddress::V6Bytes bytes{};
    std::ranges::copy(octets.subspan(24, 16), bytes.begin());
    to = rules::IpAddress(bytes);
  }
  const auto address = socket_address(to.to_string(), 0);
  must(static_cast<int>(::sendto(is_v4 ? sockets.v4 : sockets.v6, packet.data(), packet.size(), 0,
                                 address.get(), address.length)),
       "sendto");
}

const sockaddr* SocketAddress::get() const {
  return reinterpret_cast<const sockaddr*>(&storage);
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  return length == other.length && std::memcmp(&storage, &other.storage, length) == 0;
}

void PrintTo(const SocketAddress& address, std::ostream* out) {
  std::array<char, NI_MAXHOST> host{"no address"};
  std::array<char, NI_MAXSERV> port{};
  ::getnameinfo(address.get(), address.length, host.data(), host.size(), port.data(), port.size(),
                NI_NUMERICHOST | NI_NUMERICSERV);
  *out << host.data() << ' ' << port.data();
}

SocketAddress socket_address(const std::string& address, std::uint16_t port) {
  const auto parsed = rules::IpAddress::parse(address).value();
  SocketAddress result;
  if (parsed.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, parsed.bytes().data(), 4);
    result.length = sizeof(sockaddr_in);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, parsed.bytes().data(), 16);
    result.length = sizeof(sockaddr_in6);
  }
  return result;
}

Attempt::Attempt(const std::string& to, std::uint16_t port, const std::string& from) {
  const auto address = socket_address(to, port);
  fd_ = must(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
             "socket");
  if (!from.empty()) {
    const auto own = socket_address(from, 0);
    must(::bind(fd_, own.get(), own.length), "bind");
  }
  if (::connect(fd_, address.get(), address.length) != 0 && errno != EINPROGRESS) {
    ::close(fd_);
    throw std::system_error(errno, std::generic_category(), "connect");
  }
}

Attempt::~Attempt() {
  ::close(fd_);
}

int Attempt::outcome(int milliseconds) const {
  pollfd event{.fd = fd_, .events = POLLOUT, .revents = 0};
  if (::poll(&event, 1, milliseconds) == 0) {
    return ETIMEDOUT;
  }
  int error_number = 0;
  socklen_t length = sizeof(error_number);
  ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error_number, &length);
  return error_number;
}

}  // namespace postern::test
