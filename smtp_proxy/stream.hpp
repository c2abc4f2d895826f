// One end of a session: a non-blocking TCP socket, with TLS over it or not, that waits without a buffer. The bytes are
// read into a buffer of the worker once they are there, so an idle session holds none.
// Lifetime: whoever waits on a stream is woken by wake(), and must then see that it is over.
// Threads:  the worker's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/core/secret.hpp"
#include "smtp_proxy/event_loop.hpp"
#include "smtp_proxy/tls/channel.hpp"
#include "smtp_proxy/transparent.hpp"

namespace postern::smtp_proxy {

class Stream {
 public:
  explicit Stream(EventLoop& loop) : watch_(loop) {}

  void open(FileDescriptor socket);
  [[nodiscard]] int native_handle() const { return socket_.get(); }

  // Return when the socket is ready, or after wake().
  net::awaitable<void> readable() { return watch_.readable(); }
  net::awaitable<void> writable() {
    return writes_wait_for_read_ ? watch_.readable() : watch_.writable();
  }
  // The peer closed or reset, or a connect failed; what it sent before may still be read.
  [[nodiscard]] bool has_ended() const { return watch_.has_ended(); }
  [[nodiscard]] bool has_unread() const { return watch_.has_unread(); }
  void wake() { watch_.wake(); }

  // end: the peer says no more; broken: it hears no more either.
  enum class Read : std::uint8_t { bytes, nothing_yet, end, broken };
  struct ReadResult {
    Read status;
    std::string_view bytes;  // within the buffer
  };
  ReadResult read(std::span<char> buffer);

  // Write at once what the socket takes and keep the rest for flush(). A failed socket swallows
  // everything: its end shows when it is read.
  void write(std::string_view bytes);
  void write_server_pieces(const Output& output);
  void flush();
  [[nodiscard]] bool has_pending() const {
    return !pending_.empty() || (tls_ != nullptr && tls_->has_unsent());
  }

  // From now on everything goes through TLS; nothing may be pending. Then handshake_step() until it says done or failed,
  // after wants_read when readable(), after wants_write when writable(). A stream whose TLS failed, then or later, is a
  // failed socket.
  void begin_tls(TlsChannel channel);
  [[nodiscard]] TlsChannel::Status handshake_step();
  [[nodiscard]] bool is_secured() const { return tls_ != nullptr && tls_->is_established(); }
  // With begin_tls(), until close(): "TLSv1.3 TLS_AES_128_GCM_SHA256"; why TLS failed, empty if it did not.
  [[nodiscard]] std::string tls_description() const { return tls_->description(); }
  [[nodiscard]] bool was_tls_resumed() const { return tls_->was_resumed(); }
  [[nodiscard]] const std::string& tls_failure() const { return tls_->failure(); }

  void shut_down_sending();
  void close();
  void reset();  // RST instead of FIN

 private:
  // How much was taken; all of it when the socket has failed.
  std::size_t taken(ssize_t sent, std::size_t offered);
  std::size_t send(std::string_view bytes);
  std::size_t send_pieces(const Output& output, std::size_t first_piece);
  ReadResult read_tls(std::span<char> buffer);
  std::size_t send_tls(std::string_view bytes);
  void write_pieces_as_records(const Output& output);
  void drop();

  FileDescriptor socket_;
  Watch watch_;
  SecretBytes pending_;
  std::unique_ptr<TlsChannel> tls_;
  bool writes_wait_for_read_ = false;  // see TlsChannel::write()
  bool shuts_down_when_flushed_ = false;
};

}  // namespace postern::smtp_proxy
