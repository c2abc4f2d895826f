// TLS over one non-blocking socket. Wraps OpenSSL's SSL; knows no loop and never waits.
// What the socket does not take is kept here, encrypted: so no plain text waits in memory, and
// OpenSSL never has to be called again with the same octets.
// Why not:  asio::ssl::stream keeps 34 KiB of buffers for as long as a session lives, and drives an
//           asynchronous stream of Asio's; ours has neither a reactor nor a buffer while it is idle.
//           OpenSSL's own socket BIO writes with write(), which raises SIGPIPE.
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
  // Takes the SSL over; made by ServerTls::accept() and ClientTls::connect(). Throws std::bad_alloc.
  TlsChannel(SSL* ssl, int socket);
  TlsChannel(TlsChannel&&) noexcept;
  TlsChannel& operator=(TlsChannel&&) = delete;
  ~TlsChannel();

  // wants_read: nothing more is in the socket; to be called again when there is. wants_write: not
  // everything was sent; to be called again when the socket is writable. closed: the peer's
  // close_notify, or the end of its stream. failed: final.
  enum class Status : std::uint8_t { done, wants_read, wants_write, closed, failed };

  [[nodiscard]] Status handshake();
  struct Transfer {
    Status status;
    std::size_t octets = 0;
  };
  // Reads until the buffer is full or the socket is empty, so that an edge-triggered watch may be
  // waited for after wants_read. done: there may be more, also when nothing came: a peer that sends
  // much that is no data does not get all of its worker's time.
  [[nodiscard]] Transfer read(std::span<char> buffer);
  // done: all is taken; what the socket did not take is unsent. wants_read: nothing is, because the
  // peer began a message that has to be read to its end first (a KeyUpdate in two records).
  [[nodiscard]] Transfer write(std::string_view bytes);
  [[nodiscard]] bool has_unsent() const;
  void flush();
  // Says close_notify if the socket takes it; nothing is waited for.
  void shut_down();

  [[nodiscard]] bool is_established() const { return is_established_; }
  [[nodiscard]] bool was_resumed() const;
  // "TLSv1.3 TLS_AES_128_GCM_SHA256"
  [[nodiscard]] std::string description() const;
  // Why it failed, in words; printable.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct Link;
  friend struct LinkMethod;
  struct Free {
    void operator()(SSL* ssl) const;
  };
  Status status_of(int result);

  std::unique_ptr<SSL, Free> ssl_;
  std::unique_ptr<Link> link_;
  std::string failure_;
  bool is_established_ = false;
};

}  // namespace postern::smtp_proxy
