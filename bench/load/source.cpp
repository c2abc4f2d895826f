#include "bench/load/source.hpp"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <iostream>
#include <vector>

#include "bench/load/sockets.hpp"

namespace postern::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{20};  // without any event
constexpr std::uint64_t kTolerableErrors = 100;
constexpr std::size_t kConnecting = 100;  // at once, in Mode::idle
constexpr std::size_t kWriteOctets = std::size_t{256} * 1024;
constexpr std::uint64_t kStdin = ~std::uint64_t{0};

enum class Step : std::uint8_t { greeting, ehlo, mail, rcpt, data, body, quit, idle, closed };

struct Session {
  Fd fd;
  Step step = Step::closed;
  bool connected = false;
  bool wants_write = false;
  std::string reply;
  std::string_view unsent;
  std::uint64_t messages_left = 0;
  Clock::time_point sent_at;
};

// Lines of 78 octets and no line that begins with a dot, then the end of data.
std::string make_message(std::size_t octets) {
  std::string text =
      "From: <sender@example.net>\r\nTo: <user@example.org>\r\nSubject: bench\r\n\r\n";
  const std::string line = std::string(76, 'x') + "\r\n";
  while (text.size() + line.size() <= octets) {
    text += line;
  }
  if (text.size() + 2 <= octets) {
    text += std::string(octets - text.size() - 2, 'y') + "\r\n";
  }
  return text + ".\r\n";
}

struct Reply {
  int code = 0;            // 0: not whole yet
  std::size_t octets = 0;  // of the text, up to and including the last line
};

// "250-a\r\n250 b\r\n" is whole when its last line has no hyphen.
Reply first_reply(std::string_view text) {
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) {
      return {};
    }
    if (end - begin < 4 || text[begin + 3] != '-') {
      int code = 999;
      const std::string_view digits = text.substr(begin, 3);
      std::from_chars(digits.data(), digits.data() + digits.size(), code);
      return {.code = code, .octets = end + 1};
    }
    begin = end + 1;
  }
}

int expected_code(Step step) {
  switch (step) {
    case Step::greeting:
      return 220;
    case Step::data:
      return 354;
    case Step::quit:
      return 221;
    case Step::ehlo:
    case Step::mail:
    case Step::rcpt:
    case Step::body:
    case Step::idle:
    case Step::closed:
      break;
  }
  return 250;
}

class Source {
 public:
  explicit Source(const SourceOptions& options);
  void run();

 private:
  void open(std::size_t index);
  void open_more();
  void on_event(std::size_t index, std::uint32_t events);
  void on_writable(std::size_t index);
  void on_readable(std::size_t index);
  void on_reply(std::size_t index);
  void next_message(std::size_t index);
  void send(std::size_t index, Step step, std::string_view bytes);
  void flush(std::size_t index);
  void fail(std::size_t index, std::string_view what);
  void close(std::size_t index);
  [[nodiscard]] bool finished() const;
  void report();

  SourceOptions options_;
  sockaddr_in server_;
  sockaddr_in first_client_;
  std::string message_;
  Fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::vector<Session> sessions_;
  std::vector<char> buffer_ = std::vector<char>(65536);
  std::vector<std::uint32_t> round_trips_us_;
  std::string first_error_;
  std::uint64_t unclaimed_;  // messages no session has begun
  std::uint64_t delivered_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t opened_ = 0;
  std::size_t open_ = 0;
  std::size_t idle_ = 0;
  bool stdin_ended_ = false;
  Clock::time_point began_;
};

Source::Source(const SourceOptions& options)
    : options_(options),
      server_(parse_endpoint(options.server, options.port)),
      first_client_(parse_endpoint(options.first_client, 0)),
      message_(make_message(options.message_octets)),
      sessions_(options.sessions),
      unclaimed_(options.mode == Mode::idle ? options.sessions : options.messages) {
  round_trips_us_.reserve(std::min<std::uint64_t>(options.messages * 5, 4'000'000));
}

