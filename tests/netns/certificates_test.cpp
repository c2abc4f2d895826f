// Certificates of several kinds and names, their renewal while sessions go on, and sessions that are
// taken up again.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

class Certificates : public WithTls {
 protected:
  Certificates() { start_scripted_server(); }

  static std::string quoted(const std::filesystem::path& path) {
    return "\"" + path.string() + "\"";
  }
  // With both pairs side by side.
  void start(const IssuedCertificate& first, const IssuedCertificate& second) {
    start_posternd({.mx2 = "starttls = \"terminate\"\ncertificate = [" + quoted(first.certificate) +
                           ", " + quoted(second.certificate) + "]\nprivate_key = [" +
                           quoted(first.private_key) + ", " + quoted(second.private_key) + "]\n"});
  }
  // A session in TLS.
  [[nodiscard]] Connection secured(const TlsWish& wish = {}) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
    EXPECT_TRUE(client.say("STARTTLS").starts_with("220")) << client.transcript();
    EXPECT_TRUE(client.start_tls(wish)) << client.transcript();
    return client;
  }
  void expect_to_deliver(Connection& client) {
    EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
  }
};

TEST_F(Certificates, AreChosenByWhatTheClientCanVerify) {
  const auto rsa = outer.issue("rsa", {kOwnName}, TestCa::KeyType::rsa_2048);
  start(rsa, own);
  EXPECT_EQ(secured({.signatures = "RSA-PSS+SHA256:RSA+SHA256"}).fingerprint(), rsa.fingerprint);
  EXPECT_EQ(secured({.signatures = "ECDSA+SHA256"}).fingerprint(), own.fingerprint);
}

TEST_F(Certificates, AreChosenByTheNameThatTheClientAsksFor) {
  const auto other = outer.issue("other", {"mail.example.net", "*.example.net"});
  start(own, other);
  const std::string ca = outer.file();
  for (const char* name : {"mail.example.net", "mx7.example.net"}) {
    EXPECT_EQ(secured({.ca_file = ca, .name = name}).fingerprint(), other.fingerprint) << name;
  }
  EXPECT_EQ(secured({.ca_file = ca, .name = kOwnName}).fingerprint(), own.fingerprint);
  EXPECT_EQ(secured().fingerprint(), own.fingerprint) << "without a name the first";
}

TEST_F(Certificates, AreRenewedWhileSessionsGoOn) {
  start_posternd({.mx2 = terminate()});
  Connection old = secured();
  EXPECT_EQ(old.fingerprint(), own.fingerprint);
  const auto renewed = outer.issue("own", {kOwnName});
  EXPECT_TRUE(wait_until("new sessions are shown the new one",
                         [&] { return secured().fingerprint() == renewed.fingerprint; }));
  expect_to_deliver(old);
  const auto has_problem = [&] {
    return posternd->postern({"status"}).output.contains("old certificate");
  };
  EXPECT_FALSE(has_problem()) << posternd->postern({"status"}).output;

  // A renewal that went wrong in the middle.
  std::ofstream(own.certificate) << "-----BEGIN CERTIFICATE-----\nhalf a certific";
  EXPECT_TRUE(wait_until("status tells of it", has_problem))
      << posternd->postern({"status"}).output;
  EXPECT_EQ(posternd->postern({"status"}).status, 1);
  Connection after = secured();
  EXPECT_EQ(after.fingerprint(), renewed.fingerprint);
  expect_to_deliver(after);

  const auto repaired = outer.issue("own", {kOwnName});
  EXPECT_TRUE(wait_until("the repaired one is shown",
                         [&] { return secured().fingerprint() == repaired.fingerprint; }));
  EXPECT_TRUE(wait_until("status is well again", [&] { return !has_problem(); }))
      << posternd->postern({"status"}).output;
}

TEST_F(Certificates, AreNotNeededWhereASessionIsTakenUpAgain) {
  start_posternd({.mx2 = terminate()});
  Connection first = secured();
  EXPECT_FALSE(first.was_resumed());
  expect_to_deliver(first);                  // TLS 1.3 sends its tickets behind the handshake
  for (int again = 0; again < 8; ++again) {  // whichever worker has it
    Connection next = secured({.resumed = first.tls_session()});
    EXPECT_TRUE(next.was_resumed()) << next.transcript();
    expect_to_deliver(next);
    first = std::move(next);
  }
  EXPECT_EQ(handshakes("client", "full"), 1);
  EXPECT_EQ(handshakes("client", "resumed"), 8);
}

// What the test's own client shows must be what OpenSSL's says.
TEST_F(Certificates, AreNotNeededByOpensslsClientEither) {
  start_posternd({.mx2 = terminate()});
  const std::string session = lab.folder() / "session";
  const auto s_client = [&](const char* option) {
    return lab.run(Side::outside,
                   {"openssl", "s_client", "-ign_eof", "-starttls", "smtp", "-connect",
                    std::string(kIpv4.mx2) + ":25", "-CAfile", outer.file(), "-verify_return_error",
                    "-verify_hostname", kOwnName, option, session},
                   "QUIT\r\n");
  };
  const std::string first = s_client("-sess_out").output;
  EXPECT_TRUE(first.contains("New, TLSv1.3") && std::filesystem::exists(session)) << first;
  const std::string resumed = s_client("-sess_in").output;
  EXPECT_TRUE(resumed.contains("Reused, TLSv1.3")) << resumed;
}

}  // namespace
}  // namespace postern::testing
