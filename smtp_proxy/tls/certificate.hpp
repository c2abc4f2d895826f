// A certificate with its chain and its key, read from files and judged as the peers will judge it.
// Source:   RFC 5280, RFC 6125, RFC 8446 4.4.2 (order of the chain), RFC 9325 4.5 (sizes of keys), RFC 6698.
// Errors:   every problem of both files at once.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

// Warned of when less than this is left.
inline constexpr std::chrono::days kSoonExpiring{14};

struct FreeCertificate {
  void operator()(X509* certificate) const;
  void operator()(EVP_PKEY* key) const;
};
using CertificatePointer = std::unique_ptr<X509, FreeCertificate>;
using KeyPointer = std::unique_ptr<EVP_PKEY, FreeCertificate>;

struct Certificate {
  std::vector<CertificatePointer> chain;  // the leaf first
  KeyPointer key;
  CertificateInfo info;
};

// Of pair `index`; what it finds goes to `problems`. nullopt with any that is no warning.
[[nodiscard]] std::optional<Certificate> load_certificate(
    const CertificateFiles& files, std::size_t index, std::chrono::system_clock::time_point now,
    std::vector<CertificateProblem>& problems);

// "*.example.org" matches one label (RFC 6125 6.4.3). Either in any case.
[[nodiscard]] bool matches_name(std::string_view certified, std::string_view name);

}  // namespace postern::smtp_proxy
