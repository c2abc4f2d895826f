// What is said of certificates and keys that cannot be used, or soon cannot.
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "smtp_proxy/tls/server_tls.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::smtp_proxy {
namespace {

using std::chrono::hours;
using std::chrono::system_clock;
using testing::MadeCertificate;
using testing::TemporaryFolder;
using File = CertificateProblem::File;

// Made once: keys take their time.
struct Made {
  MadeCertificate root{{.common_name = "Root", .is_authority = true}};
  MadeCertificate middle{{.common_name = "Middle", .issuer = &root, .is_authority = true}};
  MadeCertificate leaf{{.names = {"mx.example.org", "*.MAIL.example.org"}, .issuer = &middle}};
  MadeCertificate own{{.names = {"mx.example.org"}}};
  MadeCertificate rsa{{.names = {"mx.example.org"}, .key = {.type = "RSA", .detail = "2048"}}};
};

const Made& made() {
  static const Made kMade;
  return kMade;
}

class ServerTlsFiles : public ::testing::Test {
 protected:
  CertificateFiles pair(const std::string& certificate, const std::string& key,
                        int key_mode = 0600) {
    const std::string number = std::to_string(++count_);
    return {.certificate = folder_.write(number + ".pem", certificate),
            .private_key =
                folder_.write(number + ".key", key, static_cast<std::filesystem::perms>(key_mode))};
  }
  CertificateFiles pair(const MadeCertificate& one) { return pair(one.pem(), one.key_pem()); }

  ServerTls::Loaded load(const std::vector<CertificateFiles>& pairs) {
    return ServerTls::load(pairs, system_clock::now());
  }
  // The messages, without the folder.
  std::vector<std::string> messages(const ServerTls::Loaded& loaded) {
    std::vector<std::string> all;
    for (const CertificateProblem& problem : loaded.problems) {
      std::string text = problem.message;
      const std::string folder = folder_.path().string() + '/';
      for (auto at = text.find(folder); at != std::string::npos; at = text.find(folder)) {
        text.erase(at, folder.size());
      }
      all.push_back((problem.is_warning ? "warning: " : "") + text);
    }
    return all;
  }

  TemporaryFolder folder_;
  int count_ = 0;
};

TEST_F(ServerTlsFiles, AreDescribed) {
  const auto loaded = load(
      {pair(made().leaf.pem() + made().middle.pem(), made().leaf.key_pem()), pair(made().rsa)});
  ASSERT_EQ(messages(loaded), std::vector<std::string>{});
  ASSERT_NE(loaded.tls, nullptr);
  const CertificateInfo& first = loaded.tls->certificates()[0];
  EXPECT_EQ(first.names, (std::vector<std::string>{"*.mail.example.org", "mx.example.org"}));
  EXPECT_EQ(first.key_type, "ECDSA P-256");
  EXPECT_EQ(first.issuer, "CN=Middle");
  EXPECT_LT(first.not_before, system_clock::now());
  EXPECT_NEAR(std::chrono::duration<double>(first.not_after - system_clock::now()).count(),
              std::chrono::duration<double>(hours{24 * 365}).count(), 60);
  EXPECT_EQ(loaded.tls->certificates()[1].key_type, "RSA 2048");
}

TEST_F(ServerTlsFiles, GiveTheTlsaRecordOfTheirPublicKey) {
  const auto loaded = load({pair(made().own)});
  unsigned char* key = nullptr;
  const int size = i2d_PUBKEY(made().own.key(), &key);
  std::array<unsigned char, 32> digest{};
  EVP_Digest(key, static_cast<std::size_t>(size), digest.data(), nullptr, EVP_sha256(), nullptr);
  OPENSSL_free(key);
  std::string expected = "3 1 1 ";
  for (const unsigned char octet : digest) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", octet);
    expected += digits;
  }
  EXPECT_EQ(loaded.tls->certificates()[0].tlsa, expected);
}

const std::string kExpectedCertificate =
    "; expected a certificate in PEM, and behind it its intermediates";
const std::string kExpectedKey = "; expected a private key in PEM, not encrypted";
const std::string kNameAnother =
    "; name another file, or let the user that Postern runs as read this one";
const std::string kStronger =
    "; expected RSA from 2048 bits, ECDSA P-256, P-384 or P-521, or Ed25519; make a new key and "
    "have it certified";

TEST_F(ServerTlsFiles, MayBeMissing) {
  EXPECT_EQ(messages(load({{.certificate = folder_.path() / "no.pem",
                            .private_key = folder_.path() / "no.key"}})),
            (std::vector<std::string>{"\"no.pem\" cannot be read (No such file or directory)" +
                                          kExpectedCertificate + kNameAnother,
                                      "\"no.key\" cannot be read (No such file or directory)" +
                                          kExpectedKey + kNameAnother}));
}

