// What can go wrong around STARTTLS, on either side, before a server that obeys whatever it hears,
// in clear and inside TLS alike. The attacks are those of Poddebniak et al., "Why TLS is better without
// STARTTLS" (USENIX Security 2021), and of CVE-2011-0411.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/sasl_client.hpp"

namespace postern::testing {
namespace {

constexpr const char* kUser = "user@script.example";
constexpr const char* kVictim = "victim@far.example";

class Starttls : public WithTls {
 protected:
  // With TLS of its own.
  void start_server(std::vector<std::string> options = {}) {
    options.insert(options.end(), {"--certificate", inner_certificate.certificate, "--key",
                                   inner_certificate.private_key});
    start_scripted_server(std::move(options));
  }
  void start_terminating(const std::string& more = {}) { start_posternd({.mx2 = terminate(more)}); }
  [[nodiscard]] bool heard(std::string_view word) const {
    return std::ranges::any_of(scripted->commands(),
                               [&](const std::string& command) { return command.contains(word); });
  }
  [[nodiscard]] std::int64_t refused(const char* reason) const {
    return posternd->counter("postern_commands_refused_total", {{"reason", reason}});
  }
};

// --- what clients send

TEST_F(Starttls, IsTheEndOfTheSessionForCommandsInTheSameSegment) {
  start_server();
  std::int64_t sessions = 0;
  for (const char* mode : {"terminate", "pass"}) {
    start_posternd(
        {.mx2 = mode == std::string_view("terminate") ? terminate() : "starttls = \"pass\"\n"});
    for (const std::string behind :
         {"NOOP\r\n", "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<victim@far.example>\r\n", "\r\n", "x", "\n",
          "STARTTLS\r\n", "EHLO injected.example\r\n",
          "\x16\x03\x01\x02"}) {  // the beginning of a ClientHello that did not wait
      SCOPED_TRACE(std::string(mode) + " " + ::testing::PrintToString(behind));
      Connection client = greeted(Side::outside, kIpv4.mx2);
      EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
      client.send("STARTTLS\r\n" + behind);
      EXPECT_TRUE(client.read_reply().starts_with("421 4.7.0")) << client.transcript();
      EXPECT_EQ(client.read_to_end(), "") << client.transcript();
    }
    EXPECT_EQ(refused("command_injection"), 8) << posternd->log();
    sessions += 8;
  }
  EXPECT_TRUE(wait_until("all have ended",
                         [&] { return std::cmp_equal(scripted->sessions_ended(), sessions); }));
  for (const char* injected : {"injected", "NOOP", "far.example"}) {
    EXPECT_FALSE(heard(injected)) << scripted->log();
  }
}

TEST_F(Starttls, IsTheEndOfTheSessionForCommandsInThePlaceOfTheHandshake) {
  start_server();
  start_terminating();
  for (const char* instead :
       {"EHLO injected.example\r\n", "RCPT TO:<victim@far.example>\r\nQUIT\r\n"}) {
    Connection client = greeted(Side::outside, kIpv6.mx2);
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
    EXPECT_TRUE(client.say("STARTTLS").starts_with("220")) << client.transcript();
    client.send(instead);
    // An alert at most.
    EXPECT_FALSE(client.read_to_end().contains("250")) << client.transcript();
    EXPECT_TRUE(client.is_closed_by_peer()) << client.transcript();
  }
  EXPECT_EQ(handshakes("client", "failed"), 2);
  EXPECT_TRUE(wait_until("both have ended", [&] { return scripted->sessions_ended() == 2; }));
  EXPECT_FALSE(heard("injected") || heard("far.example")) << scripted->log();
}

TEST_F(Starttls, ForgetsWhatWasSaidInClear) {
  start_server({"--password", "secret"});
  start_terminating("authenticated_relay = true\nauth_requires_tls = false\n");
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH PLAIN")) << client.transcript();
  EXPECT_TRUE(
      authenticate(client, "PLAIN", {.name = "user", .password = "secret"}).starts_with("235"))
      << client.transcript();
  ASSERT_TRUE(secure(client));
  // The extensions that were offered in clear are not known any more.
  EXPECT_TRUE(client.say("MAIL FROM:<a@stranger.example> SIZE=100").starts_with("555"))
      << client.transcript();
  EXPECT_TRUE(client.say("EHLO stranger.example").starts_with("250")) << client.transcript();
  EXPECT_TRUE(client.say("MAIL FROM:<a@stranger.example> SIZE=100").starts_with("250"))
      << client.transcript();
  // Nor that somebody proved who he was.
  EXPECT_TRUE(client.say(std::string("RCPT TO:<") + kVictim + ">").starts_with("550 5.7.1"))
      << client.transcript();
  EXPECT_FALSE(heard("far.example")) << scripted->log();
}

TEST_F(Starttls, IsPossibleOnceAndBetweenMessagesOnly) {
  start_server();
  start_terminating();
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
  EXPECT_TRUE(client.say("STARTTLS now").starts_with("501")) << client.transcript();
  client.say("MAIL FROM:<a@stranger.example>");
  EXPECT_TRUE(client.say("STARTTLS").starts_with("503")) << client.transcript();
  EXPECT_TRUE(client.say("RSET").starts_with("250")) << client.transcript();
  ASSERT_TRUE(secure(client));
  EXPECT_FALSE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
  EXPECT_TRUE(client.say("STARTTLS").starts_with("503")) << client.transcript();
  EXPECT_TRUE(deliver(client, kUser).starts_with("250")) << client.transcript();
  EXPECT_EQ(scripted->messages().size(), 1U);
}

TEST_F(Starttls, IsRefusedWhereItIsHidden) {
  start_server();
  start_posternd({.mx2 = "starttls = \"hide\"\n"});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_FALSE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
  client.send("STARTTLS\r\nNOOP\r\n");
  EXPECT_TRUE(client.read_reply().starts_with("502")) << client.transcript();
  EXPECT_TRUE(client.read_reply().starts_with("250")) << client.transcript();
  EXPECT_TRUE(deliver(client, kUser).starts_with("250")) << client.transcript();
}

// A refusal must not open a way past the policy.
TEST_F(Starttls, LeavesTheSessionJudgedWhereTheMailerRefusesIt) {
  for (const char* refusal : {"454", "502"}) {
    start_server({"--starttls", refusal});
    start_posternd({.mx2 = "starttls = \"pass\"\n"});
    Connection client = greeted(Side::outside, kIpv4.mx2);
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS")) << client.transcript();
    EXPECT_TRUE(client.say("STARTTLS").starts_with(refusal)) << client.transcript();
    EXPECT_TRUE(deliver(client, kVictim).starts_with("550 5.7.1")) << client.transcript();
    EXPECT_EQ(posternd->counter("postern_sessions_opaque_total"), 0);
    EXPECT_FALSE(heard("far.example")) << scripted->log();
    client.close();
    scripted.reset();
  }
}

TEST_F(Starttls, KeepsStrangersFromRelayingInsideTls) {
  start_server();
  start_terminating();
  for (const Family& family : kFamilies) {
    Connection client = greeted(Side::outside, family.mx2);
    ASSERT_TRUE(secure(client));
    EXPECT_TRUE(deliver(client, kVictim).starts_with("550 5.7.1 ")) << client.transcript();
    EXPECT_TRUE(client.say("RSET").starts_with("250")) << client.transcript();
    EXPECT_TRUE(deliver(client, kUser).starts_with("250")) << client.transcript();
  }
  EXPECT_FALSE(heard("far.example")) << scripted->log();
  EXPECT_EQ(scripted->messages().size(), 2U);
  EXPECT_EQ(handshakes("client", "full"), 2);
  EXPECT_EQ(posternd->counter("postern_recipients_total", {{"reason", "relay_denied"}}), 2);
}

TEST_F(Starttls, DoesNotLetAClientHoldAHandshakeForEver) {
  start_server();
  start_posternd({.mx2 = terminate(),
                  .smtp = "handshake_timeout = \"2s\"\nmax_handshakes = 2\n",
                  .gateway = "workers = 1\n"});  // each has its own
  std::vector<Connection> holders;
  for (int holder = 0; holder < 2; ++holder) {
    holders.push_back(greeted(Side::outside, kIpv4.mx2));
    EXPECT_TRUE(holders.back().say("EHLO stranger.example").contains("STARTTLS"));
    EXPECT_TRUE(holders.back().say("STARTTLS").starts_with("220")) << holders.back().transcript();
  }
  // Who has waited longest gives way.
  Connection third = greeted(Side::outside, kIpv4.mx2);
  ASSERT_TRUE(secure(third)) << third.transcript();
  EXPECT_TRUE(deliver(third, kUser).starts_with("250")) << third.transcript();
  for (Connection& holder : holders) {
    holder.read_to_end();
    EXPECT_TRUE(holder.is_closed_by_peer()) << holder.transcript();
  }
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(secure(client)) << client.transcript();
}

// --- what mail servers do

enum class Becomes { tls, clear, ends };

struct Behaviour {
  const char* name;
  std::vector<std::string> options;
  Becomes opportunistic;
  Becomes require;
  Becomes verify;
  Becomes opportunistic_again;  // in the next session
};

void PrintTo(const Behaviour& behaviour, std::ostream* out) {
  *out << behaviour.name;
}

const std::vector<Behaviour> kBehaviours{
    {"SpeaksTls", {}, Becomes::tls, Becomes::tls, Becomes::tls, Becomes::tls},
    {"DoesNotOfferTls",
     {"--hide-starttls"},
     Becomes::clear,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"Says454",
     {"--starttls", "454"},
     Becomes::clear,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"Says502",
     {"--starttls", "502"},
     Becomes::clear,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"ClosesAtStarttls",
     {"--starttls", "close"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::ends},
    {"IsSilentAtStarttls",
     {"--starttls", "silent"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::ends},
    {"ClosesInTheHandshake",
     {"--starttls", "220-close"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"IsSilentInTheHandshake",
     {"--starttls", "220-silent"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"SpeaksNoTlsInTheHandshake",
     {"--starttls", "220-garbage"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::clear},
    {"InjectsAReply",
     {"--starttls", "220-inject"},
     Becomes::ends,
     Becomes::ends,
     Becomes::ends,
     Becomes::ends},
};

class UpstreamTls : public Starttls, public ::testing::WithParamInterface<Behaviour> {
 protected:
  // A message from the outside; the server knows whether it came in TLS.
  [[nodiscard]] Becomes send_message(const Family& family) {
    const std::size_t stored = scripted->messages().size();
    const std::size_t in_clear = scripted->commands_in_clear().size();
    Connection client = greeted(Side::outside, family.mx2);
    const std::string reply = client.say("EHLO stranger.example");
    EXPECT_FALSE(reply.contains("injected")) << client.transcript();
    if (!reply.starts_with("250")) {
      EXPECT_TRUE(reply.starts_with("421 4.")) << client.transcript();
      EXPECT_EQ(client.read_to_end(), "") << client.transcript();
      return Becomes::ends;
    }
    EXPECT_TRUE(deliver(client, kUser).starts_with("250")) << client.transcript();
    EXPECT_EQ(scripted->messages().size(), stored + 1) << scripted->log();
    const auto clear = scripted->commands_in_clear();
    return std::find(clear.begin() + static_cast<std::ptrdiff_t>(in_clear), clear.end(), "DATA") ==
                   clear.end()
               ? Becomes::tls
               : Becomes::clear;
  }
  void start_with(const std::string& upstream_tls) {
    start_posternd({.mx2 = "upstream_tls = \"" + upstream_tls + "\"\n",
                    .smtp = "handshake_timeout = \"1s\"\nreply_timeout = \"1s\"\n",
                    .gateway = "workers = 1\n"});  // each remembers for itself who failed
  }
  [[nodiscard]] std::string verify_by(const TestCa& authority, const std::string& name) {
    return "verify\"\nupstream_ca_file = \"" + authority.file().string() +
           "\"\nupstream_name = \"" + name;
  }
};

TEST_P(UpstreamTls, IsAsSecureAsThePolicyAsks) {
  start_server(GetParam().options);
  start_with("off");
  EXPECT_EQ(send_message(kIpv4), Becomes::clear) << scripted->log();
  EXPECT_FALSE(heard("STARTTLS")) << scripted->log();
  start_with("opportunistic");
  EXPECT_EQ(send_message(kIpv6), GetParam().opportunistic) << posternd->log();
  EXPECT_EQ(send_message(kIpv6), GetParam().opportunistic_again) << posternd->log();
  const std::size_t stored = scripted->messages().size();
  const std::size_t data_in_clear =
      static_cast<std::size_t>(std::ranges::count(scripted->commands_in_clear(), "DATA"));
  start_with("require");
  EXPECT_EQ(send_message(kIpv4), GetParam().require) << posternd->log();
  EXPECT_EQ(send_message(kIpv4), GetParam().require) << posternd->log();
  start_with(verify_by(inner, kInnerName));
  EXPECT_EQ(send_message(kIpv6), GetParam().verify) << posternd->log();
  // Neither of the two sent anything in clear.
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(scripted->commands_in_clear(), "DATA")),
            data_in_clear);
  EXPECT_EQ(scripted->messages().size(), stored + (GetParam().require == Becomes::tls ? 2 : 0) +
                                             (GetParam().verify == Becomes::tls ? 1 : 0));
}

INSTANTIATE_TEST_SUITE_P(EveryServer, UpstreamTls, ::testing::ValuesIn(kBehaviours),
                         [](const auto& row) { return row.param.name; });

TEST_F(UpstreamTls, TrustsWhoItWasToldToTrust) {
  start_server();
  struct Trust {
    std::string keys;
    Becomes becomes;
  };
  const TestCa stranger(lab.folder() / "stranger");
  for (const Trust& trust :
       {Trust{verify_by(inner, kInnerName), Becomes::tls},
        Trust{verify_by(inner, "other.example.org"), Becomes::ends},
        Trust{verify_by(stranger, kInnerName), Becomes::ends},
        // The system's store does not hold it.
        Trust{std::string("verify\"\nupstream_name = \"") + kInnerName, Becomes::ends}}) {
    start_with(trust.keys);
    EXPECT_EQ(send_message(kIpv4), trust.becomes) << trust.keys << "\n" << posternd->log();
    EXPECT_EQ(posternd->counter("postern_upstream_errors_total", {{"kind", "tls"}}),
              trust.becomes == Becomes::ends ? 1 : 0);
  }
}

TEST_F(UpstreamTls, DoesNotTrustACertificateThatHasExpired) {
  const auto expired =
      inner.issue("expired", {kInnerName}, TestCa::KeyType::ecdsa_p256, std::chrono::days{-1});
  start_scripted_server({"--certificate", expired.certificate, "--key", expired.private_key});
  start_with("require");
  EXPECT_EQ(send_message(kIpv4), Becomes::tls) << posternd->log();
  start_with(verify_by(inner, kInnerName));
  EXPECT_EQ(send_message(kIpv4), Becomes::ends) << posternd->log();
}

// What the server offers in clear is not what counts: anybody could have said it.
TEST_F(UpstreamTls, ShowsTheClientWhatIsOfferedInside) {
  start_server({"--extension", "DSN", "--extension-in-tls", "DELIVERBY"});
  start_with("opportunistic");
  Connection client = greeted(Side::outside, kIpv4.mx2);
  client.say("EHLO stranger.example");
  EXPECT_TRUE(client.transcript().contains("DELIVERBY")) << client.transcript();
  // Resumed from the second session on.
  for (int session = 0; session < 2; ++session) {
    EXPECT_EQ(send_message(kIpv4), Becomes::tls);
  }
  EXPECT_GE(handshakes("server", "resumed"), 1) << posternd->log();
}

}  // namespace
}  // namespace postern::testing
