#include "tests/support/connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

namespace postern::testing {
namespace {

using Clock = std::chrono::steady_clock;

// A socket stays in the namespace it was made in; a thread of its own goes there and back.
int socket_in(const std::string& network_namespace, int family) {
  int result = -1;
  std::thread([&] {
    const int network = ::open(("/run/netns/" + network_namespace).c_str(), O_RDONLY | O_CLOEXEC);
    if (network >= 0 && ::setns(network, CLONE_NEWNET) == 0) {
      result = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    ::close(network);
  }).join();
  if (result < 0) {
    throw std::system_error(errno, std::generic_category(), "socket in " + network_namespace);
  }
  return result;
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  SocketAddress(const std::string& text, std::uint16_t port) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
      storage.ss_family = AF_INET;
      v4->sin_port = htons(port);
      length = sizeof *v4;
    } else if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
      storage.ss_family = AF_INET6;
      v6->sin6_port = htons(port);
      length = sizeof *v6;
    } else {
      throw std::invalid_argument(text + " is no IP address");
    }
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

void add_ip_options(int socket, int family) {
  if (family == AF_INET) {
    constexpr std::array<unsigned char, 4> kNoOperations{1, 1, 1, 1};
    if (::setsockopt(socket, IPPROTO_IP, IP_OPTIONS, kNoOperations.data(), 4) == 0) {
      return;
    }
  } else {
    // next header, length in 8 octets beyond the first, PadN of four zeros (RFC 8200 4.2)
    constexpr std::array<unsigned char, 8> kPadding{0, 0, 1, 4, 0, 0, 0, 0};
    if (::setsockopt(socket, IPPROTO_IPV6, IPV6_HOPOPTS, kPadding.data(), 8) == 0 &&
        ::setsockopt(socket, IPPROTO_IPV6, IPV6_DSTOPTS, kPadding.data(), 8) == 0) {
      return;
    }
  }
  throw std::system_error(errno, std::generic_category(), "IP options");
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

bool is_ready(int socket, short what, Clock::time_point deadline) {
  pollfd poll{socket, what, 0};
  return ::poll(&poll, 1, milliseconds_until(deadline)) > 0;
}

}  // namespace

Connection::Connection(const Route& route, std::chrono::milliseconds patience) {
  const SocketAddress to(route.to, route.port);
  const int family = to.storage.ss_family;
  socket_ = socket_in(route.network_namespace, family);
  if (route.with_ip_options) {
    add_ip_options(socket_, family);
  }
  if (!route.from.empty()) {
    const SocketAddress from(route.from, 0);
    if (::bind(socket_, from.get(), from.length) != 0) {
      throw std::system_error(errno, std::generic_category(), "bind " + route.from);
    }
  }
  if (::connect(socket_, to.get(), to.length) != 0) {
    error_ = errno;
    if (error_ == EINPROGRESS) {
      error_ = ETIMEDOUT;
      if (is_ready(socket_, POLLOUT, Clock::now() + patience)) {
        socklen_t length = sizeof error_;
        ::getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error_, &length);
      }
    }
  }
  note("--", error_ == 0 ? "connected to " + route.to + "\n"
                         : route.to + ": " + std::strerror(error_) + "\n");
}

Connection::~Connection() {
  close();
}

Connection::Connection(Connection&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      error_(other.error_),
      closed_(other.closed_),
      buffer_(std::move(other.buffer_)),
      transcript_(std::move(other.transcript_)) {}

bool Connection::send(std::string_view octets) {
  note("C>", octets);
  const auto deadline = Clock::now() + kPatience;
  while (!octets.empty()) {
    const ssize_t sent = ::send(socket_, octets.data(), octets.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      octets.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN || !is_ready(socket_, POLLOUT, deadline)) {
      note("--", std::string("send: ") + std::strerror(errno) + "\n");
      return false;
    }
  }
  return true;
}

bool Connection::fill(Clock::time_point deadline) {
  std::array<char, 65536> octets{};
  while (!closed_ && is_ready(socket_, POLLIN, deadline)) {
    const ssize_t count = ::recv(socket_, octets.data(), octets.size(), 0);
    if (count > 0) {
      buffer_.append(octets.data(), static_cast<std::size_t>(count));
      return true;
    }
    if (count == 0 || errno != EAGAIN) {
      closed_ = true;
      note("--", count == 0 ? "closed by the other side\n"
                            : std::string("recv: ") + std::strerror(errno) + "\n");
    }
  }
  return false;
}

std::string Connection::read_reply(std::chrono::milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  std::string reply;
  for (;;) {
    std::size_t end = buffer_.find('\n');
    while (end != std::string::npos) {
      const std::string line = buffer_.substr(0, end + 1);
      buffer_.erase(0, end + 1);
      note("S<", line);
      reply += line;
      if (line.size() < 4 || line[3] != '-') {
        return reply;
      }
      end = buffer_.find('\n');
    }
    if (!fill(deadline)) {
      return reply;
    }
  }
}

std::string Connection::say(std::string_view line) {
  send(std::string(line) + "\r\n");
  return read_reply();
}

std::string Connection::read_to_end(std::chrono::milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  while (fill(deadline)) {
  }
  note("S<", buffer_);
  return std::exchange(buffer_, {});
}

void Connection::shut_down_sending() const {
  ::shutdown(socket_, SHUT_WR);
}

void Connection::close() {
  if (socket_ >= 0) {
    ::close(std::exchange(socket_, -1));
  }
}

void Connection::reset() {
  const linger at_once{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

void Connection::note(std::string_view side, std::string_view octets) {
  while (!octets.empty()) {
    const std::size_t line = std::min(octets.find('\n'), octets.size() - 1) + 1;
    if (transcript_.size() < 20'000) {
      transcript_.append(side).append(" ").append(
          octets.substr(0, std::min<std::size_t>(line, 200)));
      if (transcript_.back() != '\n') {
        transcript_ += '\n';
      }
    }
    octets.remove_prefix(line);
  }
}

}  // namespace postern::testing
