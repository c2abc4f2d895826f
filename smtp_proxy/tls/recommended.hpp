// The settings of TLS that both roles share, as RFC 9325 recommends them: TLS 1.2 and 1.3, nothing without forward secrecy
// or authenticated encryption, no compression, no renegotiation, no early data.
#pragma once

#include <openssl/types.h>

#include <memory>

namespace postern::smtp_proxy {

struct FreeContext {
  void operator()(SSL_CTX* context) const;
};
using ContextPointer = std::unique_ptr<SSL_CTX, FreeContext>;

enum class TlsRole : bool { server, client };

// Throws std::runtime_error.
[[nodiscard]] ContextPointer make_recommended_context(TlsRole role);

}  // namespace postern::smtp_proxy
