// What `postern check` and `postern explain` say about TLS and AUTH.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/gateway/configurations.hpp"
#include "tests/gateway/postern_fixture.hpp"
#include "tests/gateway/program.hpp"
#include "tests/support/certificates.hpp"

namespace postern::gateway {
namespace {

using tests::Finished;

// Mailers of every kind, with certificates that are made on the spot.
class PosternTls : public Postern {
 protected:
  PosternTls() {
    const postern::testing::MadeCertificate made(
        {.names = {"mx1.example.org", "mail.example.org"}, .common_name = "mx1", .key = {}});
    folder_.write("mx1.pem", made.pem());
    const std::string key = folder_.write("mx1.key", made.key_pem());
    std::filesystem::permissions(key, std::filesystem::perms::owner_read);
    config_ = folder_.write("tls.toml", kLeast + R"(starttls = "terminate"
certificate = "mx1.pem"
private_key = "mx1.key"
upstream_tls = "verify"
upstream_name = "mx1.inside.example"
authenticated_relay = true
[[mailer]]
name = "mx2"
addresses = ["203.0.113.26"]
domains = ["example.org"]
starttls = "pass"
[[mailer]]
name = "mx3"
addresses = ["203.0.113.27"]
domains = ["example.org"]
authenticated_relay = true
auth_requires_tls = false
upstream_tls = "require"
[[mailer]]
name = "mx4"
addresses = ["203.0.113.28"]
domains = ["example.org"]
authenticated_relay = true
upstream_tls = "off"
)");
  }
};

TEST_F(PosternTls, CheckTellsWhatTlsAndAuthMeanForEachMailer) {
  const Finished check = postern({"check", config_});
  EXPECT_EQ(check.code, 0);
  EXPECT_EQ(check.err, "");
  for (const char* part :
       {R"(
TLS and AUTH
  mailer  clients' STARTTLS                          to the mailer                        AUTH of strangers
  mx1     TLS, as mail.example.org, mx1.example.org  TLS with mx1.inside.example, or 421  inside TLS, then any recipient
  mx2     passed on, NOT JUDGED behind it            the clients' own                     refused
  mx3     hidden: in clear                           TLS, or 421                          also in clear, then any recipient
  mx4     hidden: in clear                           in clear                             refused, as there is no TLS
)",
        R"(
What is given up
  - mx3, mx4: STARTTLS is hidden: between clients and this router mail crosses in clear text.
  - mx2: BEHIND STARTTLS NOTHING IS JUDGED: neither recipients nor passwords nor what a message is made of. Whoever says it meets the mailer's own rules alone.
  - mx2: AUTH is hidden from strangers: users outside send through the submission ports 587 and 465, which are left alone.
  - mx3: Passwords may cross the Internet in clear text: auth_requires_tls is false.
)",
        ":18:12: warning: mailer[1].starttls: NOTHING IS JUDGED BEHIND STARTTLS",
        ":24:21: warning: mailer[2].auth_requires_tls: found false: passwords",
        ":30:23: warning: mailer[3].authenticated_relay: found true, but nobody"}) {
    EXPECT_TRUE(check.out.contains(part)) << part << "is not in\n" << check.out;
  }
}

TEST_F(PosternTls, CheckSaysWhereACertificateIsWrong) {
  folder_.write("mx1.pem", "no certificate\n");
  const Finished check = postern({"check", config_});
  EXPECT_EQ(check.code, 1);
  EXPECT_TRUE(check.err.starts_with(config_ + ":9:15: error: mailer[0].certificate: \"" +
                                    (folder_.path() / "mx1.pem").string() +
                                    "\" holds no certificate in PEM; "))
      << check.err;
}

// As the unit's user, to whom the administrator forgot to give it.
TEST_F(PosternTls, CheckSaysThatAKeyMayNotBeRead) {
  std::filesystem::permissions(folder_.path(), std::filesystem::perms{0755});
  for (const auto& file : {config_, (folder_.path() / "mx1.pem").string()}) {
    std::filesystem::permissions(file, std::filesystem::perms{0644});
  }
  const Finished check = tests::run(
      {.program = POSTERN_PROGRAM, .arguments = {"check", config_}, .unprivileged = true});
  EXPECT_EQ(check.code, 1);
  EXPECT_TRUE(check.err.starts_with(
      config_ + ":10:15: error: mailer[0].private_key: \"" + (folder_.path() / "mx1.key").string() +
      "\" cannot be read (Permission denied); expected a private key in PEM, not encrypted; name "
      "another file, or let the user that Postern runs as read this one\n"))
      << check.err;
}

// Who only asks about the policy need not be allowed to read keys.
TEST_F(PosternTls, ExplainNeedsNoCertificate) {
  std::filesystem::remove(folder_.path() / "mx1.key");
  EXPECT_EQ(explain({"--from", "198.51.100.2", "--interface", "wan0", "--to", "203.0.113.25"}).code,
            0);
  EXPECT_EQ(postern({"ruleset", "--config", config_}).code, 0);
}

TEST_F(PosternTls, ExplainSaysWhatItsAnswerDoesNotHoldFor) {
  const auto ask = [this](const char* mailer) {
    return explain({"--from", "198.51.100.2", "--interface", "wan0", "--to", mailer, "--recipient",
                    "a@far.example", "--authenticated"});
  };
  EXPECT_TRUE(ask("203.0.113.25").out.ends_with(R"(  decision   forwarded to mx1
  because    mx1 accepted the client's AUTH, and authenticated_relay is on
  note       AUTH is taken inside TLS only
allowed
)")) << ask("203.0.113.25").out;
  EXPECT_TRUE(
      ask("203.0.113.26")
          .out.ends_with(
              R"(  note       behind STARTTLS nothing is judged: mx2 itself decides (starttls = "pass")
refused
)")) << ask("203.0.113.26").out;
  EXPECT_FALSE(ask("203.0.113.27").out.contains("note")) << ask("203.0.113.27").out;
  EXPECT_TRUE(
      ask("203.0.113.28")
          .out.ends_with(
              R"(  note       nobody outside can authenticate: auth_requires_tls holds, and starttls is "hide"
allowed
)")) << ask("203.0.113.28").out;
}

}  // namespace
}  // namespace postern::gateway
