#include "smtp_proxy/transparent.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace postern::smtp_proxy {
namespace {

// Linux UAPI; netinet/in.h of glibc does not name them on every release.
constexpr int kIpv6Transparent = 75;
constexpr int kIpBindAddressNoPort = 24;

constexpr int kListenBacklog = 4096;

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

std::unexpected<std::error_code> last_error() {
  return std::unexpected(std::error_code(errno, std::system_category()));
}

bool set_option(int socket, int level, int option, int value = 1) {
  return setsockopt(socket, level, option, &value, sizeof value) == 0;
}

bool set_transparent(int socket, bool is_v4) {
  return is_v4 ? set_option(socket, IPPROTO_IP, IP_TRANSPARENT)
               : set_option(socket, IPPROTO_IPV6, kIpv6Transparent);
}

socklen_t to_socket_address(const rules::Endpoint& endpoint, SocketAddress& out) {
  std::memset(&out, 0, sizeof out);
  const auto bytes = endpoint.address.bytes();
  if (endpoint.address.is_v4()) {
    out.v4.sin_family = AF_INET;
    out.v4.sin_port = htons(endpoint.port);
    std::memcpy(&out.v4.sin_addr, bytes.data(), bytes.size());
    return sizeof out.v4;
  }
  out.v6.sin6_family = AF_INET6;
  out.v6.sin6_port = htons(endpoint.port);
  std::memcpy(&out.v6.sin6_addr, bytes.data(), bytes.size());
  return sizeof out.v6;
}

rules::Endpoint to_endpoint(const SocketAddress& address) {
  if (address.any.sa_family == AF_INET) {
    rules::IpAddress::V4Bytes bytes{};
    std::memcpy(bytes.data(), &address.v4.sin_addr, bytes.size());
    return {.address = rules::IpAddress(bytes), .port = ntohs(address.v4.sin_port)};
  }
  rules::IpAddress::V6Bytes bytes{};
  std::memcpy(bytes.data(), &address.v6.sin6_addr, bytes.size());
  return {.address = rules::IpAddress(bytes), .port = ntohs(address.v6.sin6_port)};
}

int stream_socket(bool is_v4) {
  return socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                IPPROTO_TCP);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

std::expected<FileDescriptor, std::error_code> listen_transparently(Family family,
                                                                    std::uint16_t port) {
  const bool is_v4 = family == Family::v4;
  FileDescriptor listener(stream_socket(is_v4));
  const int fd = listener.get();
  SocketAddress address;
  const auto loopback = rules::IpAddress::parse(is_v4 ? "127.0.0.1" : "::1");
  const socklen_t length = to_socket_address({.address = *loopback, .port = port}, address);
  if (fd < 0 || !set_transparent(fd, is_v4) || !set_option(fd, SOL_SOCKET, SO_REUSEADDR) ||
      !set_option(fd, SOL_SOCKET, SO_REUSEPORT) || !set_option(fd, IPPROTO_TCP, TCP_NODELAY) ||
      bind(fd, &address.any, length) != 0 || listen(fd, kListenBacklog) != 0) {
    return last_error();
  }
  return listener;
}

std::expected<Accepted, std::error_code> accept_transparently(int listener) {
  SocketAddress client;
  socklen_t length = sizeof client;
  FileDescriptor socket(accept4(listener, &client.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.get() < 0) {
    return last_error();
  }
  SocketAddress server;
  length = sizeof server;
  if (getsockname(socket.get(), &server.any, &length) != 0) {
    return last_error();
  }
  return Accepted{.socket = std::move(socket),
                  .ends = {.client = to_endpoint(client), .server = to_endpoint(server)}};
}

std::expected<FileDescriptor, std::error_code> connect_as_client(const rules::Ends& ends) {
  const bool is_v4 = ends.server.address.is_v4();
  FileDescriptor upstream(stream_socket(is_v4));
  const int fd = upstream.get();
  SocketAddress source;
  const socklen_t source_length =
      to_socket_address({.address = ends.client.address, .port = 0}, source);
  // The port is chosen at connect(), when the whole quadruple is known: else a client could have no
  // more connections to all mailers together than there are ports.
  if (fd < 0 || !set_transparent(fd, is_v4) || !set_option(fd, IPPROTO_IP, kIpBindAddressNoPort) ||
      !set_option(fd, IPPROTO_TCP, TCP_NODELAY) || bind(fd, &source.any, source_length) != 0) {
    return last_error();
  }
  SocketAddress destination;
  const socklen_t destination_length = to_socket_address(ends.server, destination);
  if (connect(fd, &destination.any, destination_length) != 0 && errno != EINPROGRESS) {
    return last_error();
  }
  return upstream;
}

std::error_code connect_error(int socket) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
    error = errno;
  }
  return {error, std::system_category()};
}

}  // namespace postern::smtp_proxy
