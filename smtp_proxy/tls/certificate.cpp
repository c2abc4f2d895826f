#include "smtp_proxy/tls/certificate.hpp"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <expected>
#include <system_error>
#include <utility>

#include "smtp_proxy/tls/failure.hpp"

namespace postern::smtp_proxy {
namespace {

using std::chrono::system_clock;
using File = CertificateProblem::File;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using BioPointer = std::unique_ptr<BIO, FreeBio>;

class Report {
 public:
  Report(const CertificateFiles& files, std::size_t index,
         std::vector<CertificateProblem>& problems)
      : files_(files), index_(index), problems_(problems) {}

  void error(File file, std::string_view text) {
    has_errors_ = true;
    add(file, false, text);
  }
  void warning(File file, std::string_view text) { add(file, true, text); }
  [[nodiscard]] bool has_errors() const { return has_errors_; }

 private:
  void add(File file, bool is_warning, std::string_view text) {
    const auto& path = file == File::certificate ? files_.certificate : files_.private_key;
    problems_.push_back({.index = index_,
                         .file = file,
                         .is_warning = is_warning,
                         .message = '"' + path.string() + "\" " + std::string(text)});
  }

  const CertificateFiles& files_;
  std::size_t index_;
  std::vector<CertificateProblem>& problems_;
  bool has_errors_ = false;
};

// The text of a file, which may be a key: wiped when it was read.
struct FileText {
  std::string bytes;
  mode_t mode = 0;

  FileText() = default;
  FileText(FileText&&) = default;
  FileText& operator=(FileText&&) = delete;
  ~FileText() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
  [[nodiscard]] BioPointer bio() const {
    return BioPointer(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
  }
};

std::expected<FileText, std::string> read_from(int fd) {
  constexpr off_t kLargest = 1024L * 1024;
  struct stat about{};
  if (fstat(fd, &about) != 0) {
    return std::unexpected(std::generic_category().message(errno));
  }
  // A device or a pipe may never end.
  if (!S_ISREG(about.st_mode) || about.st_size > kLargest) {
    return std::unexpected(S_ISREG(about.st_mode) ? "File too large" : "Not a regular file");
  }
  FileText text;
  text.mode = about.st_mode;
  text.bytes.resize(static_cast<std::size_t>(about.st_size));
  const ssize_t got = ::read(fd, text.bytes.data(), text.bytes.size());
  if (got < 0) {
    return std::unexpected(std::generic_category().message(errno));
  }
  text.bytes.resize(static_cast<std::size_t>(got));
  return text;
}

std::expected<FileText, std::string> read_file(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return std::unexpected(std::generic_category().message(errno));
  }
  auto text = read_from(fd);
  ::close(fd);
  return text;
}

std::string cannot_be_read(const std::string& why, std::string_view expected) {
  return "cannot be read (" + why + "); expected " + std::string(expected) +
         "; name another file, or let the user that Postern runs as read this one";
}

std::vector<CertificatePointer> read_chain(const CertificateFiles& files, Report& report) {
  constexpr std::string_view kExpected = "a certificate in PEM, and behind it its intermediates";
  std::vector<CertificatePointer> chain;
  const auto text = read_file(files.certificate);
  if (!text) {
    report.error(File::certificate, cannot_be_read(text.error(), kExpected));
    return chain;
  }
  const BioPointer bio = text->bio();
  ERR_clear_error();
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    chain.emplace_back(next);
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    report.error(File::certificate, "has a damaged certificate, number " +
                                        std::to_string(chain.size() + 1) + " (" +
                                        take_openssl_error() + "); expected " +
                                        std::string(kExpected) + "; fetch it anew");
    chain.clear();
  } else if (chain.empty()) {
    report.error(File::certificate, "holds no certificate in PEM; expected " +
                                        std::string(kExpected) +
                                        "; convert it with openssl x509, or name another file");
  }
  ERR_clear_error();
  return chain;
}

int note_that_encrypted(char* /*to*/, int /*size*/, int /*is_writing*/, void* was_asked) {
  *static_cast<bool*>(was_asked) = true;
  return -1;
}

void judge_permissions(const CertificateFiles& files, mode_t mode, Report& report) {
  constexpr mode_t kOthers = S_IWGRP | S_IRWXO;
  if ((mode & kOthers) != 0) {
    report.error(
        File::private_key,
        "may be read or written by others; expected a key that only its owner, and at most "
        "a group, may read; chmod g-w,o-rwx " +
            files.private_key.string());
  }
}

KeyPointer read_key(const CertificateFiles& files, Report& report) {
  constexpr std::string_view kExpected = "a private key in PEM, not encrypted";
  const auto text = read_file(files.private_key);
  if (!text) {
    report.error(File::private_key, cannot_be_read(text.error(), kExpected));
    return nullptr;
  }
  judge_permissions(files, text->mode, report);
  bool is_encrypted = false;
  ERR_clear_error();
  KeyPointer key(
      PEM_read_bio_PrivateKey(text->bio().get(), nullptr, note_that_encrypted, &is_encrypted));
  ERR_clear_error();
  if (is_encrypted) {
    report.error(File::private_key,
                 "is encrypted; expected " + std::string(kExpected) +
                     ", for nobody is there at a start to be asked; openssl pkey "
                     "writes it in clear");
  } else if (key == nullptr) {
    report.error(File::private_key, "holds no private key in PEM; expected " +
                                        std::string(kExpected) +
                                        "; convert it with openssl pkey, or name another file");
  }
  return key;
}

std::string one_line(const X509_NAME* name) {
  const BioPointer bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

bool is_self_signed(X509* certificate) {
  return X509_check_issued(certificate, certificate) == X509_V_OK;
}

void judge_order(const std::vector<CertificatePointer>& chain, Report& report) {
  for (std::size_t i = 1; i < chain.size(); ++i) {
    if (X509_check_issued(chain[i].get(), chain[i - 1].get()) != X509_V_OK) {
      report.error(File::certificate,
                   "has its certificates in the wrong order: number " + std::to_string(i + 1) +
                       " (" + one_line(X509_get_subject_name(chain[i].get())) +
                       ") did not issue the one before it, whose issuer is " +
                       one_line(X509_get_issuer_name(chain[i - 1].get())) +
                       "; expected the leaf first and behind each certificate its issuer; put them "
                       "in that order and leave others out");
      return;
    }
  }
  if (chain.size() == 1 && !is_self_signed(chain.front().get())) {
    report.warning(File::certificate,
                   "has no intermediate certificate, though its issuer is " +
                       one_line(X509_get_issuer_name(chain.front().get())) +
                       "; senders that verify, by DANE or MTA-STS, will refuse it unless they know "
                       "that issuer as a root; append the intermediates");
  }
}

void judge_match(const std::vector<CertificatePointer>& chain, EVP_PKEY* key, Report& report) {
  const auto is_of_key = [key](const CertificatePointer& certificate) {
    return X509_check_private_key(certificate.get(), key) == 1;
  };
  const auto owner = std::ranges::find_if(chain, is_of_key);
  if (owner == chain.begin()) {
    return;
  }
  if (owner == chain.end()) {
    report.error(File::private_key,
                 "does not belong to the certificate; expected the key that it was made for; name "
                 "the two files of one pair");
  } else {
    report.error(File::certificate, "has the certificate of the key as number " +
                                        std::to_string(owner - chain.begin() + 1) +
                                        "; expected it first, and the intermediates behind it");
  }
  ERR_clear_error();
}

system_clock::time_point to_time(const ASN1_TIME* time) {
  std::tm parts{};
  ASN1_TIME_to_tm(time, &parts);
  return system_clock::from_time_t(timegm(&parts));
}

std::string to_date(system_clock::time_point time) {
  const std::time_t seconds = system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts)};
}

