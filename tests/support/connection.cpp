#include "tests/support/connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "tests/support/test_ca.hpp"

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

std::string tls_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  return text.data();
}

// OpenSSL's macro has an old-style cast.
bool set_server_name(SSL* tls, std::string name) {
  return SSL_ctrl(tls, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data()) == 1;
}

std::shared_ptr<SSL> make_tls(const TlsWish& wish, int socket) {
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_client_method()),
                                                             SSL_CTX_free);
  bool is_good = context != nullptr;
  if (!wish.ca_file.empty()) {
    is_good &= SSL_CTX_load_verify_file(context.get(), wish.ca_file.c_str()) == 1;
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  if (!wish.signatures.empty()) {
    is_good &= SSL_CTX_set1_sigalgs_list(context.get(), wish.signatures.c_str()) == 1;
  }
  std::shared_ptr<SSL> tls(SSL_new(context.get()), SSL_free);
  is_good &= tls != nullptr && SSL_set_fd(tls.get(), socket) == 1;
  if (!wish.name.empty()) {
    is_good &=
        set_server_name(tls.get(), wish.name) && SSL_set1_host(tls.get(), wish.name.c_str()) == 1;
  }
  if (wish.resumed != nullptr) {
    is_good &= SSL_set_session(tls.get(), wish.resumed.get()) == 1;
  }
  if (!is_good) {
    throw std::runtime_error("OpenSSL: " + tls_error());
  }
  return tls;
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
    const int yes = 1;  // strangers' addresses are routed to here, and configured nowhere
    ::setsockopt(socket_, IPPROTO_IPV6, IPV6_FREEBIND, &yes, sizeof yes);
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
      tls_(std::move(other.tls_)),
      buffer_(std::move(other.buffer_)),
      transcript_(std::move(other.transcript_)) {}

Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(error_, other.error_);
  std::swap(closed_, other.closed_);
  std::swap(tls_, other.tls_);
  std::swap(buffer_, other.buffer_);
  std::swap(transcript_, other.transcript_);
  return *this;
}

bool Connection::start_tls(const TlsWish& wish) {
  const auto deadline = Clock::now() + kPatience;
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
  tls_ = make_tls(wish, socket_);
  for (;;) {
    ERR_clear_error();
    const int result = SSL_connect(tls_.get());
    if (result == 1) {
      note("--", "TLS: " + tls_version() + " " + SSL_get_cipher_name(tls_.get()) +
                     (was_resumed() ? ", resumed\n" : "\n"));
      return true;
    }
    if (!await_tls(result, deadline)) {
      tls_.reset();
      return false;
    }
  }
}

// Whether the call may be made again: what it asked for has come.
bool Connection::await_tls(int result, Clock::time_point deadline) {
  const int error = SSL_get_error(tls_.get(), result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
    return is_ready(socket_, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline);
  }
  closed_ = true;
  note("--", error == SSL_ERROR_ZERO_RETURN ? "close_notify\n"
             : error == SSL_ERROR_SYSCALL   ? std::string("TLS: ") + std::strerror(errno) + "\n"
                                            : "TLS: " + tls_error() + "\n");
  return false;
}

bool Connection::was_resumed() const {
  return SSL_session_reused(tls_.get()) == 1;
}

std::string Connection::tls_version() const {
  return SSL_get_version(tls_.get());
}

std::string Connection::fingerprint() const {
  return fingerprint_of(SSL_get0_peer_certificate(tls_.get()));
}

std::shared_ptr<SSL_SESSION> Connection::tls_session() const {
  return {SSL_get1_session(tls_.get()), SSL_SESSION_free};
}

bool Connection::send(std::string_view octets) {
  if (tls_ == nullptr) {
    return send_in_clear(octets);
  }
  note("C>", octets);
  const auto deadline = Clock::now() + kPatience;
  SSL_set_mode(tls_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  while (!octets.empty()) {
    ERR_clear_error();
    const int sent = SSL_write(tls_.get(), octets.data(), static_cast<int>(octets.size()));
    if (sent > 0) {
      octets.remove_prefix(static_cast<std::size_t>(sent));
    } else if (!await_tls(sent, deadline)) {
      return false;
    }
  }
  return true;
}

bool Connection::send_in_clear(std::string_view octets) {
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
  while (!closed_ && tls_ != nullptr) {
    ERR_clear_error();
    const int count = SSL_read(tls_.get(), octets.data(), static_cast<int>(octets.size()));
    if (count > 0) {
      buffer_.append(octets.data(), static_cast<std::size_t>(count));
      return true;
    }
    if (!await_tls(count, deadline)) {
      return false;
    }
  }
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

void Connection::say_close_notify() {
  SSL_shutdown(tls_.get());
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
