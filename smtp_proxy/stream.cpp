#include "smtp_proxy/stream.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

namespace postern::smtp_proxy {
namespace {

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

}  // namespace

void Stream::open(FileDescriptor socket) {
  socket_ = std::move(socket);
  watch_.start(socket_.get(), Watch::kStream);
}

Stream::ReadResult Stream::read(std::span<char> buffer) {
  if (tls_ != nullptr) {
    return read_tls(buffer);
  }
  const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < static_cast<ssize_t>(buffer.size())) {
    watch_.was_read_empty();
  }
  if (got > 0) {
    return {.status = Read::bytes, .bytes = {buffer.data(), static_cast<std::size_t>(got)}};
  }
  if (got == 0) {
    return {.status = Read::end, .bytes = {}};
  }
  return {.status = would_block() ? Read::nothing_yet : Read::broken, .bytes = {}};
}

std::size_t Stream::taken(ssize_t sent, std::size_t offered) {
  if (sent < 0 && !would_block()) {
    // Whatever failed: with a hole in it nothing more may follow, or a body could turn into commands.
    ::shutdown(socket_.get(), SHUT_RDWR);
    return offered;
  }
  const std::size_t octets = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  if (octets < offered) {
    watch_.was_written_full();
  }
  return octets;
}

std::size_t Stream::send(std::string_view bytes) {
  if (tls_ != nullptr) {
    return send_tls(bytes);
  }
  return taken(::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL),
               bytes.size());
}

void Stream::write(std::string_view bytes) {
  if (bytes.empty()) {
    return;
  }
  if (pending_.empty()) {
    bytes.remove_prefix(send(bytes));
  }
  append(pending_, bytes);
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
  return taken(sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL), offered);
}

void Stream::write_server_pieces(const Output& output) {
  const std::size_t count = output.server_piece_count();
  if (count == 1) {
    return write(output.server_piece(0));
  }
  if (tls_ != nullptr) {
    return write_pieces_as_records(output);
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
    append(pending_, next.rest_of_piece(output));
  }
}

void Stream::flush() {
  if (tls_ != nullptr) {
    tls_->flush();
  }
  if (!pending_.empty()) {
    const std::size_t sent = send(view_of(pending_));
    if (sent == pending_.size()) {
      SecretBytes().swap(pending_);
    } else {
      pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(sent));
    }
  }
  if (tls_ != nullptr && tls_->has_unsent()) {
    watch_.was_written_full();
  }
  if (!has_pending() && shuts_down_when_flushed_) {
    shuts_down_when_flushed_ = false;
    if (tls_ != nullptr) {
      tls_->shut_down();
    }
    ::shutdown(socket_.get(), SHUT_WR);
  }
}

void Stream::shut_down_sending() {
  shuts_down_when_flushed_ = true;
  flush();
}

void Stream::begin_tls(TlsChannel channel) {
  assert(!has_pending());
  tls_ = std::make_unique<TlsChannel>(std::move(channel));
}

TlsChannel::Status Stream::handshake_step() {
  const TlsChannel::Status status = tls_->handshake();
  if (status == TlsChannel::Status::wants_read) {
    watch_.was_read_empty();
  } else if (status == TlsChannel::Status::failed) {
    ::shutdown(socket_.get(), SHUT_RDWR);
  }
  if (tls_->has_unsent()) {
    watch_.was_written_full();
  }
  return status;
}

Stream::ReadResult Stream::read_tls(std::span<char> buffer) {
  if (!tls_->is_established()) {
    return {.status = Read::broken, .bytes = {}};  // OpenSSL would go on with the handshake
  }
  const auto [status, octets] = tls_->read(buffer);
  if (status == TlsChannel::Status::wants_read) {
    watch_.was_read_empty();
  } else if (status == TlsChannel::Status::failed) {
    ::shutdown(socket_.get(), SHUT_RDWR);
    return {.status = Read::broken, .bytes = {}};
  }
  if (writes_wait_for_read_) {
    flush();
  }
  if (tls_->has_unsent()) {
    watch_.was_written_full();
  }
  if (octets > 0) {
    return {.status = Read::bytes, .bytes = {buffer.data(), octets}};
  }
  return {.status = status == TlsChannel::Status::closed ? Read::end : Read::nothing_yet,
          .bytes = {}};
}

std::size_t Stream::send_tls(std::string_view bytes) {
  const auto [status, octets] = tls_->write(bytes);
  if (status != TlsChannel::Status::done && status != TlsChannel::Status::wants_read) {
    ::shutdown(socket_.get(), SHUT_RDWR);
    return bytes.size();
  }
  writes_wait_for_read_ = status == TlsChannel::Status::wants_read;
  if (writes_wait_for_read_) {
    watch_.was_read_empty();
  }
  if (tls_->has_unsent()) {
    watch_.was_written_full();
  }
  return octets;
}

// Small pieces share a record; a large one is cut where a record ends, and goes out uncopied.
void Stream::write_pieces_as_records(const Output& output) {
  constexpr std::size_t kRecord = 16384;  // RFC 8446 5.1
  std::array<char, kRecord> record;
  std::size_t filled = 0;
  for (std::size_t i = 0; i < output.server_piece_count(); ++i) {
    std::string_view piece = output.server_piece(i);
    while (!piece.empty()) {
      if (filled == 0 && piece.size() >= kRecord) {
        const std::size_t whole = piece.size() / kRecord * kRecord;
        write(piece.substr(0, whole));
        piece.remove_prefix(whole);
        continue;
      }
      const std::size_t step = piece.copy(record.data() + filled, kRecord - filled);
      piece.remove_prefix(step);
      filled += step;
      if (filled == kRecord) {
        write({record.data(), filled});
        filled = 0;
      }
    }
  }
  write({record.data(), filled});
  if (output.has_secret) {
    wipe(record);
  }
}

void Stream::close() {
  if (tls_ != nullptr) {
    tls_->shut_down();
  }
  drop();
}

void Stream::reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  drop();
}

void Stream::drop() {
  watch_.stop();
  watch_.wake();
  tls_.reset();  // it would go on with whoever gets the descriptor next
  socket_ = FileDescriptor();
}

}  // namespace postern::smtp_proxy
