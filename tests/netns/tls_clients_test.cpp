// The clients and mail servers that people have, with TLS of their own kinds (OpenSSL, GnuTLS,
// Python's, Node's), from outside: in each STARTTLS mode, over IPv4 and IPv6, some with pipelining.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/netns/mail_client.hpp"
#include "tests/support/mail_keeper.hpp"
#include "tests/support/sasl_client.hpp"
#include "tests/support/test_message.hpp"

namespace postern::testing {
namespace {

struct Client {
  const char* name;
  const char* program;              // as tests/support/mail_client has it
  const char* level = "encrypt";    // TLS_LEVEL
  bool verifies = true;             // sends nothing to whom it cannot trust
  bool insists = true;              // sends nothing in clear
  const char* auth_type = nullptr;  // it can authenticate; what Swaks is told
};

void PrintTo(const Client& client, std::ostream* out) {
  *out << client.name;
}

// Not DANE: that takes a signed DNS, and the lab has none.
constexpr Client kClients[] = {
    {.name = "OpensslSClient", .program = "s_client"},
    {.name = "Swaks", .program = "swaks", .auth_type = "PLAIN"},
    {.name = "PipeliningSwaks", .program = "swaks-pipelining", .auth_type = "CRAM-MD5"},
    {.name = "Curl", .program = "curl", .auth_type = ""},
    {.name = "Msmtp", .program = "msmtp", .auth_type = ""},
    {.name = "Smtplib", .program = "smtplib", .auth_type = ""},
    {.name = "Nodemailer", .program = "nodemailer", .auth_type = ""},
    {.name = "PostfixMay",
     .program = "postfix",
     .level = "may",
     .verifies = false,
     .insists = false},
    {.name = "PostfixEncrypt", .program = "postfix", .verifies = false},
    {.name = "PostfixVerify", .program = "postfix", .level = "verify"},
    {.name = "EximEncrypt", .program = "exim", .verifies = false},
    {.name = "EximVerify", .program = "exim", .level = "verify"}};

class SecuredClient : public WithTls {
 protected:
  [[nodiscard]] static std::vector<std::string> names() {
    return {kOwnName, kIpv4.mx2, kIpv6.mx2, kIpv4.mx1, kIpv6.mx1};
  }
  [[nodiscard]] Finished send(const Client& client, const std::string& server,
                              const std::string& recipient, const TestCa& trusted,
                              std::vector<std::string> settings = {}) const {
    settings.insert(settings.end(),
                    {"CA_FILE=" + trusted.file().string(), std::string("TLS_LEVEL=") + client.level,
                     std::string("VERIFIED_NAME=") + kOwnName});
    return send_by(lab, client.program, server, {recipient}, settings);
  }

