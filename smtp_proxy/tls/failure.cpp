#include "smtp_proxy/tls/failure.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <system_error>

namespace postern::smtp_proxy {
namespace {

struct FreeText {
  void operator()(char* text) const { OPENSSL_free(text); }
};

struct Words {
  int reason;
  const char* text;
};

// What happens in the field; for anything else OpenSSL's own words have to do.
constexpr Words kWords[]{
    {SSL_R_UNSUPPORTED_PROTOCOL, "the peer offers no TLS 1.2 or 1.3"},
    {SSL_R_VERSION_TOO_LOW, "the peer offers no TLS 1.2 or 1.3"},
    {SSL_R_WRONG_SSL_VERSION, "the peer offers no TLS 1.2 or 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, "the peer does not speak TLS"},
    {SSL_R_HTTP_REQUEST, "the peer does not speak TLS, but HTTP"},
    {SSL_R_HTTPS_PROXY_REQUEST, "the peer does not speak TLS, but HTTP"},
    {SSL_R_NO_SHARED_CIPHER, "no cipher suite in common"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, "no group for the key exchange in common"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, "no signature algorithm in common"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no signature algorithm in common"},
    {SSL_R_DH_KEY_TOO_SMALL, "the peer's Diffie-Hellman key is too small"},
    {SSL_R_EE_KEY_TOO_SMALL, "the key in the peer's certificate is too small"},
    {SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED,
     "the peer knows no secure renegotiation (RFC 5746)"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "a record was damaged on its way"},
};

std::string of_verification(SSL* ssl) {
  const long result = SSL_get_verify_result(ssl);
  std::string text = std::string("the peer's certificate is not accepted: ") +
                     X509_verify_cert_error_string(result);
  X509_VERIFY_PARAM* const wanted = SSL_get0_param(ssl);
  if (result == X509_V_ERR_HOSTNAME_MISMATCH) {
    text += std::string(" (expected ") + X509_VERIFY_PARAM_get0_host(wanted, 0) + ')';
  } else if (result == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    const std::unique_ptr<char, FreeText> address(X509_VERIFY_PARAM_get1_ip_asc(wanted));
    text += std::string(" (expected ") + address.get() + ')';
  }
  return text;
}

std::string of_reason(SSL* ssl, unsigned long code) {
  const int reason = ERR_GET_REASON(code);
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return of_verification(ssl);
  }
  if (reason >= SSL_AD_REASON_OFFSET) {
    return std::string("the peer refused: ") +
           SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
  }
  for (const Words& words : kWords) {
    if (words.reason == reason) {
      return words.text;
    }
  }
  const char* text = ERR_reason_error_string(code);
  return text != nullptr ? text : "TLS failed";
}

}  // namespace

std::string take_tls_failure(SSL* ssl, int system_error) {
  const unsigned long code = ERR_peek_error();  // the first is the cause
  ERR_clear_error();
  if (code != 0 && ERR_GET_LIB(code) == ERR_LIB_SSL) {
    return of_reason(ssl, code);
  }
  if (code != 0) {
    const char* text = ERR_reason_error_string(code);
    return text != nullptr ? text : "TLS failed";
  }
  return system_error != 0 ? std::generic_category().message(system_error)
                           : "the peer closed the connection";
}

std::string take_openssl_error() {
  const char* text = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return text != nullptr ? text : "OpenSSL gives no reason";
}

}  // namespace postern::smtp_proxy