void judge_time(const CertificateInfo& info, system_clock::time_point now, Report& report) {
  if (now < info.not_before) {
    report.warning(File::certificate, "is not valid before " + to_date(info.not_before) +
                                          "; until then senders that verify refuse it; check the "
                                          "clock, or use the certificate before this one");
  }
  if (now >= info.not_after) {
    report.warning(File::certificate, "expired on " + to_date(info.not_after) +
                                          "; senders that verify refuse it; renew it");
  } else if (info.not_after - now < kSoonExpiring) {
    report.warning(File::certificate, "expires on " + to_date(info.not_after) + "; renew it");
  }
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

// Host names, and nothing that could be taken for more: it is shown and compared.
void add_name(const ASN1_STRING* name, std::vector<std::string>& names) {
  const unsigned char* const octets = ASN1_STRING_get0_data(name);
  const std::string text(octets, octets + ASN1_STRING_length(name));
  const bool is_host_name = !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '*';
  });
  if (is_host_name) {
    names.push_back(lower(text));
  }
}

struct FreeNames {
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> names;
  const std::unique_ptr<GENERAL_NAMES, FreeNames> alternative(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; alternative != nullptr && i < sk_GENERAL_NAME_num(alternative.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternative.get(), i);
    if (name->type == GEN_DNS) {
      add_name(name->d.dNSName, names);
    }
  }
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int common = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (names.empty() && common >= 0) {
    add_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, common)), names);
  }
  std::ranges::sort(names);
  names.erase(std::ranges::unique(names).begin(), names.end());
  return names;
}

std::string curve_of(const EVP_PKEY* key) {
  std::array<char, 64> name{};
  std::size_t size = 0;
  if (EVP_PKEY_get_group_name(key, name.data(), name.size(), &size) != 1) {
    return "of no named curve";
  }
  const char* common = EC_curve_nid2nist(OBJ_sn2nid(name.data()));
  return common != nullptr ? common : std::string(name.data(), size);
}

