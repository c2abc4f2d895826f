// A TCP connection from a namespace, spoken by hand, with TLS from where the test wants it; it
// remembers what was said.
// Errors:   connect() reports errno as a value; a read that ends early returns what there was.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tests/support/wait.hpp"

struct ssl_session_st;  // OpenSSL's SSL_SESSION, which openssl/types.h does not declare

namespace postern::testing {

struct Route {
  std::string network_namespace;
  std::string to;  // address, IPv4 or IPv6
  std::uint16_t port = 25;
  std::string from{};            // source address; empty: the kernel's choice
  bool with_ip_options = false;  // IPv4 options, or IPv6 hop-by-hop and destination headers
};

struct TlsWish {
  std::string ca_file{};     // empty: any certificate will do
  std::string name{};        // for SNI, and, with ca_file, who the certificate must be for
  std::string signatures{};  // "ECDSA+SHA256", ...: which kinds of certificates; empty: all
  std::shared_ptr<ssl_session_st> resumed{};
};

class Connection {
 public:
  explicit Connection(const Route& route, std::chrono::milliseconds patience = kPatience);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;

  // 0 when connected; else ECONNREFUSED, ETIMEDOUT, ...
  [[nodiscard]] int error() const { return error_; }

  // The handshake. False: the transcript says why not.
  bool start_tls(const TlsWish& wish = {});
  [[nodiscard]] bool has_tls() const { return tls_ != nullptr; }
  [[nodiscard]] bool was_resumed() const;
  [[nodiscard]] std::string tls_version() const;  // "TLSv1.3"
  [[nodiscard]] std::string fingerprint() const;  // of the server's certificate, as TestCa has it
  [[nodiscard]] std::shared_ptr<ssl_session_st> tls_session() const;

  bool send(std::string_view octets);
  // Past the TLS that may be there.
  bool send_in_clear(std::string_view octets);
  // One whole SMTP reply, all its lines, with line ends; "" at the end of the stream or in time.
  [[nodiscard]] std::string read_reply(std::chrono::milliseconds patience = kPatience);
  // send() a line and read_reply().
  std::string say(std::string_view line);
  // Everything until the other side closes; stops at the deadline.
  std::string read_to_end(std::chrono::milliseconds patience = kPatience);
  [[nodiscard]] bool is_closed_by_peer() const { return closed_; }
  // In TLS, too: without close_notify, as an attacker would.
  void shut_down_sending() const;
  void say_close_notify();
  void close();
  void reset();  // close with RST

  [[nodiscard]] const std::string& transcript() const { return transcript_; }

 private:
  bool fill(std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] bool await_tls(int result, std::chrono::steady_clock::time_point deadline);
  void note(std::string_view side, std::string_view octets);

  int socket_ = -1;
  int error_ = 0;
  bool closed_ = false;
  std::shared_ptr<SSL> tls_;
  std::string buffer_;
  std::string transcript_;
};

}  // namespace postern::testing
