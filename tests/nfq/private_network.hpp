// Two network namespaces without names, which end with the program: the router, where the test's
// thread is, and the outside, joined by a veth pair (wan0 and eth0). The router has an inside, too,
// but nobody lives there.
// Errors:   std::runtime_error, std::system_error.   Needs root.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <string>

#include "rules/ip.hpp"
#include "tests/support/packet_builder.hpp"

namespace postern::test {

class PrivateNetwork {
 public:
  PrivateNetwork();
  ~PrivateNetwork();  // the thread is back where it was
  PrivateNetwork(const PrivateNetwork&) = delete;
  PrivateNetwork& operator=(const PrivateNetwork&) = delete;

  // Runs something, for example the opening of a socket, as if outside.
  void outside(const std::function<void()>& step) const;
  // Sends packets with an IP header of their own from outside.
  void send_from_outside(const Octets& packet) const;

  static constexpr const char* kStranger4 = "198.51.100.2";
  static constexpr const char* kStranger6 = "2001:db8:1::2";
  static constexpr const char* kMailer4 = "203.0.113.25";
  static constexpr const char* kMailer6 = "2001:db8:2::25";
  static constexpr const char* kUnmanaged4 = "203.0.113.26";
  static constexpr const char* kUnmanaged6 = "2001:db8:2::26";

 private:
  int before_ = -1;
  int router_ = -1;
  int outside_ = -1;
  int raw4_ = -1;
  int raw6_ = -1;
};

// A socket on its way to a server.
class Attempt {
 public:
  Attempt(const std::string& to, std::uint16_t port);
  ~Attempt();
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  // The errno that the connection came to, ETIMEDOUT if it came to nothing.
  [[nodiscard]] int outcome(int milliseconds = 5000) const;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* get() const;
};

[[nodiscard]] SocketAddress socket_address(const std::string& address, std::uint16_t port);
std::string run_or_throw(const std::string& shell_command);

}  // namespace postern::test