void Source::run() {
  began_ = Clock::now();
  open_more();
  std::array<epoll_event, 256> events{};
  bool said_ready = false;
  while (!finished()) {
    const bool ready = options_.mode == Mode::idle && idle_ == sessions_.size();
    if (ready && !said_ready) {
      said_ready = true;
      std::cout << "ready" << '\n' << std::flush;
      watch(epoll_.get(), EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, kStdin);
    }
    const int patience_ms =
        said_ready ? -1 : static_cast<int>(kPatience / std::chrono::milliseconds{1});
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), patience_ms);
    if (count == 0) {
      errno = 0;
      die("source: no progress, " + std::to_string(delivered_) + " delivered, " +
          std::to_string(open_) + " sessions open; " + first_error_);
    }
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == kStdin) {
        stdin_ended_ = true;
      } else {
        on_event(event.data.u64, event.events);
      }
    }
    if (!said_ready) {
      open_more();
    }
  }
  report();
}

bool Source::finished() const {
  if (options_.mode == Mode::idle) {
    return stdin_ended_;
  }
  return open_ == 0 && unclaimed_ == 0;
}

// A session's slot is taken again as long as there are messages that nobody has begun.
void Source::open_more() {
  for (std::size_t i = 0; i < sessions_.size() && unclaimed_ > 0; ++i) {
    if (options_.mode == Mode::idle && open_ - idle_ >= kConnecting) {
      return;
    }
    if (sessions_[i].step == Step::closed) {
      open(i);
    }
  }
}

void Source::open(std::size_t index) {
  Session& session = sessions_[index];
  session = {};
  session.fd = Fd{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!session.fd) {
    die("source: socket");
  }
  const int fd = session.fd.get();
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  sockaddr_in client = first_client_;
  client.sin_addr.s_addr = htonl(ntohl(client.sin_addr.s_addr) +
                                 static_cast<std::uint32_t>(opened_++ % options_.clients));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&client), sizeof client) != 0) {
    die("source: bind");
  }
  session.step = Step::greeting;
  session.wants_write = true;
  session.messages_left = std::min(options_.messages_per_session, unclaimed_);
  unclaimed_ -= session.messages_left;
  ++open_;
  watch(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, index);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&server_), sizeof server_) != 0 &&
      errno != EINPROGRESS) {
    fail(index, "connect");
  }
}

void Source::on_event(std::size_t index, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    on_writable(index);
  }
  if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0 && sessions_[index].fd) {
    on_readable(index);
  }
}

void Source::on_writable(std::size_t index) {
  Session& session = sessions_[index];
  if (!session.connected) {
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(session.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      errno = error;
      return fail(index, "connect");
    }
    session.connected = true;
  }
  flush(index);
}

void Source::on_readable(std::size_t index) {
  Session& session = sessions_[index];
  const ssize_t got = ::read(session.fd.get(), buffer_.data(), buffer_.size());
  if (got < 0 && errno == EAGAIN) {
    return;
  }
  if (got <= 0) {
    return fail(index, got == 0 ? "closed by the server" : "read");
  }
  session.reply.append(buffer_.data(), static_cast<std::size_t>(got));
  while (session.fd) {
    const Reply reply = first_reply(session.reply);
    if (reply.code == 0) {
      return;
    }
    if (reply.code != expected_code(session.step)) {
      errno = 0;
      return fail(index, "unexpected reply: " + session.reply);
    }
    session.reply.erase(0, reply.octets);
    on_reply(index);
  }
}

void Source::on_reply(std::size_t index) {
  Session& session = sessions_[index];
  const bool pipelined = options_.mode == Mode::pipelined;
  const bool waited = session.step != Step::greeting && session.step != Step::body &&
                      !(pipelined && (session.step == Step::rcpt || session.step == Step::data));
  if (waited) {
    const auto took =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - session.sent_at);
    round_trips_us_.push_back(static_cast<std::uint32_t>(took.count()));
  }
  switch (session.step) {
    case Step::greeting:
      if (options_.mode == Mode::connect) {
        return send(index, Step::quit, "QUIT\r\n");
      }
      return send(index, Step::ehlo, "EHLO client.example.net\r\n");
    case Step::ehlo:
      return next_message(index);
    case Step::mail:
      return pipelined ? static_cast<void>(session.step = Step::rcpt)
                       : send(index, Step::rcpt, "RCPT TO:<user@example.org>\r\n");
    case Step::rcpt:
      return pipelined ? static_cast<void>(session.step = Step::data)
                       : send(index, Step::data, "DATA\r\n");
    case Step::data:
      return send(index, Step::body, message_);
    case Step::body:
      ++delivered_;
      --session.messages_left;
      return next_message(index);
    case Step::quit:
      delivered_ += options_.mode == Mode::connect ? 1 : 0;
      return close(index);
    case Step::idle:
    case Step::closed:
      return fail(index, "unexpected reply in an idle session");
  }
}

