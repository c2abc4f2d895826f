#include "smtp_proxy/stream.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace postern::smtp_proxy {
namespace {

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

}  // namespace

void Stream::open(FileDescriptor socket, bool is_v4) {
  socket_.assign(is_v4 ? net::ip::tcp::v4() : net::ip::tcp::v6(), socket.get());
  (void)socket.release();
}

net::awaitable<void> Stream::readable() {
  co_await socket_.async_wait(net::socket_base::wait_read, use_tuple);
}

net::awaitable<void> Stream::writable() {
  co_await socket_.async_wait(net::socket_base::wait_write, use_tuple);
}

Stream::ReadResult Stream::read(std::span<char> buffer) {
  const ssize_t got = recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got > 0) {
    return {.status = Read::bytes, .bytes = {buffer.data(), static_cast<std::size_t>(got)}};
  }
  return {.status = got < 0 && would_block() ? Read::nothing_yet : Read::end, .bytes = {}};
}

std::size_t Stream::send(std::string_view bytes) {
  const ssize_t sent =
      ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    return would_block() ? 0 : bytes.size();
  }
  return static_cast<std::size_t>(sent);
}

void Stream::write(std::string_view bytes) {
  if (bytes.empty()) {
    return;
  }
  if (pending_.empty()) {
    bytes.remove_prefix(send(bytes));
  }
  pending_ += bytes;
}

namespace {

constexpr std::size_t kMostPiecesAtOnce = 64;

// Where in an output the next octet to send stands.
struct Cursor {
  std::size_t piece = 0;
  std::size_t offset = 0;

  [[nodiscard]] std::string_view rest_of_piece(const Output& output) const {
    return output.server_piece(piece).substr(offset);
  }
  void advance(const Output& output, std::size_t octets) {
    while (octets > 0) {
      const std::size_t step = std::min(octets, rest_of_piece(output).size());
      octets -= step;
      offset += step;
      if (offset == output.server_piece(piece).size()) {
        ++piece;
        offset = 0;
      }
    }
  }
};

}  // namespace

std::size_t Stream::send_pieces(const Output& output, std::size_t first_piece) {
  std::array<iovec, kMostPiecesAtOnce> vectors;
  const std::size_t count = std::min(kMostPiecesAtOnce, output.server_piece_count() - first_piece);
  std::size_t offered = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view piece = output.server_piece(first_piece + i);
    vectors[i] = {.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()};
    offered += piece.size();
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = count;
  const ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    return would_block() ? 0 : offered;
  }
  return static_cast<std::size_t>(sent);
}

void Stream::write_server_pieces(const Output& output) {
  const std::size_t count = output.server_piece_count();
  if (count == 1) {
    return write(output.server_piece(0));
  }
  Cursor next;
  while (pending_.empty() && next.piece < count && next.offset == 0) {
    const std::size_t sent = send_pieces(output, next.piece);
    if (sent == 0) {
      break;
    }
    next.advance(output, sent);
  }
  for (; next.piece < count; next = {.piece = next.piece + 1, .offset = 0}) {
    pending_ += next.rest_of_piece(output);
  }
}

void Stream::flush() {
  if (!pending_.empty()) {
    const std::size_t sent = send(pending_);
    if (sent == pending_.size()) {
      std::string().swap(pending_);
    } else {
      pending_.erase(0, sent);
    }
  }
  if (pending_.empty() && shuts_down_when_flushed_) {
    shuts_down_when_flushed_ = false;
    ::shutdown(socket_.native_handle(), SHUT_WR);
  }
}

void Stream::shut_down_sending() {
  shuts_down_when_flushed_ = true;
  flush();
}

void Stream::cancel() {
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

void Stream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Stream::reset() {
  boost::system::error_code ignored;
  socket_.set_option(net::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
}

}  // namespace postern::smtp_proxy