  const std::string body = long_body();
  // Clients connect to an address, so that is what some of them verify.
  const IssuedCertificate shown = outer.issue("shown", names());
  [[nodiscard]] std::string terminate_shown(const std::string& more = {}) const {
    return "starttls = \"terminate\"\ncertificate = \"" + shown.certificate.string() +
           "\"\nprivate_key = \"" + shown.private_key.string() + "\"\n" + more;
  }
};

class TlsClient : public SecuredClient,
                  public ::testing::WithParamInterface<std::tuple<Client, Family>> {
 protected:
  TlsClient() { write_message(lab, body); }

  void expect_kept(bool in_tls, const std::string& said) const {
    const auto kept = keeper.messages();
    ASSERT_EQ(kept.size(), 1U) << said;
    EXPECT_EQ(kept[0].peer, family.stranger);
    EXPECT_EQ(kept[0].came_in_tls, in_tls);
    EXPECT_TRUE(is_same(with_crlf(body), body_of(kept[0].content)));
  }

  const Client& client = std::get<0>(GetParam());
  const Family& family = std::get<1>(GetParam());
  const IssuedCertificate behind = inner.issue("behind", names());
  MailKeeper keeper{lab, behind};
};

TEST_P(TlsClient, SendsInATlsThatEndsHere) {
  start_posternd({.mx2 = terminate_shown()});
  const Finished sent = send(client, family.mx2, kUser, outer);
  EXPECT_EQ(sent.status, 0) << sent.output;
  expect_kept(true, sent.output);
  EXPECT_EQ(handshakes("client", "full") + handshakes("client", "resumed"), 1) << posternd->log();
  EXPECT_EQ(handshakes("server", "full"), 1) << posternd->log();
}

TEST_P(TlsClient, IsToldOfARefusedForeignRecipientInside) {
  start_posternd({.mx2 = terminate_shown()});
  const Finished sent = send(client, family.mx2, kVictim, outer);
  EXPECT_NE(sent.status, 0) << sent.output;
  EXPECT_TRUE(sent.output.contains("550 5.7.1")) << sent.output;
  EXPECT_TRUE(keeper.messages().empty()) << sent.output;
  EXPECT_EQ(posternd->counter("postern_recipients_total", {{"reason", "relay_denied"}}), 1);
}

TEST_P(TlsClient, SendsInClearOnlyIfItWouldWhereTlsIsHidden) {
  start_posternd({.mx2 = "starttls = \"hide\"\n"});
  const Finished sent = send(client, family.mx2, kUser, outer);
  EXPECT_EQ(sent.status != 0, client.insists) << sent.output;
  if (client.insists) {
    EXPECT_TRUE(keeper.messages().empty()) << sent.output;
  } else {
    // On the way to the mailer it is in TLS all the same.
    expect_kept(true, sent.output);
  }
  EXPECT_EQ(handshakes("client", "full"), 0);
}

TEST_P(TlsClient, SendsInTheMailersOwnTlsWhereThatIsPassed) {
  start_posternd({.mx2 = "starttls = \"pass\"\n"});
  const Finished sent = send(client, family.mx2, kUser, inner);
  EXPECT_EQ(sent.status, 0) << sent.output;
  expect_kept(true, sent.output);
  EXPECT_EQ(posternd->counter("postern_sessions_opaque_total"), 1) << posternd->log();
}

INSTANTIATE_TEST_SUITE_P(EveryClient, TlsClient,
                         ::testing::Combine(::testing::ValuesIn(kClients),
                                            ::testing::ValuesIn(kFamilies)),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param).name) + "Over" +
                                  std::get<1>(row.param).name;
                         });

TEST_F(SecuredClient, SendsNothingToWhomItCannotTrust) {
  write_message(lab, body);
  const MailKeeper keeper(lab);
  start_posternd({.mx2 = terminate_shown()});
  std::size_t sent = 0;
  for (const Client& client : kClients) {
    const Finished finished = send(client, kIpv4.mx2, kUser, inner);
    EXPECT_EQ(finished.status != 0, client.verifies) << client.name << "\n" << finished.output;
    sent += client.verifies ? 0 : 1;
    std::filesystem::remove_all(lab.folder() / "client");
  }
  EXPECT_EQ(keeper.messages().size(), sent);
}

TEST_F(SecuredClient, RelaysWithAPasswordThatTheServerKnows) {
  const Account account{.name = "user@example.org", .password = "a right Password!"};
  write_message(lab, body);
  const Postfix server(
      lab,
      {.certificate = inner_certificate, .account = account.name, .password = account.password});
  start_posternd({.mailer = terminate_shown("authenticated_relay = true\n"),
                  .smtp = "longest_delay = \"1s\"\n"});
  std::int64_t accepted = 0;
  for (const Client& client : kClients) {
    if (client.auth_type == nullptr) {
      continue;
    }
    for (const bool is_right : {true, false}) {
      const Finished finished = send(client, kIpv4.mx1, kVictim, outer,
                                     {"MAIL_USER=" + account.name,
                                      "MAIL_PASSWORD=" + (is_right ? account.password : "a guess"),
                                      std::string("AUTH_TYPE=") + client.auth_type});
      EXPECT_EQ(finished.status == 0, is_right) << client.name << "\n" << finished.output;
      std::filesystem::remove_all(lab.folder() / "client");
      accepted += is_right ? 1 : 0;
      EXPECT_EQ(std::ssize(server.recipients()), accepted) << finished.output << server.log();
    }
  }
  EXPECT_EQ(posternd->counter("postern_auth_total", {{"result", "accepted"}}), accepted);
}

}  // namespace
}  // namespace postern::testing
