#include "smtp_proxy/tls/recommended.hpp"

#include <openssl/ssl.h>

#include <cstdint>
#include <stdexcept>

#include "smtp_proxy/tls/failure.hpp"

namespace postern::smtp_proxy {
namespace {

// RFC 9325 4.2, 4.2.1: the shorter AES first, as there.
constexpr const char* kCipherSuites =  // of TLS 1.3
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kCiphers =  // of TLS 1.2
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr int kSecurityLevel = 2;  // 112 bits: RSA from 2048, no SHA-1

// IGNORE_UNEXPECTED_EOF: SMTP has ends of its own, so a cut is told from an end without TLS, and many a peer closes
// without close_notify.
constexpr std::uint64_t kOptions = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;

void require(int result) {
  if (result <= 0) {
    throw std::runtime_error("OpenSSL refuses the settings of TLS: " + take_openssl_error());
  }
}

}  // namespace

void FreeContext::operator()(SSL_CTX* context) const {
  SSL_CTX_free(context);
}

ContextPointer make_recommended_context(TlsRole role) {
  ContextPointer context(
      SSL_CTX_new(role == TlsRole::server ? TLS_server_method() : TLS_client_method()));
  require(context != nullptr ? 1 : 0);
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_security_level(raw, kSecurityLevel);
  require(static_cast<int>(SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION)));
  require(static_cast<int>(SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION)));
  require(SSL_CTX_set_ciphersuites(raw, kCipherSuites));
  require(SSL_CTX_set_cipher_list(raw, kCiphers));
  require(static_cast<int>(SSL_CTX_set1_groups_list(raw, kGroups)));
  SSL_CTX_set_options(raw, kOptions);
  // An idle session holds no buffer; a busy one takes a whole record with one call.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  return context;
}

}  // namespace postern::smtp_proxy
