// Sessions in TLS, with either side, and authentications.
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tests/smtp_proxy/session_fixture.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/openssl_peer.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::smtp_proxy {
namespace {

using testing::MadeCertificate;
using testing::OpensslPeer;
using testing::TemporaryFolder;
using Role = OpensslPeer::Role;

const rules::IpAddress kLoopback = *rules::IpAddress::parse("127.0.0.1");
constexpr std::string_view kPlain = "AGFsaWNlAHNlY3JldA==";  // alice, secret

const MadeCertificate& certificate() {
  static const MadeCertificate kMade({.names = {"mx.in.example"}});
  return kMade;
}

rules::Mailer mailer(rules::Starttls starttls, rules::UpstreamTls upstream_tls) {
  return {.name = "inner",
          .authenticated_relay = true,
          .auth_requires_tls = false,
          .starttls = starttls,
          .upstream_tls = upstream_tls};
}

std::shared_ptr<const TlsContexts> contexts() {
  const TemporaryFolder folder;
  const std::vector<CertificateFiles> pairs{
      {.certificate = folder.write("mx.pem", certificate().pem()),
       .private_key = folder.write("mx.key", certificate().key_pem())}};
  return std::make_shared<const TlsContexts>(
      TlsContexts{{0,
                   {.towards_clients = ServerTls::load(pairs, std::chrono::system_clock::now()).tls,
                    .towards_mailer = *ClientTls::load({})}}});
}

class SecureSession : public SessionTest {
 protected:
  SecureSession(rules::Starttls starttls, rules::UpstreamTls upstream_tls)
      : SessionTest(mailer(starttls, upstream_tls), contexts()) {
    sink_.on_each = [this](const rules::Event& event) { events_.push_back(event); };
  }
  // The session may outlive what this class adds to its fixture.
  ~SecureSession() override {
    sink_.on_each = [](const rules::Event&) {};
  }

  template <typename Event>
  [[nodiscard]] std::vector<Event> events() const {
    std::vector<Event> found;
    for (const rules::Event& event : events_) {
      if (const auto* wanted = std::get_if<Event>(&event)) {
        found.push_back(*wanted);
      }
    }
    return found;
  }

  void greet() {
    watched_ = session_;
    serve();
    server_.send("220 inner\r\n");
    ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
    client_.heard.clear();
  }
  void expect_at_server(std::string_view text) {
    ASSERT_TRUE(run_until("the server reads it", [&] { return server_.heard == text; }))
        << text << server_.heard;
    server_.heard.clear();
  }
  void expect_at_client(std::string_view text) {
    ASSERT_TRUE(run_until("the client reads it", [&] { return client_.heard == text; }))
        << text << client_.heard;
    client_.heard.clear();
  }

  // One step of the session, and of the peer behind its TLS.
  template <typename Condition>
  ::testing::AssertionResult step_until(OpensslPeer& peer, std::string_view what,
                                        Condition condition) {
    return wait_until(what, [&] {
      loop_.step(Clock::now());
      peer.shake_hands();
      if (peer.is_established) {
        peer.read();
      }
      return condition();
    });
  }
  void expect_heard(OpensslPeer& peer, std::string_view text) {
    ASSERT_TRUE(step_until(peer, "it is heard in TLS", [&] { return peer.heard == text; }))
        << "expected " << text << ", heard " << peer.heard << ", " << peer.failure;
    peer.heard.clear();
  }

  std::vector<rules::Event> events_;
  std::weak_ptr<Session> watched_;
};

// SIOCOUTQ: sent and not yet acknowledged; SIOCINQ: arrived and not yet read.
int waiting_octets(int socket, unsigned long queue) {
  int octets = -1;
  EXPECT_EQ(::ioctl(socket, queue, &octets), 0);
  return octets;
}

class TlsWithTheClient : public SecureSession {
 protected:
  TlsWithTheClient() : SecureSession(rules::Starttls::terminate, rules::UpstreamTls::off) {}

  void ask() {
    greet();
    client_.send("STARTTLS\r\n");
  }
  void secure() {
    ask();
    expect_at_client("220 2.0.0 ready to start TLS\r\n");
    client_.speaks_tls = true;
    peer_.emplace(Role::client, client_.socket.native_handle());
    ASSERT_TRUE(step_until(*peer_, "TLS is made", [&] { return peer_->is_established; }))
        << peer_->failure;
  }
  void say_hello() {
    peer_->write("EHLO client.example\r\n");
    expect_at_server("EHLO client.example\r\n");
    server_.send("250-inner\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
    expect_heard(*peer_, "250-inner\r\n250 AUTH PLAIN\r\n");
  }
  void authenticate() {
    peer_->write("AUTH PLAIN " + std::string(kPlain) + "\r\n");
    expect_at_server("AUTH PLAIN " + std::string(kPlain) + "\r\n");
    server_.send("235 welcome\r\n");
    expect_heard(*peer_, "235 welcome\r\n");
  }

  std::optional<OpensslPeer> peer_;
};

TEST_F(TlsWithTheClient, CarriesTheSessionOn) {
  secure();
  say_hello();
  authenticate();
  const auto handshakes = events<rules::HandshakeEnded>();
  ASSERT_EQ(handshakes.size(), 1U);
  EXPECT_EQ(handshakes[0].peer, rules::TlsPeer::client);
  EXPECT_EQ(handshakes[0].result, rules::HandshakeResult::full);
  EXPECT_TRUE(handshakes[0].detail.starts_with("TLSv1.3 ")) << handshakes[0].detail;
}

TEST_F(TlsWithTheClient, EndsSilentlyWhereItFails) {
  ask();
  expect_at_client("220 2.0.0 ready to start TLS\r\n");
  client_.send("EHLO in.clear\r\n");
  ASSERT_TRUE(run_until("it is over", [&] { return client_.has_lost_its_peer; }));
  EXPECT_FALSE(client_.heard.contains("421")) << client_.heard;
  ASSERT_TRUE(run_until("it is closed", [&] { return sink_.is_closed; }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::tls_failed);
  EXPECT_EQ(server_.heard, "");
  const auto handshakes = events<rules::HandshakeEnded>();
  ASSERT_EQ(handshakes.size(), 1U);
  EXPECT_EQ(handshakes[0].result, rules::HandshakeResult::failed);
  EXPECT_NE(handshakes[0].detail, "");
}

TEST_F(TlsWithTheClient, IsNotWaitedForLongerThanItsTime) {
  settings_->handshake_timeout = std::chrono::seconds(7);
  ask();
  expect_at_client("220 2.0.0 ready to start TLS\r\n");
  const Clock::time_point asked = Clock::now();
  watched_.lock()->check_time(asked + std::chrono::seconds(6));
  EXPECT_FALSE(sink_.is_closed);
  watched_.lock()->check_time(asked + std::chrono::seconds(8));
  ASSERT_TRUE(run_until("the mailer is let go", [&] { return server_.has_lost_its_peer; }));
  ASSERT_EQ(events<rules::HandshakeEnded>().size(), 1U);
  EXPECT_EQ(client_.heard, "");
}

TEST_F(TlsWithTheClient, IsPutOffWhereTooManyAreBeingComputed) {
  auto other = handshakes_.take(1, [] {});
  other->set_waits_for_client(false);
  settings_->max_handshakes = 1;
  ask();
  expect_at_client("454 4.7.0 TLS is not available right now, try again later\r\n");
  client_.send("NOOP\r\n");
  expect_at_server("NOOP\r\n");
}

// Else a few strangers that begin handshakes would keep everybody in clear.
TEST_F(TlsWithTheClient, TakesThePlaceOfTheOneThatWaitsLongest) {
  std::vector<std::string> gave_up;
  std::optional<HandshakeLimit::Place> first;
  std::optional<HandshakeLimit::Place> second;
  first = handshakes_.take(2, [&] {
    gave_up.emplace_back("first");
    first.reset();
  });
  second = handshakes_.take(2, [&] { gave_up.emplace_back("second"); });
  settings_->max_handshakes = 2;
  secure();
  EXPECT_EQ(gave_up, std::vector<std::string>{"first"});
}

TEST_F(TlsWithTheClient, GivesWayWhereItWaitsLongest) {
  settings_->max_handshakes = 1;
  ask();
  expect_at_client("220 2.0.0 ready to start TLS\r\n");
  std::optional<HandshakeLimit::Place> other;
  EXPECT_TRUE(run_until("it waits for its client", [&] {
    other = handshakes_.take(1, [] {});
    return other.has_value();
  }));
  ASSERT_TRUE(run_until("it is over", [&] { return client_.has_lost_its_peer; }));
  EXPECT_EQ(client_.heard, "") << "nothing may be said in clear";
  ASSERT_TRUE(run_until("the mailer is let go", [&] { return sink_.is_closed; }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::too_many_handshakes);
}

TEST_F(TlsWithTheClient, GivesItsPlaceBack) {
  secure();
  EXPECT_TRUE(run_until("it is free", [&] { return handshakes_.taken() == 0; }));
}

class AbandonedHandshake : public TlsWithTheClient, public ::testing::WithParamInterface<int> {};

TEST_P(AbandonedHandshake, LeavesNothingBehind) {
  ask();
  expect_at_client("220 2.0.0 ready to start TLS\r\n");
  client_.speaks_tls = true;
  peer_.emplace(Role::client, client_.socket.native_handle());
  for (int i = 0; i < GetParam(); ++i) {
    peer_->shake_hands();
    loop_.step(Clock::now());
  }
  watched_.lock()->abandon(rules::Reason::shutting_down);
  ASSERT_TRUE(run_until("it is gone", [&] { return watched_.expired(); }));
  EXPECT_EQ(handshakes_.taken(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Turns, AbandonedHandshake, ::testing::Range(0, 12));

TEST_F(TlsWithTheClient, ForgetsWhatWasReadOfACredential) {
  secure();
  say_hello();
  // In two pieces, so that the first has to be held.
  peer_->write("AUTH PLAIN AGFsaW");
  ASSERT_TRUE(step_until(*peer_, "a piece is held", [&] {
    return waiting_octets(client_.socket.native_handle(), SIOCOUTQ) == 0 &&
           waiting_octets(peer_end_of(client_.socket), SIOCINQ) == 0;
  }));
  peer_->write("NlAHNlY3JldA==\r\n");
  expect_at_server("AUTH PLAIN " + std::string(kPlain) + "\r\n");
  const std::string_view read(buffers_.read.data(), buffers_.read.size());
  EXPECT_FALSE(read.contains("AGFsaW"));
  EXPECT_FALSE(read.contains("NlAHNlY3JldA=="));
}

TEST_F(TlsWithTheClient, LetsAMessageBeLostWithIt) {
  secure();
  say_hello();
  authenticate();
  for (const auto& [command, reply] :
       {std::pair<std::string, std::string>{"MAIL FROM:<a@in.example>\r\n", "250 ok\r\n"},
        {"RCPT TO:<b@far.example>\r\n", "250 ok\r\n"},
        {"DATA\r\n", "354 go on\r\n"}}) {
    peer_->write(command);
    expect_at_server(command);
    server_.send(reply);
    expect_heard(*peer_, reply);
  }
  peer_->write("half a mess");
  expect_at_server("half a mess");
  client_.send("no record of TLS");
  ASSERT_TRUE(run_until("the mailer is reset", [&] { return server_.has_lost_its_peer; }));
  EXPECT_EQ(server_.heard, "") << "no end of data may follow";
  const auto messages = events<rules::MessageEnded>();
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].outcome, rules::MessageOutcome::aborted);
}

class TlsWithTheMailer : public SecureSession {
 protected:
  explicit TlsWithTheMailer(rules::UpstreamTls upstream_tls = rules::UpstreamTls::opportunistic)
      : SecureSession(rules::Starttls::hide, upstream_tls) {}

  void say_hello() {
    greet();
    client_.send("EHLO client.example\r\n");
    expect_at_server("EHLO client.example\r\n");
  }
  void offer_tls() {
    say_hello();
    server_.send("250-inner\r\n250 STARTTLS\r\n");
    expect_at_server("STARTTLS\r\n");
    server_.send("220 go on\r\n");
  }
};

TEST_F(TlsWithTheMailer, IsMadeBehindTheFirstHello) {
  offer_tls();
  server_.speaks_tls = true;
  OpensslPeer peer(Role::server, server_.socket.native_handle(),
                   OpensslPeer::serves(certificate()));
  expect_heard(peer, "EHLO client.example\r\n");
  peer.write("250-inner\r\n250 SIZE 1000\r\n");
  expect_at_client("250-inner\r\n250 SIZE 1000\r\n");
  const auto handshakes = events<rules::HandshakeEnded>();
  ASSERT_EQ(handshakes.size(), 1U);
  EXPECT_EQ(handshakes[0].peer, rules::TlsPeer::server);
  EXPECT_EQ(handshakes[0].result, rules::HandshakeResult::full);
}

TEST_F(TlsWithTheMailer, EndsTheSessionWhereItFailsAndIsNotTriedAgainSoon) {
  offer_tls();
  server_.send("what?\r\n");
  expect_at_client(
      "421 4.7.5 the connection to the mail server could not be secured, try again later\r\n");
  const auto failures = events<rules::UpstreamFailed>();
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].error, rules::UpstreamError::tls);
  EXPECT_TRUE(upstream_tls_.has_failed_lately(kLoopback, Clock::now()));
  EXPECT_FALSE(
      upstream_tls_.has_failed_lately(kLoopback, Clock::now() + UpstreamTlsMemory::kInClear));
}

TEST_F(TlsWithTheMailer, IsTriedAgainWhereOthersHadItJustBefore) {
  upstream_tls_.note_success(kLoopback, Clock::now());
  offer_tls();
  server_.send("what?\r\n");
  expect_at_client(
      "421 4.7.5 the connection to the mail server could not be secured, try again later\r\n");
  EXPECT_FALSE(upstream_tls_.has_failed_lately(kLoopback, Clock::now()));
  upstream_tls_.note_failure(kLoopback, Clock::now() + UpstreamTlsMemory::kTrusted);
  EXPECT_TRUE(
      upstream_tls_.has_failed_lately(kLoopback, Clock::now() + UpstreamTlsMemory::kTrusted));
}

TEST_F(TlsWithTheMailer, IsGivenUpInTime) {
  settings_->handshake_timeout = std::chrono::seconds(7);
  offer_tls();
  ASSERT_TRUE(run_until("our hello came", [&] { return !server_.heard.empty(); }));
  watched_.lock()->check_time(Clock::now() + std::chrono::seconds(8));
  expect_at_client(
      "421 4.7.5 the connection to the mail server could not be secured, try again later\r\n");
  EXPECT_TRUE(upstream_tls_.has_failed_lately(kLoopback, Clock::now()));
}

// Else strangers could have the mailer spoken to in clear.
TEST_F(TlsWithTheMailer, IsNotGivenUpForAClientThatGoesAway) {
  offer_tls();
  ASSERT_TRUE(run_until("our hello came", [&] { return !server_.heard.empty(); }));
  client_.socket.set_option(net::socket_base::linger(true, 0));
  client_.socket.close();
  client_.speaks_tls = true;
  ASSERT_TRUE(run_until("it is over", [&] { return sink_.is_closed; }));
  ASSERT_EQ(events<rules::HandshakeEnded>().size(), 1U);
  EXPECT_EQ(events<rules::HandshakeEnded>()[0].result, rules::HandshakeResult::aborted);
  EXPECT_FALSE(upstream_tls_.has_failed_lately(kLoopback, Clock::now()));
}

TEST_F(TlsWithTheMailer, LeavesAMailerInClearThatHasNone) {
  say_hello();
  server_.send("250 inner\r\n");
  expect_at_client("250 inner\r\n");
}

class RequiredTlsWithTheMailer : public TlsWithTheMailer {
 protected:
  RequiredTlsWithTheMailer() : TlsWithTheMailer(rules::UpstreamTls::require) {}
};

TEST_F(RequiredTlsWithTheMailer, IsNeverDoneWithout) {
  say_hello();
  server_.send("250 inner\r\n");
  expect_at_client(
      "421 4.7.5 the connection to the mail server could not be secured, try again later\r\n");
}

class Authentication : public SecureSession {
 protected:
  Authentication() : SecureSession(rules::Starttls::hide, rules::UpstreamTls::off) {}

  void begin() {
    greet();
    client_.send("EHLO client.example\r\n");
    expect_at_server("EHLO client.example\r\n");
    server_.send("250-inner\r\n250 AUTH PLAIN\r\n");
    expect_at_client("250-inner\r\n250 AUTH PLAIN\r\n");
  }
  void fail() {
    client_.send("AUTH PLAIN " + std::string(kPlain) + "\r\n");
    expect_at_server("AUTH PLAIN " + std::string(kPlain) + "\r\n");
    server_.send("535 no\r\n");
  }
};

TEST_F(Authentication, MakesTheClientWaitWhereItFails) {
  begin();
  fail();
  expect_at_client("535 no\r\n");
  client_.send("NOOP\r\n");
  const Clock::time_point failed = Clock::now();
  for (int i = 0; i < 100; ++i) {
    loop_.step(Clock::now());
    server_.read();
  }
  EXPECT_EQ(server_.heard, "");
  watched_.lock()->check_time(failed + std::chrono::seconds(2));
  expect_at_server("NOOP\r\n");
}

// Also where the next one stands behind it already.
TEST_F(Authentication, MakesWaitWhatIsHeldBehindAFailure) {
  settings_->unauthorised_pipelining = UnauthorisedPipelining::wait;
  begin();
  const std::string attempt = "AUTH PLAIN " + std::string(kPlain) + "\r\n";
  client_.send(attempt + attempt);
  expect_at_server(attempt);
  server_.send("535 no\r\n");
  expect_at_client("535 no\r\n");
  const Clock::time_point failed = Clock::now();
  for (int i = 0; i < 100; ++i) {
    loop_.step(Clock::now());
    server_.read();
  }
  EXPECT_EQ(server_.heard, "");
  watched_.lock()->check_time(failed + std::chrono::seconds(2));
  expect_at_server(attempt);
}

TEST_F(Authentication, HearsWhatIsHeldBehindASuccess) {
  settings_->unauthorised_pipelining = UnauthorisedPipelining::wait;
  begin();
  const std::string attempt = "AUTH PLAIN " + std::string(kPlain) + "\r\n";
  client_.send(attempt + "NOOP\r\n");
  expect_at_server(attempt);
  server_.send("235 welcome\r\n");
  expect_at_server("NOOP\r\n");
}

TEST_F(Authentication, BarsASourceThatFailsTooOften) {
  settings_->max_auth_failures_per_client = 1;
  begin();
  fail();
  expect_at_client("535 no\r\n421 4.7.0 too many failed authentications\r\n");
  ASSERT_EQ(events<rules::SourceBarred>().size(), 1U);
  EXPECT_EQ(events<rules::SourceBarred>()[0].duration, settings_->auth_refusal_time);
  EXPECT_TRUE(authentications_.is_barred(kLoopback, AuthLedger::Clock::now()));
}

TEST_F(Authentication, NoticesAnAccountThatIsUsedFromManyPlaces) {
  settings_->max_clients_per_user = 1;
  static_cast<void>(authentications_.note_success(*rules::IpAddress::parse("192.0.2.1"), "alice",
                                                  *settings_, Clock::now()));
  begin();
  client_.send("AUTH PLAIN " + std::string(kPlain) + "\r\n");
  expect_at_server("AUTH PLAIN " + std::string(kPlain) + "\r\n");
  server_.send("235 welcome\r\n");
  expect_at_client("235 welcome\r\n");
  const auto spreads = events<rules::AccountSpread>();
  ASSERT_EQ(spreads.size(), 1U);
  EXPECT_EQ(spreads[0].user, "alice");
  EXPECT_EQ(spreads[0].sources, 2U);
}

}  // namespace
}  // namespace postern::smtp_proxy