std::string key_type_of(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
      return "RSA " + std::to_string(EVP_PKEY_get_bits(key));
    case EVP_PKEY_RSA_PSS:
      return "RSA-PSS " + std::to_string(EVP_PKEY_get_bits(key));
    case EVP_PKEY_EC:
      return "ECDSA " + curve_of(key);
    case EVP_PKEY_ED25519:
      return "Ed25519";
    case EVP_PKEY_ED448:
      return "Ed448";
    default: {
      const char* name = EVP_PKEY_get0_type_name(key);
      return name != nullptr ? name : "of an unknown kind";
    }
  }
}

void judge_strength(const EVP_PKEY* key, const std::string& type, Report& report) {
  constexpr std::string_view kExpected =
      "; expected RSA from 2048 bits, ECDSA P-256, P-384 or P-521, or Ed25519; make a new key and "
      "have it certified";
  constexpr int kSmallestRsa = 2048;
  const int kind = EVP_PKEY_get_base_id(key);
  const bool is_rsa = kind == EVP_PKEY_RSA || kind == EVP_PKEY_RSA_PSS;
  if (is_rsa && EVP_PKEY_get_bits(key) < kSmallestRsa) {
    report.error(File::certificate,
                 "has a key that is too small (" + type + ')' + std::string(kExpected));
    return;
  }
  const bool is_edwards = kind == EVP_PKEY_ED25519 || kind == EVP_PKEY_ED448;
  const bool is_common_curve =
      type == "ECDSA P-256" || type == "ECDSA P-384" || type == "ECDSA P-521";
  if (!is_rsa && !is_edwards && !is_common_curve) {
    report.error(File::certificate,
                 "has a key that peers do not accept (" + type + ')' + std::string(kExpected));
  }
}

std::string tlsa_of(X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  // Over the SubjectPublicKeyInfo whole, which X509_pubkey_digest() would not take.
  unsigned char* info = nullptr;
  const int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &info);
  EVP_Digest(info, static_cast<std::size_t>(std::max(length, 0)), digest.data(), &size,
             EVP_sha256(), nullptr);
  OPENSSL_free(info);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "3 1 1 ";
  for (unsigned int i = 0; i < size; ++i) {
    text += kDigits[digest[i] >> 4U];
    text += kDigits[digest[i] & 15U];
  }
  return text;
}

CertificateInfo info_of(const CertificateFiles& files, X509* certificate) {
  return {.files = files,
          .names = names_of(certificate),
          .not_before = to_time(X509_get0_notBefore(certificate)),
          .not_after = to_time(X509_get0_notAfter(certificate)),
          .key_type = key_type_of(X509_get0_pubkey(certificate)),
          .issuer = one_line(X509_get_issuer_name(certificate)),
          .tlsa = tlsa_of(certificate)};
}

void judge_leaf(const CertificateInfo& info, X509* leaf, system_clock::time_point now,
                Report& report) {
  if (info.names.empty()) {
    report.error(File::certificate,
                 "names no host; expected DNS names in subjectAltName; have it made for the name "
                 "that the mailer's MX record says");
  }
  judge_time(info, now, report);
  judge_strength(X509_get0_pubkey(leaf), info.key_type, report);
}

}  // namespace

void FreeCertificate::operator()(X509* certificate) const {
  X509_free(certificate);
}

void FreeCertificate::operator()(EVP_PKEY* key) const {
  EVP_PKEY_free(key);
}

std::optional<Certificate> load_certificate(const CertificateFiles& files, std::size_t index,
                                            system_clock::time_point now,
                                            std::vector<CertificateProblem>& problems) {
  Report report(files, index, problems);
  Certificate certificate;
  certificate.chain = read_chain(files, report);
  certificate.key = read_key(files, report);
  if (!certificate.chain.empty()) {
    X509* const leaf = certificate.chain.front().get();
    certificate.info = info_of(files, leaf);
    judge_leaf(certificate.info, leaf, now, report);
    judge_order(certificate.chain, report);
    if (certificate.key != nullptr) {
      judge_match(certificate.chain, certificate.key.get(), report);
    }
  }
  if (report.has_errors()) {
    return std::nullopt;
  }
  return certificate;
}

bool matches_name(std::string_view certified, std::string_view name) {
  const auto is_same = [](char a, char b) {
    const auto to_lower = [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return to_lower(a) == to_lower(b);
  };
  if (certified.starts_with("*.")) {
    const std::size_t dot = name.find('.');
    if (dot == 0 || dot == std::string_view::npos) {
      return false;
    }
    certified.remove_prefix(1);
    name.remove_prefix(dot);
  }
  return std::ranges::equal(certified, name, is_same);
}

}  // namespace postern::smtp_proxy
