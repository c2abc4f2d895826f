// One end of a session: a non-blocking TCP socket that waits without a buffer. The bytes are read
// into a buffer of the worker once they are there, so an idle session holds none. Why not
// async_read_some: its buffer must be lent for as long as the peer is silent. Lifetime: waits end
// when the stream is closed or cancelled.     Threads: the worker's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/transparent.hpp"

namespace postern::smtp_proxy {

namespace net = boost::asio;

class Stream {
 public:
  explicit Stream(const net::any_io_executor& executor) : socket_(executor) {}

  void open(FileDescriptor socket, bool is_v4);
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }
  [[nodiscard]] int native_handle() { return socket_.native_handle(); }

  // Return when the socket is ready, or the wait was cancelled.
  net::awaitable<void> readable();
  net::awaitable<void> writable();

  enum class Read : std::uint8_t { bytes, nothing_yet, end };
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
  [[nodiscard]] bool has_pending() const { return !pending_.empty(); }

  void shut_down_sending();
  void cancel();
  void close();
  void reset();  // RST instead of FIN

 private:
  // How much was taken; all of it when the socket has failed.
  std::size_t send(std::string_view bytes);
  std::size_t send_pieces(const Output& output, std::size_t first_piece);

  net::ip::tcp::socket socket_;
  std::string pending_;
  bool shuts_down_when_flushed_ = false;
};

}  // namespace postern::smtp_proxy
