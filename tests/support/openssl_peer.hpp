// The other end of a TLS connection, by OpenSSL alone and with whatever settings: what ours is tried against.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <csignal>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/certificates.hpp"

namespace postern::testing {

class OpensslPeer {
 public:
  enum class Role : bool { client, server };
  using Settings = std::function<void(SSL_CTX*)>;

  OpensslPeer(Role role, int socket, const Settings& settings = {})
      : context_(SSL_CTX_new(role == Role::client ? TLS_client_method() : TLS_server_method()),
                 SSL_CTX_free) {
    SSL_CTX_set_mode(context_.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // Tests choose what ours refuses.
    SSL_CTX_set_security_level(context_.get(), 0);
    SSL_CTX_set_options(context_.get(), SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    if (settings) {
      settings(context_.get());
    }
    open(socket);
    if (role == Role::client) {
      SSL_set_connect_state(ssl_.get());
    } else {
      SSL_set_accept_state(ssl_.get());
    }
  }
  // A further connection to the same server.
  OpensslPeer(const OpensslPeer& server, int socket) : context_(server.context_) {
    open(socket);
    SSL_set_accept_state(ssl_.get());
  }

  static Settings serves(const MadeCertificate& certificate) {
    return [&certificate](SSL_CTX* context) {
      if (SSL_CTX_use_certificate(context, certificate.certificate()) != 1 ||
          SSL_CTX_use_PrivateKey(context, certificate.key()) != 1) {
        throw std::runtime_error("the peer's certificate is not accepted");
      }
    };
  }

  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
  [[nodiscard]] SSL_CTX* context() const { return context_.get(); }

  // What SSL_set_tlsext_host_name() does, but for its cast.
  void say_name(const char* name) const {
    SSL_ctrl(ssl(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
             const_cast<char*>(name));
  }

  // Whether it is over, well or not.
  bool shake_hands() {
    const WithoutSigpipe quiet;
    if (is_established || !failure.empty()) {
      return true;
    }
    ERR_clear_error();
    is_established = went_on(SSL_do_handshake(ssl()));
    return is_established || !failure.empty();
  }
  void read() {
    const WithoutSigpipe quiet;
    std::array<char, 4096> bytes{};
    std::size_t got = 0;
    while (went_on(SSL_read_ex(ssl(), bytes.data(), bytes.size(), &got))) {
      heard.append(bytes.data(), got);
    }
  }
  // What it took.
  std::size_t write(std::string_view bytes) {
    const WithoutSigpipe quiet;
    std::size_t sent = 0;
    return went_on(SSL_write_ex(ssl(), bytes.data(), bytes.size(), &sent)) ? sent : 0;
  }

  std::string heard;
  std::string failure;
  bool is_established = false;
  bool has_closed = false;  // it was told close_notify

 private:
  void open(int socket) {
    ssl_.reset(SSL_new(context_.get()), SSL_free);
    SSL_set_fd(ssl_.get(), socket);
  }
  // OpenSSL's socket BIO writes with write(). Only here, so that ours is seen to raise it.
  struct WithoutSigpipe {
    WithoutSigpipe() : before(std::signal(SIGPIPE, SIG_IGN)) {}
    ~WithoutSigpipe() { std::signal(SIGPIPE, before); }
    WithoutSigpipe(const WithoutSigpipe&) = delete;
    WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;
    void (*before)(int);
  };

  bool went_on(int result) {
    switch (SSL_get_error(ssl(), result)) {
      case SSL_ERROR_NONE:
        return true;
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return false;
      case SSL_ERROR_ZERO_RETURN:
        has_closed = true;
        return false;
      default: {
        const char* text = ERR_reason_error_string(ERR_peek_error());
        failure = text != nullptr ? text : "connection lost";
        ERR_clear_error();
        return false;
      }
    }
  }

  std::shared_ptr<SSL_CTX> context_;
  std::shared_ptr<SSL> ssl_;
};

}  // namespace postern::testing
