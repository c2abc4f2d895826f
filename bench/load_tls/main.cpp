// The load of bench/tls: SMTP sessions in TLS, one blocking thread for each that is open at a time.
// Why not:  no mode of bench/load: its single epoll loop exists to cost next to nothing, and a client of
//           TLS costs what it costs.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Context = std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)>;
using TlsSession = std::shared_ptr<SSL_SESSION>;

struct Options {
  bool resumes = false;
  bool is_idle = false;
  bool is_implicit = false;  // TLS from the first octet, without STARTTLS
  sockaddr_in server{};
  std::size_t parallel = 1;
  std::uint64_t sessions = 1;
  std::uint64_t messages_per_session = 0;
  std::size_t message_octets = 4096;
};

constexpr std::uint32_t kClients = 16;  // 198.51.100.2 and on

class Session {
 public:
  Session(const Options& options, SSL_CTX* context, std::uint64_t number, const TlsSession& known)
      : options_(options) {
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ::setsockopt(socket_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in client{};
    client.sin_family = AF_INET;
    client.sin_addr.s_addr = htonl(0xc6336402 + static_cast<std::uint32_t>(number % kClients));
    must(::bind(socket_, reinterpret_cast<const sockaddr*>(&client), sizeof client) == 0 &&
             ::connect(socket_, reinterpret_cast<const sockaddr*>(&options.server),
                       sizeof options.server) == 0,
         "connect");
    if (!options.is_implicit) {
      expect("220");
      say("EHLO bench.example\r\n", "250");
      say("STARTTLS\r\n", "220");
    }
    tls_ = SSL_new(context);
    SSL_set_fd(tls_, socket_);
    if (known != nullptr) {
      SSL_set_session(tls_, known.get());
    }
    must(SSL_connect(tls_) == 1, "handshake");
    if (options.is_implicit) {
      expect("220");
    }
  }
  ~Session() {
    if (tls_ != nullptr) {
      SSL_shutdown(tls_);  // otherwise OpenSSL does not let the session be resumed
      SSL_free(tls_);
    }
    ::close(socket_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void say(std::string_view octets, const char* code) {
    while (!octets.empty()) {
      const ssize_t sent = tls_ == nullptr
                               ? ::send(socket_, octets.data(), octets.size(), MSG_NOSIGNAL)
                               : SSL_write(tls_, octets.data(), static_cast<int>(octets.size()));
      must(sent > 0, "write");
      octets.remove_prefix(static_cast<std::size_t>(sent));
    }
    expect(code);
  }
  void deliver(const std::string& message) {
    say("MAIL FROM:<sender@example.net>\r\n", "250");
    say("RCPT TO:<user@example.org>\r\n", "250");
    say("DATA\r\n", "354");
    say(message, "250");
  }
  [[nodiscard]] bool was_resumed() const { return SSL_session_reused(tls_) == 1; }
  [[nodiscard]] TlsSession tls_session() const {
    return {SSL_get1_session(tls_), SSL_SESSION_free};
  }

 private:
  static void must(bool is_good, const std::string& what) {
    if (!is_good) {
      char text[256];
      ERR_error_string_n(ERR_get_error(), text, sizeof text);
      throw std::runtime_error(what + ": " + std::strerror(errno) + ", " + text);
    }
  }
  void expect(const char* code) {
    std::string reply;
    for (;;) {
      char octets[4096];
      const ssize_t got = tls_ == nullptr ? ::recv(socket_, octets, sizeof octets, 0)
                                          : SSL_read(tls_, octets, sizeof octets);
      must(got > 0, std::string("waiting for ") + code);
      reply.append(octets, static_cast<std::size_t>(got));
      const std::size_t last = reply.rfind('\n', reply.size() - 2) + 1;
      if (reply.back() == '\n' && reply.size() - last > 3 && reply[last + 3] != '-') {
        break;
      }
    }
    must(reply.starts_with(code), "instead of " + std::string(code) + " " + reply);
  }

  const Options& options_;
  int socket_ = -1;
  SSL* tls_ = nullptr;
};

std::string make_message(std::size_t octets) {
  std::string text = "Subject: bench\r\n\r\n";
  while (text.size() + 78 <= octets) {
    text += std::string(76, 'x') + "\r\n";
  }
  return text + ".\r\n";
}

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        message_(make_message(options.message_octets)) {
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
  }

  void run() {
    const auto began = Clock::now();
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < options_.parallel; ++i) {
        threads.emplace_back([this] { work(); });
      }
    }
    const std::chrono::duration<double> took = Clock::now() - began;
    if (options_.is_idle) {
      std::cout << "ready" << std::endl;
      std::cin.get();
    }
    std::cout << "{\"sessions\": " << done_
              << ", \"messages\": " << done_ * options_.messages_per_session
              << ", \"resumed\": " << resumed_ << ", \"errors\": " << errors_
              << ", \"seconds\": " << took.count() << ", \"message_octets\": " << message_.size()
              << "}" << std::endl;
    std::cerr << first_error_;
  }

 private:
  void work() {
    TlsSession known;
    for (std::uint64_t number = next_++; number < options_.sessions; number = next_++) {
      try {
        auto session = std::make_unique<Session>(options_, context_.get(), number, known);
        session->say("EHLO bench.example\r\n", "250");
        for (std::uint64_t i = 0; i < options_.messages_per_session; ++i) {
          session->deliver(message_);
        }
        resumed_ += session->was_resumed() ? 1 : 0;
        if (options_.resumes) {
          known = session->tls_session();
        }
        if (options_.is_idle) {
          const std::lock_guard lock(mutex_);
          idle_.push_back(std::move(session));
        } else {
          session->say("QUIT\r\n", "221");
        }
        ++done_;
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex_);
        if (++errors_ == 1) {
          first_error_ = error.what();
        }
      }
    }
  }

  const Options& options_;
  Context context_;
  std::string message_;
  std::atomic<std::uint64_t> next_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<std::uint64_t> resumed_ = 0;
  std::atomic<std::uint64_t> errors_ = 0;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;
  std::string first_error_;
};

}  // namespace

// load_tls full|resumed|idle starttls|implicit SERVER PORT PARALLEL SESSIONS MESSAGES-PER-SESSION OCTETS
int main(int argc, char** argv) {
  if (argc != 9) {
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  Options options;
  options.resumes = argv[1] == std::string_view("resumed");
  options.is_idle = argv[1] == std::string_view("idle");
  options.is_implicit = argv[2] == std::string_view("implicit");
  options.server.sin_family = AF_INET;
  ::inet_pton(AF_INET, argv[3], &options.server.sin_addr);
  options.server.sin_port = htons(static_cast<std::uint16_t>(std::stoul(argv[4])));
  options.parallel = std::stoull(argv[5]);
  options.sessions = std::stoull(argv[6]);
  options.messages_per_session = std::stoull(argv[7]);
  options.message_octets = std::stoull(argv[8]);
  Load(options).run();
  return 0;
}
