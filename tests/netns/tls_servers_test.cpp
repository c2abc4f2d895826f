// STARTTLS and AUTH before the mail servers that people have, which would relay for the whole world:
// in each mode, over IPv4 and IPv6, with and without pipelining.
#include <gtest/gtest.h>

#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/netns/real_servers.hpp"
#include "tests/support/sasl_client.hpp"

namespace postern::testing {
namespace {

const Account kAccount{.name = "user@example.org", .password = "a right Password!"};
const Account kGuess{.name = "user@example.org", .password = "a wrong Password?"};
constexpr const char* kVictim = "victim@far.example";

enum class Mode { terminate, hide, pass };

constexpr const char* to_text(Mode mode) {
  return mode == Mode::terminate ? "terminate" : mode == Mode::hide ? "hide" : "pass";
}

template <typename Server>
class TlsServer : public WithTls {
 protected:
  // Debian 12's OpenSMTPD 6.8 cannot finish a handshake with OpenSSL 3
  // (github.com/OpenSMTPD/OpenSMTPD/issues/1171), and offers AUTH in TLS only.
  static constexpr bool kSpeaksTls = !std::is_same_v<Server, OpenSmtpd>;

  [[nodiscard]] Offers offers(bool with_tls) const {
    if (!kSpeaksTls && !with_tls) {
      return {};
    }
    Offers offers{.account = kAccount.name, .password = kAccount.password};
    if (with_tls) {
      offers.certificate = inner_certificate;
    }
    return offers;
  }
  [[nodiscard]] std::string keys(Mode mode, const std::string& more = {}) const {
    return mode == Mode::terminate ? terminate(more)
                                   : std::string("starttls = \"") + to_text(mode) + "\"\n" + more;
  }
  [[nodiscard]] static std::vector<const char*> mechanisms() {
    if constexpr (std::is_same_v<Server, Postfix>) {
      return {"PLAIN", "PLAIN-LATE", "LOGIN", "LOGIN-EARLY", "CRAM-MD5", "SCRAM-SHA-256"};
    } else {
      return {"PLAIN", "PLAIN-LATE", "LOGIN", "LOGIN-EARLY", "CRAM-MD5"};
    }
  }
  [[nodiscard]] static bool heard_victim(const Server& server) {
    for (const std::string& recipient : server.recipients()) {
      if (recipient.contains("far.example")) {
        return true;
      }
    }
    return false;
  }
  static std::string say_hello(Connection& client) {
    std::string offers = client.say("EHLO stranger.example");
    EXPECT_TRUE(offers.starts_with("250")) << client.transcript();
    return offers;
  }
  // A message for a local recipient and a foreign one.
  static void send_both(Connection& client, const std::string& offers, bool is_pipelined,
                        bool may_relay) {
    is_pipelined &= offers.contains("PIPELINING");  // OpenSMTPD does not
    const std::vector<std::string> commands{
        "MAIL FROM:<a@stranger.example>\r\n", "RCPT TO:<user@example.org>\r\n",
        std::string("RCPT TO:<") + kVictim + ">\r\n", "DATA\r\n"};
    if (is_pipelined) {
      client.send(commands[0] + commands[1] + commands[2] + commands[3]);
    }
    std::vector<std::string> replies;
    for (const std::string& command : commands) {
      if (!is_pipelined) {
        client.send(command);
      }
      replies.push_back(client.read_reply());
    }
    EXPECT_TRUE(replies[1].starts_with("250")) << client.transcript();
    EXPECT_TRUE(replies[2].starts_with(may_relay ? "250" : "550 5.7.1")) << client.transcript();
    ASSERT_TRUE(replies[3].starts_with("354")) << client.transcript();
    EXPECT_TRUE(client.say("Subject: test\r\n\r\ntest\r\n.").starts_with("250"))
        << client.transcript();
    EXPECT_TRUE(client.say("QUIT").starts_with("221")) << client.transcript();
  }
  void send_in_mode(Mode mode, bool server_has_tls) {
    const std::int64_t before = handshakes("server", "full") + handshakes("server", "resumed");
    std::int64_t sessions = 0;
    for (const Family& family : kFamilies) {
      for (const bool is_pipelined : {false, true}) {
        SCOPED_TRACE(std::string(to_text(mode)) + (server_has_tls ? ", TLS" : ", no TLS") +
                     " behind, " + family.name + (is_pipelined ? ", pipelined" : ""));
        Connection client = greeted(Side::outside, family.mx1);
        ++sessions;
        std::string offers;
        if (mode == Mode::terminate) {
          ASSERT_TRUE(secure(client));
        } else if (mode == Mode::pass && server_has_tls) {
          ASSERT_TRUE(secure(client, inner, kInnerName));
        } else {
          offers = say_hello(client);
          EXPECT_FALSE(offers.contains("STARTTLS")) << offers;
          if (mode == Mode::hide) {
            EXPECT_TRUE(client.say("STARTTLS").starts_with("502")) << client.transcript();
          }
        }
        if (client.has_tls()) {
          offers = say_hello(client);
        }
        // Nothing is judged inside a TLS that ends behind us.
        send_both(client, offers, is_pipelined, mode == Mode::pass && server_has_tls);
      }
    }
    // In "pass" the client's TLS, where the server has any, would be inside ours.
    EXPECT_EQ(handshakes("server", "full") + handshakes("server", "resumed") - before,
              server_has_tls && mode != Mode::pass ? sessions : 0)
        << posternd->log();
  }
};

TYPED_TEST_SUITE(TlsServer, RealServers, RealServerName);

// Otherwise the other tests would show nothing.
TYPED_TEST(TlsServer, OffersTlsAndAuthWhereNobodyStandsBetween) {
  const TypeParam server(this->lab, this->offers(true));
  for (const char* mechanism : this->mechanisms()) {
    for (const Account& account : {kAccount, kGuess}) {
      Connection client = this->greeted(Side::inside, kIpv4.mx1);
      EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
      EXPECT_TRUE(client.say("STARTTLS").starts_with("220")) << client.transcript();
      ASSERT_EQ(client.start_tls({.ca_file = this->inner.file(), .name = WithTls::kInnerName}),
                this->kSpeaksTls)
          << client.transcript() << server.log();
      if (this->kSpeaksTls) {
        EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH ")) << client.transcript();
        EXPECT_TRUE(authenticate(client, mechanism, account)
                        .starts_with(account.password == kAccount.password ? "235" : "535"))
            << mechanism << "\n"
            << client.transcript() << server.log();
      }
    }
  }
}

TYPED_TEST(TlsServer, GetsMailInEveryModeWithoutTlsOfItsOwn) {
  const TypeParam server(this->lab, this->offers(false));
  for (const Mode mode : {Mode::terminate, Mode::hide, Mode::pass}) {
    this->start_posternd({.mailer = this->keys(mode)});
    this->send_in_mode(mode, false);
  }
  EXPECT_FALSE(this->heard_victim(server)) << server.log();
}

template <typename Server>
class TlsSpeakingServer : public TlsServer<Server> {
 protected:
  Server server{this->lab, this->offers(true)};
};

using ServersThatSpeakTls = ::testing::Types<Postfix, Exim>;
TYPED_TEST_SUITE(TlsSpeakingServer, ServersThatSpeakTls, RealServerName);

TYPED_TEST(TlsSpeakingServer, GetsMailInEveryMode) {
  for (const Mode mode : {Mode::terminate, Mode::hide, Mode::pass}) {
    this->start_posternd({.mailer = this->keys(mode)});
    this->send_in_mode(mode, true);
    EXPECT_EQ(this->heard_victim(this->server), mode == Mode::pass) << this->server.log();
  }
}

TYPED_TEST(TlsSpeakingServer, RelaysForAStrangerWhoKnowsAPassword) {
  this->start_posternd({.mailer = this->terminate("authenticated_relay = true\n")});
  for (const char* mechanism : this->mechanisms()) {
    SCOPED_TRACE(mechanism);
    Connection client = this->greeted(Side::outside, kIpv6.mx1);
    ASSERT_TRUE(this->secure(client));
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH ")) << client.transcript();
    EXPECT_TRUE(authenticate(client, mechanism, kAccount).starts_with("235"))
        << client.transcript() << this->server.log();
    this->send_both(client, this->say_hello(client), true, true);
  }
  EXPECT_TRUE(this->heard_victim(this->server)) << this->server.log();
}

TYPED_TEST(TlsSpeakingServer, DoesNotRelayForAStrangerWhoGuesses) {
  this->start_posternd({.mailer = this->terminate("authenticated_relay = true\n"),
                        .smtp = "max_auth_failures_per_client = 1000\nlongest_delay = \"1s\"\n"});
  for (const char* mechanism : this->mechanisms()) {
    SCOPED_TRACE(mechanism);
    Connection client = this->greeted(Side::outside, kIpv4.mx1);
    ASSERT_TRUE(this->secure(client));
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH ")) << client.transcript();
    EXPECT_TRUE(authenticate(client, mechanism, kGuess).starts_with("535"))
        << client.transcript() << this->server.log();
    this->send_both(client, this->say_hello(client), false, false);
  }
  EXPECT_FALSE(this->heard_victim(this->server)) << this->server.log();
  EXPECT_EQ(this->posternd->counter("postern_auth_total", {{"result", "accepted"}}), 0);
  EXPECT_EQ(this->posternd->counter("postern_auth_total", {{"result", "refused"}}),
            std::ssize(this->mechanisms()));
}

TYPED_TEST(TlsSpeakingServer, TakesNoPasswordInClear) {
  this->start_posternd({.mailer = this->terminate("authenticated_relay = true\n")});
  Connection client = this->greeted(Side::outside, kIpv4.mx1);
  EXPECT_FALSE(client.say("EHLO stranger.example").contains("AUTH")) << client.transcript();
  EXPECT_TRUE(authenticate(client, "PLAIN", kAccount).starts_with("538 5.7.11"))
      << client.transcript();
  this->send_both(client, this->say_hello(client), false, false);
  EXPECT_FALSE(this->heard_victim(this->server)) << this->server.log();
}

TYPED_TEST(TlsSpeakingServer, HasNoPasswordsTriedByStrangersWhereItIsNotAllowed) {
  this->start_posternd({.mailer = this->terminate()});
  Connection client = this->greeted(Side::outside, kIpv4.mx1);
  ASSERT_TRUE(this->secure(client));
  EXPECT_FALSE(client.say("EHLO stranger.example").contains("AUTH")) << client.transcript();
  EXPECT_TRUE(authenticate(client, "PLAIN", kAccount).starts_with("502")) << client.transcript();
  this->send_both(client, this->say_hello(client), false, false);
  EXPECT_FALSE(this->heard_victim(this->server)) << this->server.log();
}

}  // namespace
}  // namespace postern::testing
