// An authority of a test's own, and the certificates that it issues, as files.
// Errors:   std::runtime_error.
// Lifetime: of the files, the folder's.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::testing {

struct IssuedCertificate {
  std::filesystem::path certificate;  // PEM
  std::filesystem::path private_key;  // PEM, mode 600
  std::string fingerprint;            // as fingerprint_of() has it
};

class TestCa {
 public:
  enum class KeyType { rsa_2048, ecdsa_p256 };

  // The folder is made if need be.
  explicit TestCa(std::filesystem::path folder, std::string name = "Test authority");

  [[nodiscard]] const std::filesystem::path& file() const { return file_; }
  // For DNS names and IP addresses, the first of which is the common name. The files are `file`.pem
  // and `file`.key: issued again under the same name, they are replaced at once, as renewals are.
  [[nodiscard]] IssuedCertificate issue(std::string_view file,
                                        const std::vector<std::string>& names,
                                        KeyType type = KeyType::ecdsa_p256,
                                        std::chrono::days lifetime = std::chrono::days{90}) const;

 private:
  std::filesystem::path folder_;
  std::filesystem::path file_;
  std::string name_;
  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> certificate_;
};

// SHA-256, "AB:CD:...".
[[nodiscard]] std::string fingerprint_of(X509* certificate);

}  // namespace postern::testing
