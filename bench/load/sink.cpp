#include "bench/load/sink.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <unordered_map>
#include <vector>

#include "bench/load/end_of_data.hpp"
#include "bench/load/sockets.hpp"

namespace postern::bench {
namespace {

constexpr std::size_t kReadOctets = std::size_t{256} * 1024;
constexpr std::string_view kGreeting = "220 sink.example.org ESMTP\r\n";
constexpr std::string_view kEhloReply =
    "250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n"
    "250 ENHANCEDSTATUSCODES\r\n";

struct Connection {
  Fd fd;
  std::string line;  // an incomplete command
  std::string replies;
  EndOfData end_of_data;
  bool in_body = false;
  bool quit = false;
};

// An IPv4 address as one, not as the IPv6 address that stands for it.
std::string text_of(const sockaddr_in6& peer) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr)) {
    ::inet_ntop(AF_INET, &peer.sin6_addr.s6_addr[12], text.data(), text.size());
  } else {
    ::inet_ntop(AF_INET6, &peer.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

class Sink {
 public:
  explicit Sink(const SinkOptions& options);
  void run();

 private:
  void accept_all();
  void serve(int fd);
  void take(Connection& connection, std::string_view bytes);
  [[nodiscard]] std::string_view take_body(Connection& connection, std::string_view bytes);
  [[nodiscard]] std::string_view take_line(Connection& connection, std::string_view bytes);
  [[nodiscard]] std::string_view answer(Connection& connection, std::string_view line);
  void report() const;

  std::string clients_;
  Fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  Fd listener_{::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  Fd signals_;
  std::unordered_map<int, Connection> connections_;
  std::vector<char> buffer_ = std::vector<char>(kReadOctets);
  std::uint64_t sessions_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t octets_ = 0;
  std::uint64_t strangers_ = 0;  // sessions whose client's address was not kept
};

Sink::Sink(const SinkOptions& options) : clients_(options.clients) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  signals_ = Fd{::signalfd(-1, &stop, SFD_CLOEXEC)};
  set_option(listener_.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(listener_.get(), IPPROTO_TCP, TCP_NODELAY, 1);  // inherited by what it accepts
  set_option(listener_.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  sockaddr_in6 local{};
  local.sin6_family = AF_INET6;
  local.sin6_port = htons(options.port);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0 ||
      ::listen(listener_.get(), 4096) != 0) {
    die("sink: listen");
  }
  for (const int fd : {listener_.get(), signals_.get()}) {
    watch(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, static_cast<std::uint64_t>(fd));
  }
}

void Sink::run() {
  std::cout << "ready" << '\n' << std::flush;
  std::array<epoll_event, 256> events{};
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[static_cast<std::size_t>(i)].data.u64);
      if (fd == signals_.get()) {
        return report();
      }
      if (fd == listener_.get()) {
        accept_all();
      } else {
        serve(fd);
      }
    }
  }
}

void Sink::accept_all() {
  for (;;) {
    sockaddr_in6 peer{};
    socklen_t length = sizeof peer;
    Fd fd{::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &length,
                    SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
      if (errno != EAGAIN && errno != ECONNABORTED) {
        die("sink: accept");
      }
      return;
    }
    ++sessions_;
    strangers_ += text_of(peer).starts_with(clients_) ? 0 : 1;
    (void)::send(fd.get(), kGreeting.data(), kGreeting.size(), MSG_NOSIGNAL);
    const int key = fd.get();
    watch(epoll_.get(), EPOLL_CTL_ADD, key, EPOLLIN, static_cast<std::uint64_t>(key));
    connections_[key].fd = std::move(fd);
  }
}

void Sink::serve(int fd) {
  Connection& connection = connections_.at(fd);
  const ssize_t got = ::read(fd, buffer_.data(), buffer_.size());
  if (got > 0) {
    take(connection, {buffer_.data(), static_cast<std::size_t>(got)});
    if (!connection.replies.empty()) {
      (void)::send(fd, connection.replies.data(), connection.replies.size(), MSG_NOSIGNAL);
      connection.replies.clear();
    }
  }
  if (got == 0 || (got < 0 && errno != EAGAIN) || connection.quit) {
    connections_.erase(fd);
  }
}

void Sink::take(Connection& connection, std::string_view bytes) {
  while (!bytes.empty()) {
    bytes = connection.in_body ? take_body(connection, bytes) : take_line(connection, bytes);
  }
}

std::string_view Sink::take_body(Connection& connection, std::string_view bytes) {
  const auto end = connection.end_of_data.feed(bytes);
  octets_ += end.value_or(bytes.size());
  if (!end) {
    return {};
  }
  ++messages_;
  connection.in_body = false;
  connection.replies += "250 2.0.0 Ok\r\n";
  return bytes.substr(*end);
}

std::string_view Sink::take_line(Connection& connection, std::string_view bytes) {
  const std::size_t end = bytes.find('\n');
  if (end == std::string_view::npos) {
    connection.line += bytes;
    return {};
  }
  connection.line += bytes.substr(0, end + 1);
  connection.replies += answer(connection, connection.line);
  connection.line.clear();
  return bytes.substr(end + 1);
}

std::string_view Sink::answer(Connection& connection, std::string_view line) {
  const std::string_view verb = line.substr(0, 4);
  if (verb == "EHLO") {
    return kEhloReply;
  }
  if (verb == "DATA") {
    connection.in_body = true;
    connection.end_of_data = {};
    return "354 End data with <CR><LF>.<CR><LF>\r\n";
  }
  if (verb == "QUIT") {
    connection.quit = true;
    return "221 2.0.0 Bye\r\n";
  }
  if (verb == "MAIL" || verb == "RCPT" || verb == "RSET" || verb == "NOOP" || verb == "HELO") {
    return "250 2.0.0 Ok\r\n";
  }
  return "500 5.5.2 Unknown command\r\n";
}

void Sink::report() const {
  std::cout << R"({"sessions": )" << sessions_ << R"(, "messages": )" << messages_
            << R"(, "octets": )" << octets_ << R"(, "strangers": )" << strangers_ << "}" << '\n'
            << std::flush;
}

}  // namespace

void run_sink(const SinkOptions& options) {
  Sink{options}.run();
}

}  // namespace postern::bench