void Source::next_message(std::size_t index) {
  Session& session = sessions_[index];
  if (options_.mode == Mode::idle) {
    session.step = Step::idle;
    session.reply.shrink_to_fit();
    ++idle_;
  } else if (session.messages_left == 0) {
    send(index, Step::quit, "QUIT\r\n");
  } else if (options_.mode == Mode::pipelined) {
    send(index, Step::mail,
         "MAIL FROM:<sender@example.net>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n");
  } else {
    send(index, Step::mail, "MAIL FROM:<sender@example.net>\r\n");
  }
}

// `bytes` must live as long as the program.
void Source::send(std::size_t index, Step step, std::string_view bytes) {
  Session& session = sessions_[index];
  session.step = step;
  session.unsent = bytes;
  session.sent_at = Clock::now();
  flush(index);
}

void Source::flush(std::size_t index) {
  Session& session = sessions_[index];
  while (!session.unsent.empty()) {
    const std::size_t size = std::min(session.unsent.size(), kWriteOctets);
    const ssize_t sent = ::send(session.fd.get(), session.unsent.data(), size, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN) {
        break;
      }
      return fail(index, "send");
    }
    session.unsent.remove_prefix(static_cast<std::size_t>(sent));
  }
  const bool wants_write = !session.unsent.empty();
  if (wants_write != session.wants_write) {
    session.wants_write = wants_write;
    const std::uint32_t events = EPOLLIN | (wants_write ? EPOLLOUT : 0U);
    watch(epoll_.get(), EPOLL_CTL_MOD, session.fd.get(), events, index);
  }
}

// What the session had not delivered goes back for another one.
void Source::fail(std::size_t index, std::string_view what) {
  const int error = errno;
  if (first_error_.empty()) {
    first_error_ = "step " + std::to_string(static_cast<int>(sessions_[index].step)) + ": " +
                   std::string{what} + (error == 0 ? "" : " (errno " + std::to_string(error) + ")");
  }
  ++errors_;
  unclaimed_ += sessions_[index].messages_left;
  if (sessions_[index].step == Step::idle) {
    --idle_;
  }
  close(index);
  if (errors_ > kTolerableErrors) {
    errno = 0;
    die("source: too many errors, the first: " + first_error_);
  }
}

void Source::close(std::size_t index) {
  sessions_[index].fd.reset();
  sessions_[index].step = Step::closed;
  --open_;
}

void Source::report() {
  const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
  const auto percentile = [this](std::size_t percent) -> std::uint32_t {
    if (round_trips_us_.empty()) {
      return 0;
    }
    const auto nth = round_trips_us_.begin() +
                     static_cast<std::ptrdiff_t>((round_trips_us_.size() - 1) * percent / 100);
    std::nth_element(round_trips_us_.begin(), nth, round_trips_us_.end());
    return *nth;
  };
  std::replace_if(
      first_error_.begin(), first_error_.end(),
      [](char c) { return c == '"' || c == '\\' || c < ' '; }, ' ');
  std::cout << R"({"seconds": )" << seconds << R"(, "messages": )" << delivered_
            << R"(, "message_octets": )" << message_.size() << R"(, "errors": )" << errors_
            << R"(, "first_error": ")" << first_error_ << R"(", "sessions_open": )" << open_
            << R"(, "p50_us": )" << percentile(50) << R"(, "p99_us": )" << percentile(99) << "}"
            << '\n'
            << std::flush;
  // 10,000 sessions reset at once leave no TIME_WAIT for the next measurement to meet.
  for (const Session& session : sessions_) {
    if (session.fd) {
      const linger reset{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(session.fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
  }
}

}  // namespace

void run_source(const SourceOptions& options) {
  Source{options}.run();
}

}  // namespace postern::bench
