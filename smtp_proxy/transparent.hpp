// Sockets at addresses that are not ours: TPROXY listeners, and connections made in the client's
// name.
// Source:   Linux Documentation/networking/tproxy.rst, ip(7) IP_TRANSPARENT and
//           IP_BIND_ADDRESS_NO_PORT.
// Errors:   std::error_code from errno. The caller needs CAP_NET_RAW or CAP_NET_ADMIN.
// Lifetime: a FileDescriptor owns what it holds.
#pragma once

#include <expected>
#include <span>
#include <system_error>
#include <utility>

#include "rules/event.hpp"
#include "rules/ip.hpp"

namespace postern::smtp_proxy {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

enum class Family : bool { v4, v6 };

// Bound to the loopback address of the family: only what tproxy hands over can reach it from
// outside the host. Non-blocking, TCP_NODELAY (accepted sockets inherit it), SO_REUSEPORT: each
// worker has one of its own.
[[nodiscard]] std::expected<FileDescriptor, std::error_code> listen_transparently(
    Family family, std::uint16_t port);

struct Accepted {
  FileDescriptor socket;  // non-blocking
  rules::Ends ends;       // server: where the client meant to connect to
};
// operation_would_block when nobody waits.
[[nodiscard]] std::expected<Accepted, std::error_code> accept_transparently(int listener);

// Starts to connect to `ends.server` with the client's address, and any port, as source. The socket
// becomes writable when the attempt has ended: see connect_error(). EADDRNOTAVAIL: no port is left
// for this client.
[[nodiscard]] std::expected<FileDescriptor, std::error_code> connect_as_client(
    const rules::Ends& ends);
[[nodiscard]] std::error_code connect_error(int socket);

}  // namespace postern::smtp_proxy