TEST_F(ServerTlsFiles, MayBeNone) {
  EXPECT_EQ(
      messages(load({{.certificate = folder_.path(), .private_key = "/dev/null"}})),
      (std::vector<std::string>{
          '"' + folder_.path().string() + "\" cannot be read (Not a regular file)" +
              kExpectedCertificate + kNameAnother,
          "\"/dev/null\" cannot be read (Not a regular file)" + kExpectedKey + kNameAnother}));
}

TEST_F(ServerTlsFiles, MayHoldNoPem) {
  EXPECT_EQ(
      messages(load({pair("hello", "hello")})),
      (std::vector<std::string>{"\"1.pem\" holds no certificate in PEM" + kExpectedCertificate +
                                    "; convert it with openssl x509, or name another file",
                                "\"1.key\" holds no private key in PEM" + kExpectedKey +
                                    "; convert it with openssl pkey, or name another file"}));
}

TEST_F(ServerTlsFiles, MayBeDamaged) {
  std::string damaged = made().middle.pem();
  damaged[damaged.size() / 2] = '!';
  const auto said = messages(load({pair(made().leaf.pem() + damaged, made().leaf.key_pem())}));
  ASSERT_EQ(said.size(), 1U);
  EXPECT_TRUE(said[0].starts_with("\"1.pem\" has a damaged certificate, number 2 (")) << said[0];
}

TEST_F(ServerTlsFiles, MayHoldAnEncryptedKey) {
  EXPECT_EQ(messages(load({pair(made().own.pem(), made().own.key_pem("secret"))})),
            (std::vector<std::string>{
                "\"1.key\" is encrypted" + kExpectedKey +
                ", for nobody is there at a start to be asked; openssl pkey writes it in clear"}));
}

TEST_F(ServerTlsFiles, MayBeOfTwoPairs) {
  EXPECT_EQ(messages(load({pair(made().own.pem(), made().rsa.key_pem())})),
            (std::vector<std::string>{
                "\"1.key\" does not belong to the certificate; expected the key that it was made "
                "for; name the two files of one pair"}));
}

TEST_F(ServerTlsFiles, MayHoldTheLeafBehindItsIntermediate) {
  const auto said =
      messages(load({pair(made().middle.pem() + made().leaf.pem(), made().leaf.key_pem())}));
  ASSERT_FALSE(said.empty());
  EXPECT_EQ(said.back(),
            "\"1.pem\" has the certificate of the key as number 2; expected it first, and the "
            "intermediates behind it");
}

TEST_F(ServerTlsFiles, MayHoldIntermediatesInTheWrongOrder) {
  EXPECT_EQ(messages(load({pair(made().leaf.pem() + made().root.pem() + made().middle.pem(),
                                made().leaf.key_pem())})),
            (std::vector<std::string>{
                "\"1.pem\" has its certificates in the wrong order: number 2 (CN=Root) did not "
                "issue the one before it, whose issuer is CN=Middle; expected the leaf first and "
                "behind each certificate its issuer; put them in that order and leave others "
                "out"}));
}

TEST_F(ServerTlsFiles, MayBeReadableForOthers) {
  struct {
    int mode;
    bool is_allowed;
  } const rows[]{{0400, true},  {0600, true},  {0640, true}, {0660, false},
                 {0644, false}, {0602, false}, {0601, false}};
  for (const auto& [mode, is_allowed] : rows) {
    const auto files = pair(made().own.pem(), made().own.key_pem(), mode);
    const auto loaded = load({files});
    EXPECT_EQ(loaded.tls != nullptr, is_allowed) << std::oct << mode;
    if (!is_allowed) {
      const std::string name = files.private_key.filename();
      EXPECT_EQ(messages(loaded),
                (std::vector<std::string>{
                    '"' + name +
                    "\" may be read or written by others; expected a key that only its owner, and "
                    "at most a group, may read; chmod g-w,o-rwx " +
                    name}))
          << std::oct << mode;
    }
  }
}

TEST_F(ServerTlsFiles, MayHoldWeakKeys) {
  struct {
    testing::KeyWish key;
    std::string expected;
  } const rows[]{
      {{.type = "RSA", .detail = "1024"}, "has a key that is too small (RSA 1024)"},
      {{.type = "EC", .detail = "P-224"}, "has a key that peers do not accept (ECDSA P-224)"},
      {{.type = "EC", .detail = "secp256k1"},
       "has a key that peers do not accept (ECDSA secp256k1)"},
  };
  for (const auto& [key, expected] : rows) {
    const MadeCertificate weak({.names = {"mx.example.org"}, .key = key});
    const auto files = pair(weak);
    EXPECT_EQ(messages(load({files})),
              (std::vector<std::string>{'"' + files.certificate.filename().string() + "\" " +
                                        expected + kStronger}));
  }
}

TEST_F(ServerTlsFiles, MayHoldAWeakSignature) {
  const MadeCertificate weak(
      {.names = {"mx.example.org"}, .issuer = &made().root, .digest = "SHA1"});
  const auto said = messages(load({pair(weak.pem() + made().root.pem(), weak.key_pem())}));
  EXPECT_EQ(said, (std::vector<std::string>{
                      "\"1.pem\" is not accepted by OpenSSL (ca md too weak); expected a "
                      "certificate signed with SHA-256 or better; have it made anew"}));
}

