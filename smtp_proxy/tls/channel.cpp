#include "smtp_proxy/tls/channel.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>
#include <utility>

#include "smtp_proxy/tls/failure.hpp"

namespace postern::smtp_proxy {
namespace {

// What is smaller waits for what follows in the same call: the messages of a handshake, or a session
// ticket and a reply. A full record goes out without being copied.
constexpr std::size_t kWorthACall = 4096;
// What one read may take from the socket beyond the buffer that it is to fill.
constexpr std::size_t kReadAllowance = 64 * 1024;
constexpr std::size_t kWithoutLimit = std::numeric_limits<std::size_t>::max();
// Data that waits is bounded by whoever writes it; answers to KeyUpdates of a peer that does not read
// them would not be.
constexpr std::size_t kMostUnsent = 4 * 1024 * 1024;

}  // namespace

// Between OpenSSL and the socket.
struct TlsChannel::Link {
  int socket = -1;
  std::string unsent;
  std::size_t allowance = 0;  // octets to read before others have their turn
  bool is_read_empty = false;
  bool is_full = false;
  bool has_ended = false;

  void begin(std::size_t octets_to_read) {
    is_read_empty = false;
    is_full = false;  // it may not be any more, and who was told so may be somebody else
    allowance = octets_to_read;
  }

  ssize_t receive(std::span<char> to) {
    if (is_read_empty || allowance == 0) {
      errno = EAGAIN;
      return -1;
    }
    const std::size_t wanted = std::min(to.size(), allowance);
    const ssize_t got = ::recv(socket, to.data(), wanted, MSG_DONTWAIT);
    // A stream that gave less than was asked for is empty: saves the call that would say so.
    is_read_empty = got < static_cast<ssize_t>(wanted);
    has_ended = got == 0;
    allowance -= got > 0 ? static_cast<std::size_t>(got) : 0;
    return got;
  }

  void put(std::string_view bytes) {
    if (unsent.empty() && bytes.size() >= kWorthACall) {
      bytes.remove_prefix(send(bytes));
    }
    unsent += bytes;
  }

  void send_unsent() {
    if (unsent.empty() || is_full) {
      return;
    }
    const std::size_t sent = send(unsent);
    if (sent == unsent.size()) {
      std::string().swap(unsent);
    } else {
      unsent.erase(0, sent);
    }
  }

  std::size_t send(std::string_view bytes) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      ::shutdown(socket, SHUT_RDWR);  // with a hole in it nothing more may follow
      return bytes.size();
    }
    const std::size_t octets = sent < 0 ? 0 : static_cast<std::size_t>(sent);
    is_full = octets < bytes.size();
    return octets;
  }
};

// The same as OpenSSL calls it.
struct LinkMethod {
  static int read(BIO* bio, char* to, int octets) {
    BIO_clear_retry_flags(bio);
    const ssize_t got = of(bio).receive({to, static_cast<std::size_t>(octets)});
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
      BIO_set_retry_read(bio);
    }
    return static_cast<int>(got);
  }

  static int write(BIO* bio, const char* bytes, int octets) {
    BIO_clear_retry_flags(bio);
    of(bio).put({bytes, static_cast<std::size_t>(octets)});
    return octets;
  }

  static long control(BIO* bio, int command, long /*number*/, void* /*pointer*/) {
    switch (command) {
      case BIO_CTRL_FLUSH:  // at the end of a flight; handshake() sends it
        return 1;
      case BIO_CTRL_EOF:
        return of(bio).has_ended ? 1 : 0;
      default:
        return 0;
    }
  }

  static TlsChannel::Link& of(BIO* bio) {
    return *static_cast<TlsChannel::Link*>(BIO_get_data(bio));
  }

  // Never freed: connections use it until the process ends.
  static BIO_METHOD* make() {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (method == nullptr) {
      throw std::bad_alloc();
    }
    BIO_meth_set_read(method, read);
    BIO_meth_set_write(method, write);
    BIO_meth_set_ctrl(method, control);
    return method;
  }
};

