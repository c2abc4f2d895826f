// Three network namespaces without names, which end with the program: the router, where the test's
// thread is, and the outside and the inside, joined to it by veth pairs (wan0 and eth0, lan0 and lan1).
// No host inside answers, but packets can be sent from there, all by way of the router.
// Errors:   std::runtime_error, std::system_error.   Needs root.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <iosfwd>
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

  // Runs something, for example the opening of a socket, as if outside, or inside.
  void outside(const std::function<void()>& step) const { in(outside_, step); }
  void inside(const std::function<void()>& step) const { in(inside_, step); }
  // Sends packets with an IP header of their own from outside.
  void send_from_outside(const Octets& packet) const { send(outside_sockets_, packet); }
  void send_from_inside(const Octets& packet) const { send(inside_sockets_, packet); }

  static constexpr const char* kStranger4 = "198.51.100.2";
  static constexpr const char* kStranger6 = "2001:db8:1::2";
  static constexpr const char* kMailer4 = "203.0.113.25";
  static constexpr const char* kMailer6 = "2001:db8:2::25";
  static constexpr const char* kUnmanaged4 = "203.0.113.26";
  static constexpr const char* kUnmanaged6 = "2001:db8:2::26";
  static constexpr const char* kInside4 = "203.0.113.7";
  static constexpr const char* kInside6 = "2001:db8:2::7";

 private:
  struct RawSockets {
    int v4 = -1;
    int v6 = -1;
  };
  static RawSockets open_raw_sockets();
  static void send(const RawSockets& sockets, const Octets& packet);
  // Runs something in another namespace; the thread is then back on the router.
  void in(int name_space, const std::function<void()>& step) const;

  int before_ = -1;
  int router_ = -1;
  int outside_ = -1;
  int inside_ = -1;
  RawSockets outside_sockets_;
  RawSockets inside_sockets_;
};

// A socket on its way to a server.
class Attempt {
 public:
  // `from`: empty for the address that the kernel takes.
  Attempt(const std::string& to, std::uint16_t port, const std::string& from = {});
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
  bool operator==(const SocketAddress& other) const;
};

void PrintTo(const SocketAddress& address, std::ostream* out);

[[nodiscard]] SocketAddress socket_address(const std::string& address, std::uint16_t port);
std::string run_or_throw(const std::string& shell_command);

}  // namespace postern::test