TEST_F(ServerTlsFiles, MayNameNoHost) {
  const MadeCertificate nobody({.names = {"IP:192.0.2.1"}, .common_name = "two words"});
  EXPECT_EQ(messages(load({pair(nobody)})),
            (std::vector<std::string>{
                "\"1.pem\" names no host; expected DNS names in subjectAltName; have it made for "
                "the name that the mailer's MX record says"}));
}

TEST_F(ServerTlsFiles, MayNameTheirHostInTheOldWay) {
  const MadeCertificate old({.common_name = "MX.example.org"});
  const auto loaded = load({pair(old)});
  ASSERT_NE(loaded.tls, nullptr);
  EXPECT_EQ(loaded.tls->certificates()[0].names, std::vector<std::string>{"mx.example.org"});
}

TEST_F(ServerTlsFiles, MayBeTwoForTheSame) {
  const MadeCertificate again({.names = {"MX.example.org"}});
  EXPECT_EQ(messages(load({pair(made().own), pair(made().rsa), pair(again)})),
            (std::vector<std::string>{
                "\"3.pem\" has the same names and the same kind of key (ECDSA) as \"1.pem\"; "
                "expected an RSA and an ECDSA certificate where the names are the same; leave one "
                "of them out"}));
}

TEST_F(ServerTlsFiles, MayBeOfAnotherTime) {
  struct {
    hours begins;
    hours ends;
    std::string expected;
  } const rows[]{
      {hours{-48}, hours{-24}, "warning: expired on "},
      {hours{-48}, hours{13 * 24}, "warning: expires on "},
      {hours{-48}, hours{15 * 24}, ""},
      {hours{24}, hours{24 * 90}, "warning: is not valid before "},
  };
  for (const auto& [begins, ends, expected] : rows) {
    const MadeCertificate timed({.names = {"mx.example.org"}, .begins = begins, .ends = ends});
    const auto files = pair(timed);
    const auto loaded = load({files});
    EXPECT_NE(loaded.tls, nullptr) << expected;
    std::string said;
    for (std::string text : messages(loaded)) {
      const std::string file = '"' + files.certificate.filename().string() + "\" ";
      text.erase(text.find(file), file.size());
      said += text;
    }
    EXPECT_TRUE(expected.empty() ? said.empty() : said.starts_with(expected)) << said;
  }
}

TEST_F(ServerTlsFiles, MayLackIntermediates) {
  const auto loaded = load({pair(made().leaf)});
  EXPECT_NE(loaded.tls, nullptr);
  EXPECT_EQ(messages(loaded),
            (std::vector<std::string>{
                "warning: \"1.pem\" has no intermediate certificate, though its issuer is "
                "CN=Middle; senders that verify, by DANE or MTA-STS, will refuse it unless they "
                "know that issuer as a root; append the intermediates"}));
}

TEST_F(ServerTlsFiles, HaveAllTheirProblemsToldAtOnce) {
  const MadeCertificate expired(
      {.common_name = "no host", .key = {.type = "RSA", .detail = "1024"}, .ends = hours{-1}});
  const auto loaded = load({pair("", made().own.key_pem(), 0644),
                            pair(expired.pem(), made().own.key_pem("secret"), 0666)});
  EXPECT_EQ(loaded.tls, nullptr);
  struct Found {
    std::size_t index;
    File file;
    bool is_warning;
    bool operator==(const Found&) const = default;
  };
  std::vector<Found> found;
  for (const auto& problem : loaded.problems) {
    found.push_back({problem.index, problem.file, problem.is_warning});
  }
  EXPECT_EQ(found, (std::vector<Found>{{0, File::certificate, false},    // no PEM
                                       {0, File::private_key, false},    // for others to read
                                       {1, File::private_key, false},    // the same
                                       {1, File::private_key, false},    // encrypted
                                       {1, File::certificate, false},    // no name
                                       {1, File::certificate, true},     // expired
                                       {1, File::certificate, false}}))  // too small
      << ::testing::PrintToString(messages(loaded));
}

TEST(CertificateName, MatchesAsRfc6125Says) {
  struct {
    const char* certified;
    const char* name;
    bool matches;
  } const rows[]{
      {"mx.example.org", "mx.example.org", true},
      {"mx.example.org", "MX.Example.ORG", true},
      {"mx.example.org", "mx2.example.org", false},
      {"*.example.org", "mx.example.org", true},
      {"*.example.org", "a.mx.example.org", false},
      {"*.example.org", "example.org", false},
      {"*.example.org", ".example.org", false},
      {"m*.example.org", "mx.example.org", false},
      {"*", "mx", false},
      {"*.example.org", "", false},
  };
  for (const auto& [certified, name, matches] : rows) {
    EXPECT_EQ(matches_name(certified, name), matches) << certified << " and " << name;
  }
}

}  // namespace
}  // namespace postern::smtp_proxy