// Without both flags OpenSSL takes the connection for broken, and never resumes its session.
void TlsChannel::Free::operator()(SSL* ssl) const {
  SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl);
}

TlsChannel::TlsChannel(SSL* ssl, int socket) : ssl_(ssl), link_(std::make_unique<Link>()) {
  static BIO_METHOD* const kMethod = LinkMethod::make();
  BIO* bio = BIO_new(kMethod);
  if (bio == nullptr) {
    throw std::bad_alloc();
  }
  link_->socket = socket;
  BIO_set_data(bio, link_.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
}

TlsChannel::TlsChannel(TlsChannel&&) noexcept = default;
TlsChannel::~TlsChannel() = default;

TlsChannel::Status TlsChannel::status_of(int result) {
  const int system_error = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE:
      return Status::done;
    case SSL_ERROR_WANT_READ:
      return Status::wants_read;
    case SSL_ERROR_ZERO_RETURN:
      return Status::closed;
    case SSL_ERROR_SYSCALL:
      failure_ = take_tls_failure(ssl_.get(), system_error);
      return Status::failed;
    default:
      failure_ = take_tls_failure(ssl_.get(), 0);
      return Status::failed;
  }
}

// SSL_get_error() looks into the thread's queue of errors, so each call begins with an empty one.
TlsChannel::Status TlsChannel::handshake() {
  if (!failure_.empty()) {
    return Status::failed;
  }
  ERR_clear_error();
  link_->begin(kWithoutLimit);
  Status status = status_of(SSL_do_handshake(ssl_.get()));
  link_->is_full = false;
  link_->send_unsent();  // also the alert that says why not
  if (status == Status::closed) {
    failure_ = "the peer closed the connection";
    status = Status::failed;
  }
  is_established_ = status == Status::done;
  return status == Status::wants_read && has_unsent() ? Status::wants_write : status;
}

TlsChannel::Transfer TlsChannel::read(std::span<char> buffer) {
  if (failure_.empty() && link_->unsent.size() > kMostUnsent) {
    failure_ = "the peer does not read";
  }
  if (!failure_.empty()) {
    return {.status = Status::failed};
  }
  link_->begin(buffer.size() + kReadAllowance);
  Status status = Status::done;
  std::size_t octets = 0;
  while (status == Status::done && octets < buffer.size()) {
    std::size_t got = 0;
    ERR_clear_error();
    status =
        status_of(SSL_read_ex(ssl_.get(), buffer.data() + octets, buffer.size() - octets, &got));
    octets += got;
  }
  link_->send_unsent();
  const bool is_empty = status == Status::wants_read && link_->is_read_empty;
  const bool is_over = status == Status::closed || status == Status::failed;
  return {
      .status = is_empty ? Status::wants_read : (is_over && octets == 0 ? status : Status::done),
      .octets = octets};
}

TlsChannel::Transfer TlsChannel::write(std::string_view bytes) {
  if (!failure_.empty()) {
    return {.status = Status::failed};
  }
  ERR_clear_error();
  link_->begin(kWithoutLimit);
  std::size_t octets = 0;
  const Status status = status_of(SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &octets));
  link_->send_unsent();
  return {.status = status, .octets = octets};
}

bool TlsChannel::has_unsent() const {
  return !link_->unsent.empty();
}

void TlsChannel::flush() {
  link_->is_full = false;
  link_->send_unsent();
}

void TlsChannel::shut_down() {
  if (is_established_ && failure_.empty()) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    link_->send_unsent();
    ERR_clear_error();
  }
}

bool TlsChannel::was_resumed() const {
  return SSL_session_reused(ssl_.get()) == 1;
}

std::string TlsChannel::description() const {
  return std::string(SSL_get_version(ssl_.get())) + ' ' + SSL_get_cipher_name(ssl_.get());
}

}  // namespace postern::smtp_proxy
