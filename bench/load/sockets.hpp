// What both ends of the load share: descriptors, addresses, and giving up.
// Errors:   die() ends the program with one line on stderr; a load generator has nothing to rescue.
#pragma once

#include <netinet/in.h>

#include <string>
#include <string_view>
#include <utility>

namespace postern::bench {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  void reset();
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// With errno's text when errno is not 0.
[[noreturn]] void die(std::string_view what);

[[nodiscard]] sockaddr_in parse_endpoint(const std::string& address, std::uint16_t port);
void set_option(int fd, int level, int name, int value);
void watch(int epoll, int operation, int fd, std::uint32_t events, std::uint64_t data);
void raise_descriptor_limit();

}  // namespace postern::bench
