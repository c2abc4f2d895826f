// TLS towards clients, in a mailer's name: its certificates and the settings that go with them.
// Immutable: a renewed certificate makes a new one, and sessions keep what they began with.
// Source:   RFC 9325 (recommended settings), RFC 8446, RFC 5246, RFC 6066 3 (SNI), RFC 5077.
// Errors:   load() returns every problem of every file at once.
// Threads:  any.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "smtp_proxy/tls/channel.hpp"

namespace postern::smtp_proxy {

struct CertificateFiles {
  std::filesystem::path certificate;  // PEM: the leaf, then its intermediates
  std::filesystem::path private_key;  // PEM, not encrypted
};

// What administrators ask of a certificate.
struct CertificateInfo {
  CertificateFiles files;
  std::vector<std::string> names;  // subjectAltName's DNS names; else the common name
  std::chrono::system_clock::time_point not_before;
  std::chrono::system_clock::time_point not_after;
  std::string key_type;  // "RSA 2048", "ECDSA P-256", "Ed25519"
  std::string issuer;    // one line
  std::string tlsa;      // "3 1 1 <hex>": SHA-256 of the public key (RFC 6698)
};

struct CertificateProblem {
  enum class File : std::uint8_t { certificate, private_key };
  std::size_t index = 0;  // of the pair
  File file = File::certificate;
  bool is_warning =
      false;            // it can be used all the same: expired, soon to expire, no intermediates
  std::string message;  // what is wrong and what to do, one line
};

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
  ~ServerTls();
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  // Throws std::bad_alloc.
  [[nodiscard]] TlsChannel accept(int socket) const;
  [[nodiscard]] const std::vector<CertificateInfo>& certificates() const { return certificates_; }

 private:
  struct Group;  // the certificates of one set of names, in one SSL_CTX
  ServerTls();
  static int choose_by_name(SSL* ssl, int* alert, void* self);

  std::vector<Group> groups_;
  std::vector<CertificateInfo> certificates_;
};

// Warned of when less than this is left.
inline constexpr std::chrono::days kSoonExpiring{14};

}  // namespace postern::smtp_proxy
