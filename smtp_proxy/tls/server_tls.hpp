// TLS towards clients, in a mailer's name: its certificates and the settings that go with them.
// Immutable: a renewed certificate makes a new one, and sessions keep what they began with.
// Source:   RFC 9325 (recommended settings), RFC 8446, RFC 5246, RFC 6066 3 (SNI), RFC 5077.
// Errors:   load() returns every problem of every file at once.
// Threads:  any.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "smtp_proxy/tls/certificate.hpp"
#include "smtp_proxy/tls/channel.hpp"
#include "smtp_proxy/tls/recommended.hpp"

namespace postern::smtp_proxy {

class ServerTls {
 public:
  struct Loaded {
    std::shared_ptr<const ServerTls> tls;  // nullptr with any problem that is no warning
    std::vector<CertificateProblem> problems;
  };
  // Pairs of different key types for the same names stand side by side, the client's abilities
  // choose; of pairs with different names SNI chooses, and without it the first. `now`: what expiry
  // is judged by.
  [[nodiscard]] static Loaded load(std::span<const CertificateFiles> pairs,
                                   std::chrono::system_clock::time_point now);
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  // Throws std::bad_alloc.
  [[nodiscard]] TlsChannel accept(int socket) const;
  [[nodiscard]] const std::vector<CertificateInfo>& certificates() const { return certificates_; }

 private:
  ServerTls(ContextPointer context, std::vector<CertificateInfo> certificates);

  ContextPointer context_;  // of the first names; those of others hang on it
  std::vector<CertificateInfo> certificates_;
};

}  // namespace postern::smtp_proxy
