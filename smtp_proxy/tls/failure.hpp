// Why TLS failed, in words for an administrator: one line, printable.
#pragma once

#include <openssl/types.h>

#include <string>

namespace postern::smtp_proxy {

// Of the call that has just failed with SSL_ERROR_SSL or SSL_ERROR_SYSCALL. `system_error`: errno
// after it. Empties OpenSSL's queue of errors.
[[nodiscard]] std::string take_tls_failure(SSL* ssl, int system_error);

// The same where there is no connection: "no start line".
[[nodiscard]] std::string take_openssl_error();

}  // namespace postern::smtp_proxy
