#include "tests/support/certificates.hpp"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <functional>
#include <stdexcept>

namespace postern::testing {
namespace {

std::string written(const std::function<int(BIO*)>& write) {
  const std::unique_ptr<BIO, decltype([](BIO* bio) { BIO_free(bio); })> bio(BIO_new(BIO_s_mem()));
  if (write(bio.get()) != 1) {
    throw std::runtime_error("cannot write PEM");
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

EVP_PKEY* make_key(const KeyWish& wish) {
  if (wish.type == "RSA") {
    return EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA",
                             static_cast<std::size_t>(std::stoul(wish.detail)));
  }
  if (wish.type == "EC") {
    return EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", wish.detail.c_str());
  }
  return EVP_PKEY_Q_keygen(nullptr, nullptr, wish.type.c_str());
}

void add_extension(X509* certificate, int kind, const std::string& value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
  if (extension == nullptr || X509_add_ext(certificate, extension, -1) != 1) {
    throw std::runtime_error("cannot add to a certificate: " + value);
  }
  X509_EXTENSION_free(extension);
}

std::string alternative_names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ",") + (name.starts_with("IP:") ? name : "DNS:" + name);
  }
  return text;
}

void fill(X509* certificate, const CertificateWish& wish, EVP_PKEY* key) {
  std::uint32_t serial = 0;
  RAND_bytes(static_cast<unsigned char*>(static_cast<void*>(&serial)), sizeof serial);
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial + std::uint64_t{1});
  X509_gmtime_adj(X509_getm_notBefore(certificate), std::chrono::seconds(wish.begins).count());
  X509_gmtime_adj(X509_getm_notAfter(certificate), std::chrono::seconds(wish.ends).count());
  X509_set_pubkey(certificate, key);
  if (!wish.common_name.empty()) {
    X509_NAME_add_entry_by_txt(
        X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
        static_cast<const unsigned char*>(static_cast<const void*>(wish.common_name.data())),
        static_cast<int>(wish.common_name.size()), -1, 0);
  }
  if (!wish.names.empty()) {
    add_extension(certificate, NID_subject_alt_name, alternative_names(wish.names));
  }
  add_extension(certificate, NID_basic_constraints,
                wish.is_authority ? "critical,CA:TRUE" : "CA:FALSE");
}

}  // namespace

MadeCertificate::MadeCertificate(const CertificateWish& wish)
    : key_(make_key(wish.key), EVP_PKEY_free), certificate_(X509_new(), X509_free) {
  fill(certificate(), wish, key());
  X509* const issuer = wish.issuer != nullptr ? wish.issuer->certificate() : certificate();
  EVP_PKEY* const signing = wish.issuer != nullptr ? wish.issuer->key() : key();
  X509_set_issuer_name(certificate(), X509_get_subject_name(issuer));
  const EVP_MD* digest = EVP_PKEY_get_base_id(signing) == EVP_PKEY_ED25519
                             ? nullptr
                             : EVP_get_digestbyname(wish.digest.c_str());
  if (X509_sign(certificate(), signing, digest) <= 0) {
    throw std::runtime_error("cannot sign a certificate");
  }
}

std::string MadeCertificate::pem() const {
  return written([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate()); });
}

std::string MadeCertificate::key_pem(std::string_view password) const {
  return written([&](BIO* bio) {
    return PEM_write_bio_PKCS8PrivateKey(bio, key(), password.empty() ? nullptr : EVP_aes_256_cbc(),
                                         password.empty() ? nullptr : password.data(),
                                         static_cast<int>(password.size()), nullptr, nullptr);
  });
}

}  // namespace postern::testing
