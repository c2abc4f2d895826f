// A TCP connection from a namespace, spoken by hand; it remembers what was said.
// Errors:   connect() reports errno as a value; a read that ends early returns what there was.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/wait.hpp"

namespace postern::testing {

struct Route {
  std::string network_namespace;
  std::string to;  // address, IPv4 or IPv6
  std::uint16_t port = 25;
  std::string from{};            // source address; empty: the kernel's choice
  bool with_ip_options = false;  // IPv4 options, or IPv6 hop-by-hop and destination headers
};

class Connection {
 public:
  explicit Connection(const Route& route, std::chrono::milliseconds patience = kPatience);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;

  // 0 when connected; else ECONNREFUSED, ETIMEDOUT, ...
  [[nodiscard]] int error() const { return error_; }

  bool send(std::string_view octets);
  // One whole SMTP reply, all its lines, with line ends; "" at the end of the stream or in time.
  [[nodiscard]] std::string read_reply(std::chrono::milliseconds patience = kPatience);
  // send() a line and read_reply().
  std::string say(std::string_view line);
  // Everything until the other side closes; stops at the deadline.
  std::string read_to_end(std::chrono::milliseconds patience = kPatience);
  [[nodiscard]] bool is_closed_by_peer() const { return closed_; }
  void shut_down_sending() const;
  void close();
  void reset();  // close with RST

  [[nodiscard]] const std::string& transcript() const { return transcript_; }

 private:
  bool fill(std::chrono::steady_clock::time_point deadline);
  void note(std::string_view side, std::string_view octets);

  int socket_ = -1;
  int error_ = 0;
  bool closed_ = false;
  std::string buffer_;
  std::string transcript_;
};

}  // namespace postern::testing
