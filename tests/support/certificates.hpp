// Certificates made on the spot.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::testing {

// "RSA:2048", "EC:P-256", "ED25519", as EVP_PKEY_Q_keygen() takes them.
struct KeyWish {
  std::string type = "EC";
  std::string detail = "P-256";
};

class MadeCertificate;

struct CertificateWish {
  std::vector<std::string> names;  // subjectAltName; "IP:192.0.2.1" for an address
  std::string common_name;
  KeyWish key;
  const MadeCertificate* issuer = nullptr;  // nullptr: signs itself
  bool is_authority = false;
  std::chrono::hours begins{-24};  // from now
  std::chrono::hours ends{24 * 365};
  std::string digest = "SHA256";
};

class MadeCertificate {
 public:
  explicit MadeCertificate(const CertificateWish& wish);

  [[nodiscard]] X509* certificate() const { return certificate_.get(); }
  [[nodiscard]] EVP_PKEY* key() const { return key_.get(); }
  [[nodiscard]] std::string pem() const;
  [[nodiscard]] std::string key_pem(std::string_view password = "") const;

 private:
  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> certificate_;
};

}  // namespace postern::testing
