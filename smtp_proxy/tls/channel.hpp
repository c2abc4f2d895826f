// TLS over one non-blocking socket. Wraps OpenSSL's SSL; knows no loop and never waits.
// Why not:  asio::ssl::stream keeps 34 KiB of buffers for as long as a session lives, and drives an
//           asynchronous stream of Asio's; ours has neither a reactor nor a buffer while it is idle.
// Units:    octets.
// Threads:  the worker's.
// Lifetime: the socket is the caller's and must live longer. The contexts it came from may go.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {

class TlsChannel {
 public:
  // Takes the SSL over; made by ServerTls::accept() and ClientTls::connect().
  explicit TlsChannel(SSL* ssl) : ssl_(ssl) {}

  // wants_read, wants_write: to be called again when the socket is readable, writable.
  // closed: the peer's close_notify, or the end of its stream. failed: final.
  enum class Status : std::uint8_t { done, wants_read, wants_write, closed, failed };

  [[nodiscard]] Status handshake();
  struct Transfer {
    Status status;
    std::size_t octets = 0;  // with done: at least one
  };
  // Reads until the buffer is full or the socket is empty, so that an edge-triggered watch may be
  // waited for after wants_read. With octets != 0 the status is done, or wants_read where nothing more
  // is there.
  [[nodiscard]] Transfer read(std::span<char> buffer);
  // Writes as much as the socket takes. After wants_write the next call must begin with the octets
  // that were not taken, and may move or lengthen them.
  [[nodiscard]] Transfer write(std::string_view bytes);
  // Says close_notify if the socket takes it; nothing is waited for.
  void shut_down();

  [[nodiscard]] bool was_resumed() const;
  // "TLSv1.3 TLS_AES_256_GCM_SHA384"
  [[nodiscard]] std::string description() const;
  // Why the last call failed, in words; printable.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct Free {
    void operator()(SSL* ssl) const;
  };
  Status status_of(int result);

  std::unique_ptr<SSL, Free> ssl_;
  std::string failure_;
};

}  // namespace postern::smtp_proxy
