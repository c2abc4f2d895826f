#include "tests/support/test_ca.hpp"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <span>
#include <stdexcept>

namespace postern::testing {
namespace {

namespace fs = std::filesystem;

void must(bool is_good, const char* what) {
  if (!is_good) {
    throw std::runtime_error(std::string("OpenSSL: ") + what);
  }
}

std::shared_ptr<EVP_PKEY> make_key(TestCa::KeyType type) {
  EVP_PKEY* key = type == TestCa::KeyType::rsa_2048 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
  must(key != nullptr, "key");
  return {key, EVP_PKEY_free};
}

// `issuer`: nullptr for one that signs itself.
void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer == nullptr ? certificate : issuer, certificate, nullptr, nullptr,
                 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  must(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1, "extension");
  X509_EXTENSION_free(extension);
}

std::shared_ptr<X509> make_certificate(EVP_PKEY* key, const std::string& name,
                                       std::chrono::days lifetime) {
  const std::shared_ptr<X509> certificate(X509_new(), X509_free);
  must(certificate != nullptr, "certificate");
  must(X509_set_version(certificate.get(), X509_VERSION_3) == 1, "version");
  std::uint64_t serial = 0;
  must(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1, "random");
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1);
  // One that has expired was valid once.
  constexpr long kDay = 86'400;
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -30 * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), lifetime.count() * kDay);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  must(X509_set_pubkey(certificate.get(), key) == 1, "public key");
  return certificate;
}

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> octets{};
  return ::inet_pton(AF_INET, name.c_str(), octets.data()) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), octets.data()) == 1;
}

// Whoever reads `path` sees the old content or the new one.
template <typename Write>
void replace_file(const fs::path& path, Write write) {
  const fs::path partial = path.string() + ".new";
  {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(partial.c_str(), "w"),
                                                               std::fclose);
    must(file != nullptr && ::fchmod(::fileno(file.get()), 0600) == 0 && write(file.get()) == 1,
         "PEM file");
  }
  fs::rename(partial, path);
}

void write_certificate(const fs::path& path, X509* certificate) {
  replace_file(path, [&](std::FILE* file) { return PEM_write_X509(file, certificate); });
  fs::permissions(path, static_cast<fs::perms>(0644));
}

}  // namespace

TestCa::TestCa(fs::path folder, std::string name)
    : folder_(std::move(folder)),
      file_(folder_ / "ca.pem"),
      name_(std::move(name)),
      key_(make_key(KeyType::ecdsa_p256)),
      certificate_(make_certificate(key_.get(), name_, std::chrono::days{365})) {
  fs::create_directories(folder_);
  X509* own = certificate_.get();
  X509_set_issuer_name(own, X509_get_subject_name(own));
  add_extension(own, nullptr, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(own, nullptr, NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(own, nullptr, NID_subject_key_identifier, "hash");
  must(X509_sign(own, key_.get(), EVP_sha256()) > 0, "signature");
  write_certificate(file_, own);
}

IssuedCertificate TestCa::issue(std::string_view file, const std::vector<std::string>& names,
                                KeyType type, std::chrono::days lifetime) const {
  const auto key = make_key(type);
  const auto certificate = make_certificate(key.get(), names.at(0), lifetime);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
  std::string alternatives;
  for (const std::string& name : names) {
    alternatives +=
        (alternatives.empty() ? "" : ",") + std::string(is_address(name) ? "IP:" : "DNS:") + name;
  }
  add_extension(certificate.get(), certificate_.get(), NID_subject_alt_name, alternatives);
  add_extension(certificate.get(), certificate_.get(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(certificate.get(), certificate_.get(), NID_ext_key_usage, "serverAuth");
  add_extension(certificate.get(), certificate_.get(), NID_subject_key_identifier, "hash");
  add_extension(certificate.get(), certificate_.get(), NID_authority_key_identifier, "keyid");
  must(X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0, "signature");
  const std::string base = (folder_ / file).string();
  replace_file(base + ".key", [&](std::FILE* to) {
    return PEM_write_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
  write_certificate(base + ".pem", certificate.get());
  return {.certificate = base + ".pem",
          .private_key = base + ".key",
          .fingerprint = fingerprint_of(certificate.get())};
}

std::string fingerprint_of(X509* certificate) {
  std::array<unsigned char, 32> digest{};
  unsigned octets = digest.size();
  must(X509_digest(certificate, EVP_sha256(), digest.data(), &octets) == 1, "digest");
  std::string text;
  for (const unsigned char octet : digest) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    text += text.empty() ? "" : ":";
    text += {kDigits[octet >> 4], kDigits[octet & 15]};
  }
  return text;
}

}  // namespace postern::testing
