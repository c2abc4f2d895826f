// TLS over pairs of sockets: our two roles with each other, and each with OpenSSL set up as a peer may be.
#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <rapidcheck/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "smtp_proxy/tls/channel.hpp"
#include "smtp_proxy/tls/client_tls.hpp"
#include "smtp_proxy/tls/server_tls.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/openssl_peer.hpp"
#include "tests/support/sockets.hpp"
#include "tests/support/wait.hpp"

namespace postern::smtp_proxy {
namespace {

using std::chrono::system_clock;
using testing::CertificateWish;
using testing::MadeCertificate;
using testing::OpensslPeer;
using testing::SocketPair;
using testing::TemporaryFolder;
using Role = OpensslPeer::Role;
using Status = TlsChannel::Status;

const rules::IpAddress kServer = *rules::IpAddress::parse("192.0.2.25");

// Made once: keys of RSA take their time.
const MadeCertificate& rsa() {
  static const MadeCertificate kMade(
      {.names = {"mx.example.org"}, .key = {.type = "RSA", .detail = "2048"}});
  return kMade;
}
const MadeCertificate& ecdsa() {
  static const MadeCertificate kMade({.names = {"mx.example.org"}});
  return kMade;
}

struct Files {
  TemporaryFolder folder;
  std::vector<CertificateFiles> pairs;

  void add(const MadeCertificate& made) {
    const std::string number = std::to_string(pairs.size());
    pairs.push_back({.certificate = folder.write(number + ".pem", made.pem()),
                     .private_key = folder.write(number + ".key", made.key_pem())});
  }
};

std::shared_ptr<const ServerTls> server_with(std::initializer_list<const MadeCertificate*> all) {
  Files files;
  for (const MadeCertificate* made : all) {
    files.add(*made);
  }
  auto loaded = ServerTls::load(files.pairs, system_clock::now());
  for (const auto& problem : loaded.problems) {
    ADD_FAILURE() << problem.message;
  }
  return loaded.tls;
}

std::shared_ptr<const ClientTls> client_with(const ClientTlsSettings& settings) {
  auto loaded = ClientTls::load(settings);
  if (!loaded) {
    ADD_FAILURE() << loaded.error();
    return nullptr;
  }
  return *loaded;
}

bool is_over(Status status) {
  return status == Status::done || status == Status::failed;
}

// Both until each is done, or has failed.
void shake_hands(TlsChannel& ours, OpensslPeer& peer) {
  Status status = Status::wants_read;
  bool is_peer_over = false;
  for (int turn = 0; turn < 1000 && !(is_over(status) && is_peer_over); ++turn) {
    status = is_over(status) ? status : ours.handshake();
    ours.flush();
    is_peer_over = peer.shake_hands();
  }
  peer.read();  // tickets, or the alert that says why not
}

bool shake_hands(TlsChannel& client, TlsChannel& server) {
  Status of_client = Status::wants_read;
  Status of_server = Status::wants_read;
  for (int turn = 0; turn < 1000 && !(is_over(of_client) && is_over(of_server)); ++turn) {
    of_client = is_over(of_client) ? of_client : client.handshake();
    of_server = is_over(of_server) ? of_server : server.handshake();
  }
  return of_client == Status::done && of_server == Status::done;
}

std::string read_all(TlsChannel& channel) {
  std::array<char, 1000> buffer{};
  std::string heard;
  while (true) {
    const auto [status, octets] = channel.read(buffer);
    heard.append(buffer.data(), octets);
    if (status != Status::done) {
      return heard;
    }
  }
}

TEST(TlsChannel, SpeaksWithItsOwnKind) {
  const auto server_tls = server_with({&ecdsa()});
  const auto client_tls = client_with({});
  ClientSessions sessions;
  SocketPair sockets;
  TlsChannel client = client_tls->connect(sockets.ours(), kServer, sessions);
  TlsChannel server = server_tls->accept(sockets.theirs());
  ASSERT_TRUE(shake_hands(client, server)) << client.failure() << server.failure();
  EXPECT_EQ(client.description(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
  EXPECT_FALSE(client.was_resumed());
  EXPECT_EQ(server.write("220 hello\r\n").octets, 11U);
  EXPECT_EQ(read_all(client), "220 hello\r\n");
  EXPECT_EQ(client.write("QUIT\r\n").octets, 6U);
  EXPECT_EQ(read_all(server), "QUIT\r\n");
}

// A certificate authority, as a mailer's is.
struct Authority {
  MadeCertificate root{{.common_name = "Root", .is_authority = true}};
  MadeCertificate other{{.common_name = "Other", .is_authority = true}};
  MadeCertificate leaf{{.names = {"mail.example.org", "IP:192.0.2.25"}, .issuer = &root}};
  MadeCertificate expired{{.names = {"mail.example.org"},
                           .issuer = &root,
                           .begins = std::chrono::hours{-48},
                           .ends = std::chrono::hours{-24}}};
};

const Authority& authority() {
  static const Authority kMade;
  return kMade;
}

struct Handshake {
  bool is_established;
  std::string failure_of_ours;
  std::string failure_of_peer;
  std::string description;
  std::string certificate_name;  // first of what the peer was shown
  std::string key_type;
};

std::string first_name_of(X509* certificate) {
  for (const char* name :
       {"mx.example.org", "mail.example.org", "other.example.net", "any.wild.example.org"}) {
    if (X509_check_host(certificate, name, 0, 0, nullptr) == 1) {
      return name;
    }
  }
  return "";
}

Handshake serve_peer(const ServerTls& tls, const OpensslPeer::Settings& settings,
                     const char* name = nullptr) {
  SocketPair sockets;
  TlsChannel server = tls.accept(sockets.ours());
  OpensslPeer peer(Role::client, sockets.theirs(), settings);
  if (name != nullptr) {
    peer.say_name(name);
  }
  shake_hands(server, peer);
  Handshake result{.is_established = peer.is_established && server.is_established(),
                   .failure_of_ours = server.failure(),
                   .failure_of_peer = peer.failure,
                   .description = server.description()};
  if (X509* shown = SSL_get0_peer_certificate(peer.ssl())) {
    result.certificate_name = first_name_of(shown);
    result.key_type = EVP_PKEY_get0_type_name(X509_get0_pubkey(shown));
  }
  return result;
}

OpensslPeer::Settings versions(int lowest, int highest) {
  return [=](SSL_CTX* context) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_min_proto_version(context, lowest);
    SSL_CTX_set_max_proto_version(context, highest);
  };
}

OpensslPeer::Settings ciphers_of_tls12(const char* list) {
  return [list](SSL_CTX* context) {
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    ASSERT_EQ(SSL_CTX_set_cipher_list(context, list), 1) << list;
  };
}

TEST(ServerTls, AgreesOnWhatRfc9325Recommends) {
  const auto tls = server_with({&rsa(), &ecdsa()});
  struct {
    const char* name;
    OpensslPeer::Settings peer;
    std::string description;
    std::string key_type;
  } const rows[]{
      {"all", {}, "TLSv1.3 TLS_AES_128_GCM_SHA256", "EC"},
      {"1.2", versions(0, TLS1_2_VERSION), "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256", "EC"},
      {"1.2 with RSA only", ciphers_of_tls12("ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA"),
       "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384", "RSA"},
      {"ChaCha20", ciphers_of_tls12("ECDHE-ECDSA-CHACHA20-POLY1305"),
       "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305", "EC"},
      {"1.3 with RSA only",
       [](SSL_CTX* context) {
         SSL_CTX_set1_sigalgs_list(context, "rsa_pss_rsae_sha256:RSA+SHA256");
       },
       "TLSv1.3 TLS_AES_128_GCM_SHA256", "RSA"},
      {"P-384 only", [](SSL_CTX* context) { SSL_CTX_set1_groups_list(context, "P-384"); },
       "TLSv1.3 TLS_AES_128_GCM_SHA256", "EC"},
  };
  for (const auto& row : rows) {
    const Handshake result = serve_peer(*tls, row.peer);
    EXPECT_TRUE(result.is_established)
        << row.name << ": " << result.failure_of_ours << ", " << result.failure_of_peer;
    EXPECT_EQ(result.description, row.description) << row.name;
    EXPECT_EQ(result.key_type, row.key_type) << row.name;
  }
}

TEST(ServerTls, RefusesTheRestAndSaysWhy) {
  const auto tls = server_with({&rsa()});
  struct {
    const char* name;
    OpensslPeer::Settings peer;
    std::string failure;
    std::string alert;
  } const rows[]{
      {"1.0", versions(TLS1_VERSION, TLS1_VERSION), "the peer offers no TLS 1.2 or 1.3",
       "tlsv1 alert protocol version"},
      {"1.1", versions(TLS1_1_VERSION, TLS1_1_VERSION), "the peer offers no TLS 1.2 or 1.3",
       "tlsv1 alert protocol version"},
      {"no forward secrecy", ciphers_of_tls12("AES128-GCM-SHA256"), "no cipher suite in common",
       "sslv3 alert handshake failure"},
      {"CBC", ciphers_of_tls12("ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA"),
       "no cipher suite in common", "sslv3 alert handshake failure"},
      {"finite fields", ciphers_of_tls12("DHE-RSA-AES128-GCM-SHA256"), "no cipher suite in common",
       "sslv3 alert handshake failure"},
      {"no authentication", ciphers_of_tls12("aNULL"), "no cipher suite in common",
       "sslv3 alert handshake failure"},
      {"another group", [](SSL_CTX* context) { SSL_CTX_set1_groups_list(context, "P-521"); },
       "no group for the key exchange in common", "sslv3 alert handshake failure"},
      {"SHA-1",
       [](SSL_CTX* context) {
         SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
         SSL_CTX_set1_sigalgs_list(context, "RSA+SHA1");
       },
       "no signature algorithm in common", "sslv3 alert handshake failure"},
  };
  for (const auto& row : rows) {
    const Handshake result = serve_peer(*tls, row.peer);
    EXPECT_FALSE(result.is_established) << row.name;
    EXPECT_EQ(result.failure_of_ours, row.failure) << row.name;
    EXPECT_EQ(result.failure_of_peer, row.alert) << row.name;
  }
}

TEST(ServerTls, ChoosesByTheNameThatTheClientSays) {
  const MadeCertificate wild({.names = {"*.wild.example.org", "*.example.org"}});
  const MadeCertificate other({.names = {"other.example.net"}});
  const MadeCertificate other_rsa(
      {.names = {"other.example.net"}, .key = {.type = "RSA", .detail = "2048"}});
  const auto tls = server_with({&wild, &ecdsa(), &other, &other_rsa});
  struct {
    const char* said;
    const char* shown;
  } const rows[]{
      {"mx.example.org", "mx.example.org"},  // and not the wildcard before it
      {"MX.EXAMPLE.ORG", "mx.example.org"},         {"mail.example.org", "mail.example.org"},
      {"any.wild.example.org", "mail.example.org"}, {"other.example.net", "other.example.net"},
      {"nobody.example.com", "mail.example.org"},   {nullptr, "mail.example.org"},
  };
  for (const auto& [said, shown] : rows) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      const Handshake result = serve_peer(*tls, versions(version, version), said);
      EXPECT_TRUE(result.is_established) << result.failure_of_ours << result.failure_of_peer;
      const std::string first =
          result.certificate_name == "mx.example.org" && std::string(shown) == "mail.example.org"
              ? "mail.example.org"  // the wildcard covers both
              : result.certificate_name;
      EXPECT_EQ(first, shown) << (said != nullptr ? said : "no name") << ", " << version;
    }
  }
  const Handshake with_rsa =
      serve_peer(*tls, ciphers_of_tls12("ECDHE-RSA-AES128-GCM-SHA256"), "other.example.net");
  EXPECT_TRUE(with_rsa.is_established) << with_rsa.failure_of_ours;
}

// The session that a peer got, for its next connection.
std::shared_ptr<SSL_SESSION> connect_with(const ServerTls& tls, int version, const char* name,
                                          SSL_SESSION* session, bool& was_resumed) {
  SocketPair sockets;
  TlsChannel server = tls.accept(sockets.ours());
  OpensslPeer peer(Role::client, sockets.theirs(), versions(version, version));
  if (name != nullptr) {
    peer.say_name(name);
  }
  if (session != nullptr) {
    SSL_set_session(peer.ssl(), session);
  }
  shake_hands(server, peer);
  EXPECT_TRUE(peer.is_established) << peer.failure << server.failure();
  was_resumed = server.was_resumed();
  server.shut_down();
  peer.read();
  EXPECT_TRUE(peer.has_closed);
  SSL_shutdown(peer.ssl());
  return {SSL_get1_session(peer.ssl()), SSL_SESSION_free};
}

TEST(ServerTls, ResumesByTicketWhateverTheName) {
  const MadeCertificate other({.names = {"other.example.net"}});
  const auto tls = server_with({&ecdsa(), &other});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const char* name : {"mx.example.org", "other.example.net", "nobody.example.com",
                             static_cast<const char*>(nullptr)}) {
      bool was_resumed = true;
      auto session = connect_with(*tls, version, name, nullptr, was_resumed);
      EXPECT_FALSE(was_resumed);
      for (int again = 0; again < 2; ++again) {
        session = connect_with(*tls, version, name, session.get(), was_resumed);
        EXPECT_TRUE(was_resumed) << (name != nullptr ? name : "no name") << ", " << version;
        EXPECT_TRUE(SSL_SESSION_is_resumable(session.get())) << "no new ticket, " << version;
      }
    }
  }
}

TEST(ServerTls, DoesNotResumeWhatAnotherGave) {
  const auto first = server_with({&ecdsa()});
  const auto second = server_with({&ecdsa()});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    bool was_resumed = true;
    const auto session = connect_with(*first, version, nullptr, nullptr, was_resumed);
    static_cast<void>(connect_with(*second, version, nullptr, session.get(), was_resumed));
    EXPECT_FALSE(was_resumed) << version;
  }
}

TEST(ServerTls, MayGoBeforeItsChannels) {
  const MadeCertificate other({.names = {"other.example.net"}});
  auto tls = server_with({&ecdsa(), &other});
  SocketPair sockets;
  TlsChannel server = tls->accept(sockets.ours());
  tls.reset();
  OpensslPeer peer(Role::client, sockets.theirs());
  peer.say_name("other.example.net");
  shake_hands(server, peer);
  ASSERT_TRUE(peer.is_established) << peer.failure << server.failure();
  EXPECT_EQ(first_name_of(SSL_get0_peer_certificate(peer.ssl())), "other.example.net");
}

struct Established {
  explicit Established(const OpensslPeer::Settings& settings = {}, int socket_octets = 0)
      : tls(server_with({&ecdsa()})),
        sockets(socket_octets),
        server(tls->accept(sockets.ours())),
        peer(Role::client, sockets.theirs(), settings) {
    shake_hands(server, peer);
    EXPECT_TRUE(peer.is_established && server.is_established()) << peer.failure << server.failure();
  }

  std::shared_ptr<const ServerTls> tls;
  SocketPair sockets;
  TlsChannel server;
  OpensslPeer peer;
};

TEST(TlsChannel, TellsCloseNotifyFromData) {
  Established both;
  both.peer.write("QUIT\r\n");
  SSL_shutdown(both.peer.ssl());
  std::array<char, 100> buffer{};
  const auto [status, octets] = both.server.read(buffer);
  EXPECT_EQ(status, Status::done);
  EXPECT_EQ(octets, 6U);
  EXPECT_EQ(both.server.read(buffer).status, Status::closed);
  EXPECT_EQ(both.server.read(buffer).status, Status::closed);
  EXPECT_EQ(both.server.write("221 bye\r\n").status, Status::done);  // RFC 8446 6.1: one direction
  both.peer.read();
  EXPECT_EQ(both.peer.heard, "221 bye\r\n");
}

// SMTP knows where a message ends, so an end without close_notify is an end like any other.
TEST(TlsChannel, TakesTruncationForAnEnd) {
  Established both;
  both.peer.write("DATA\r\n");
  both.sockets.close_theirs();
  std::array<char, 100> buffer{};
  EXPECT_EQ(both.server.read(buffer).octets, 6U);
  EXPECT_EQ(both.server.read(buffer).status, Status::closed);
}

TEST(TlsChannel, GivesNothingOfATruncatedRecord) {
  Established both;
  SocketPair wire;
  SSL_set_fd(both.peer.ssl(), wire.ours());
  both.peer.write("RCPT TO:<user@example.org>\r\n");
  std::array<char, 1000> record{};
  const ssize_t size = ::recv(wire.theirs(), record.data(), record.size(), 0);
  ASSERT_GT(size, 10);
  ::send(both.sockets.theirs(), record.data(), static_cast<std::size_t>(size - 1), 0);
  ::shutdown(both.sockets.theirs(), SHUT_WR);
  std::array<char, 100> buffer{};
  EXPECT_EQ(both.server.read(buffer).octets, 0U);
  EXPECT_EQ(both.server.read(buffer).status, Status::closed);
}

TEST(TlsChannel, FailsForGoodOnADamagedRecord) {
  Established both;
  SocketPair wire;
  SSL_set_fd(both.peer.ssl(), wire.ours());
  both.peer.write("RCPT TO:<user@example.org>\r\n");
  std::array<char, 1000> record{};
  const ssize_t size = ::recv(wire.theirs(), record.data(), record.size(), 0);
  ASSERT_GT(size, 10);
  record[9] = static_cast<char>(record[9] ^ 1);
  ::send(both.sockets.theirs(), record.data(), static_cast<std::size_t>(size), 0);
  std::array<char, 100> buffer{};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(both.server.read(buffer).status, Status::failed);
    EXPECT_EQ(both.server.failure(), "a record was damaged on its way");
    EXPECT_EQ(both.server.write("250 ok\r\n").status, Status::failed);
  }
}

TEST(TlsChannel, SaysWhyAHandshakeFailed) {
  struct {
    const char* name;
    std::string bytes;
    std::string failure;
  } const rows[]{
      {"a command", "EHLO client.example.org\r\n", "the peer does not speak TLS"},
      {"HTTP", "GET / HTTP/1.0\r\n\r\n", "the peer does not speak TLS, but HTTP"},
      {"zeros", std::string(2000, '\0'), "the peer does not speak TLS"},
      {"the beginning of a record", std::string("\x16\x03\x01\x02", 4),
       "the peer closed the connection"},
      {"a record that is too long", std::string("\x16\x03\x01\xff\xff", 5) + std::string(100, 'x'),
       "packet length too long"},
      {"nothing", "", "the peer closed the connection"},
  };
  const auto tls = server_with({&ecdsa()});
  for (const auto& row : rows) {
    SocketPair sockets;
    TlsChannel server = tls->accept(sockets.ours());
    EXPECT_EQ(server.handshake(), Status::wants_read) << row.name;
    ::send(sockets.theirs(), row.bytes.data(), row.bytes.size(), 0);
    ::shutdown(sockets.theirs(), SHUT_WR);
    static_cast<void>(server.handshake());  // may have taken a part, and not seen the end yet
    EXPECT_EQ(server.handshake(), Status::failed) << row.name;
    EXPECT_EQ(server.failure(), row.failure) << row.name;
    EXPECT_EQ(server.handshake(), Status::failed) << row.name;
    EXPECT_FALSE(server.is_established());
  }
}

TEST(TlsChannel, SurvivesAPeerThatIsGone) {
  Established both;
  both.sockets.close_theirs();
  for (int i = 0; i < 3; ++i) {
    static_cast<void>(both.server.write("250 ok\r\n"));  // no SIGPIPE
    EXPECT_FALSE(both.server.has_unsent());
  }
  both.server.shut_down();
}

TEST(TlsChannel, RefusesRenegotiation) {
  Established both(versions(TLS1_2_VERSION, TLS1_2_VERSION));
  ASSERT_EQ(SSL_renegotiate(both.peer.ssl()), 1);
  both.peer.is_established = false;
  std::array<char, 100> buffer{};
  for (int turn = 0; turn < 100 && !both.peer.shake_hands(); ++turn) {
    static_cast<void>(both.server.read(buffer));
  }
  EXPECT_FALSE(both.peer.is_established);
  EXPECT_EQ(both.peer.failure, "no renegotiation");
}

TEST(ClientTls, RefusesRenegotiation) {
  const auto tls = client_with({});
  ClientSessions sessions;
  SocketPair sockets;
  TlsChannel client = tls->connect(sockets.ours(), kServer, sessions);
  OpensslPeer peer(Role::server, sockets.theirs(), [](SSL_CTX* context) {
    OpensslPeer::serves(ecdsa())(context);
    versions(0, TLS1_2_VERSION)(context);
  });
  shake_hands(client, peer);
  ASSERT_TRUE(peer.is_established) << client.failure();
  ASSERT_EQ(SSL_renegotiate(peer.ssl()), 1);
  std::array<char, 100> buffer{};
  for (int turn = 0; turn < 100 && peer.failure.empty(); ++turn) {
    peer.is_established = false;
    peer.shake_hands();
    static_cast<void>(client.read(buffer));
    peer.read();
  }
  EXPECT_EQ(peer.failure, "no renegotiation");
}

// What a peer sends without end must not keep its worker.
TEST(TlsChannel, GivesOthersTheirTurnDuringAFloodOfKeyUpdates) {
  Established both;
  std::array<char, 100> buffer{};
  const int octets = 4 * 1024 * 1024;
  ::setsockopt(both.sockets.theirs(), SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
  int sent = 0;
  for (; sent < 20'000; ++sent) {
    SSL_key_update(both.peer.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    if (SSL_do_handshake(both.peer.ssl()) != 1) {
      break;
    }
  }
  ASSERT_GT(sent, 4000);
  const auto first = both.server.read(buffer);
  EXPECT_EQ(first.status, Status::done) << "there is more";
  EXPECT_EQ(first.octets, 0U);
  int reads = 1;
  while (both.server.read(buffer).status == Status::done) {
    ++reads;
  }
  EXPECT_GT(reads, 2);
  EXPECT_EQ(both.server.failure(), "");
}

constexpr int kTiny = 4096;

TEST(TlsChannel, AnswersAKeyUpdateThoughTheSocketIsFull) {
  Established both({}, kTiny);
  const std::string text(100'000, 'x');
  EXPECT_EQ(both.server.write(text).octets, text.size());
  ASSERT_TRUE(both.server.has_unsent());
  ASSERT_EQ(SSL_key_update(both.peer.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  ASSERT_EQ(both.peer.write("NOOP\r\n"), 6U);
  std::array<char, 100> buffer{};
  const auto [status, octets] = both.server.read(buffer);
  EXPECT_EQ(status, Status::wants_read) << "a watch would wait now";
  EXPECT_EQ(std::string_view(buffer.data(), octets), "NOOP\r\n");
  EXPECT_EQ(both.server.write("250 ok\r\n").octets, 8U);
  for (int turn = 0; turn < 10'000 && both.peer.heard.size() < text.size() + 8; ++turn) {
    both.server.flush();
    both.peer.read();
  }
  EXPECT_EQ(both.peer.heard, text + "250 ok\r\n");
  EXPECT_EQ(both.peer.failure, "");
  EXPECT_FALSE(both.server.has_unsent());
}

TEST(TlsChannel, GivesUpOnAPeerThatAsksForKeysAndNeverReads) {
  Established both({}, kTiny);
  const std::string much(4'180'000, 'x');  // nearly as much as may wait
  EXPECT_EQ(both.server.write(much).octets, much.size());
  std::array<char, 100> buffer{};
  EXPECT_EQ(both.server.read(buffer).status, Status::wants_read) << both.server.failure();
  Status status = Status::done;
  for (int i = 0; i < 10'000 && status != Status::failed; ++i) {
    SSL_key_update(both.peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
    static_cast<void>(SSL_do_handshake(both.peer.ssl()));
    status = both.server.read(buffer).status;
  }
  EXPECT_EQ(status, Status::failed);
  EXPECT_EQ(both.server.failure(), "the peer does not read");
}

// How our client fares with a server of OpenSSL's.
std::string failure_with(const ClientTlsSettings& settings, const MadeCertificate& certificate) {
  const auto tls = client_with(settings);
  ClientSessions sessions;
  SocketPair sockets;
  TlsChannel client = tls->connect(sockets.ours(), kServer, sessions);
  OpensslPeer peer(Role::server, sockets.theirs(), OpensslPeer::serves(certificate));
  shake_hands(client, peer);
  EXPECT_EQ(client.is_established(), client.failure().empty());
  return client.failure();
}

TEST(ClientTls, VerifiesIfToldTo) {
  const TemporaryFolder folder;
  const auto root = folder.write("root.pem", authority().root.pem());
  const auto other = folder.write("other.pem", authority().other.pem());
  const auto leaf = folder.write("leaf.pem", authority().leaf.pem());
  const std::string kRefused = "the peer's certificate is not accepted: ";
  struct {
    const char* name;
    ClientTlsSettings settings;
    const MadeCertificate& shown;
    std::string failure;
  } const rows[]{
      {"right", {true, "mail.example.org", root}, authority().leaf, ""},
      {"right, in capitals", {true, "MAIL.example.org", root}, authority().leaf, ""},
      {"right, by address", {true, "192.0.2.25", root}, authority().leaf, ""},
      {"the certificate itself", {true, "mail.example.org", leaf}, authority().leaf, ""},
      {"another name",
       {true, "mx.example.org", root},
       authority().leaf,
       kRefused + "hostname mismatch (expected mx.example.org)"},
      {"another address",
       {true, "192.0.2.26", root},
       authority().leaf,
       kRefused + "IP address mismatch (expected 192.0.2.26)"},
      {"another root",
       {true, "mail.example.org", other},
       authority().leaf,
       kRefused + "unable to get local issuer certificate"},
      {"the system's roots",
       {true, "mail.example.org", {}},
       authority().leaf,
       kRefused + "unable to get local issuer certificate"},
      {"self-signed",
       {true, "mx.example.org", root},
       ecdsa(),
       kRefused + "self-signed certificate"},
      {"expired",
       {true, "mail.example.org", root},
       authority().expired,
       kRefused + "certificate has expired"},
      {"not verified", {false, "mx.example.org", {}}, authority().expired, ""},
      {"not even named", {false, "", {}}, authority().expired, ""},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(failure_with(row.settings, row.shown), row.failure) << row.name;
  }
}

TEST(ClientTls, SaysTheNameButNoAddress) {
  for (const auto& [name, said] : {std::pair{"mail.example.org", "mail.example.org"},
                                   std::pair{"192.0.2.25", ""}, std::pair{"2001:db8::25", ""}}) {
    const auto tls = client_with({.name = name});
    ClientSessions sessions;
    SocketPair sockets;
    TlsChannel client = tls->connect(sockets.ours(), kServer, sessions);
    OpensslPeer peer(Role::server, sockets.theirs(), OpensslPeer::serves(ecdsa()));
    shake_hands(client, peer);
    const char* heard = SSL_get_servername(peer.ssl(), TLSEXT_NAMETYPE_host_name);
    EXPECT_STREQ(heard != nullptr ? heard : "", said);
  }
}

TEST(ClientTls, RefusesAnOldServer) {
  const auto tls = client_with({});
  ClientSessions sessions;
  SocketPair sockets;
  TlsChannel client = tls->connect(sockets.ours(), kServer, sessions);
  OpensslPeer peer(Role::server, sockets.theirs(), [](SSL_CTX* context) {
    OpensslPeer::serves(ecdsa())(context);
    versions(TLS1_VERSION, TLS1_1_VERSION)(context);
  });
  shake_hands(client, peer);
  EXPECT_EQ(client.failure(), "the peer refused: protocol version");
}

TEST(ClientTls, SaysWhatIsWrongWithItsAuthorities) {
  const TemporaryFolder folder;
  const auto empty = folder.write("empty.pem", "");
  const auto missing = folder.path() / "missing.pem";
  const auto said = [](const ClientTlsSettings& settings) {
    const auto loaded = ClientTls::load(settings);
    return loaded ? "" : loaded.error();
  };
  EXPECT_EQ(said({true, "mx.example.org", missing}),
            '"' + missing.string() +
                "\" cannot be read (No such file or directory); expected the certificates of the "
                "mailer's authorities in PEM; name another file, or let the user that Postern runs "
                "as read this one");
  EXPECT_EQ(said({true, "mx.example.org", empty}),
            '"' + empty.string() +
                "\" holds no certificate in PEM; expected the certificates of the mailer's "
                "authorities; name another file");
  EXPECT_EQ(said({true, "", {}}),
            "no name to verify; expected the name in the mailer's certificate");
}

// Connects, and whether that was resumed. With TLS 1.3 the ticket comes behind the handshake.
bool resumes(const ClientTls& client_tls, const ServerTls& server_tls, ClientSessions& sessions,
             const rules::IpAddress& address = kServer) {
  SocketPair sockets;
  TlsChannel client = client_tls.connect(sockets.ours(), address, sessions);
  TlsChannel server = server_tls.accept(sockets.theirs());
  EXPECT_TRUE(shake_hands(client, server)) << client.failure() << server.failure();
  EXPECT_EQ(read_all(client), "");
  EXPECT_EQ(client.was_resumed(), server.was_resumed());
  return client.was_resumed();
}

TEST(ClientTls, ResumesWithTheSameServerOnly) {
  const auto client_tls = client_with({});
  const auto server_tls = server_with({&ecdsa()});
  ClientSessions sessions;
  EXPECT_FALSE(resumes(*client_tls, *server_tls, sessions));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(resumes(*client_tls, *server_tls, sessions)) << i;
  }
  EXPECT_FALSE(resumes(*client_tls, *server_tls, sessions, *rules::IpAddress::parse("192.0.2.26")));
  {
    // Several at once use what is remembered.
    SocketPair sockets;
    TlsChannel first = client_tls->connect(sockets.ours(), kServer, sessions);
    EXPECT_TRUE(resumes(*client_tls, *server_tls, sessions));
    TlsChannel server = server_tls->accept(sockets.theirs());
    EXPECT_TRUE(shake_hands(first, server));
    EXPECT_TRUE(first.was_resumed());
  }
  ClientSessions of_another_worker;
  EXPECT_FALSE(resumes(*client_tls, *server_tls, of_another_worker));
}

TEST(ClientTls, ResumesWithAServerOfTls12) {
  const auto client_tls = client_with({});
  ClientSessions sessions;
  OpensslPeer first(Role::server, -1, OpensslPeer::serves(ecdsa()));
  SSL_CTX_set_max_proto_version(first.context(), TLS1_2_VERSION);
  for (const bool is_resumed : {false, true, true}) {
    SocketPair sockets;
    TlsChannel client = client_tls->connect(sockets.ours(), kServer, sessions);
    OpensslPeer peer(first, sockets.theirs());
    shake_hands(client, peer);
    EXPECT_TRUE(client.is_established()) << client.failure();
    EXPECT_EQ(client.was_resumed(), is_resumed);
  }
}

TEST(ClientTls, ForgetsWhatAHandshakeFailedWith) {
  const auto client_tls = client_with({});
  const auto server_tls = server_with({&ecdsa()});
  ClientSessions sessions;
  EXPECT_FALSE(resumes(*client_tls, *server_tls, sessions));
  {
    SocketPair sockets;
    TlsChannel client = client_tls->connect(sockets.ours(), kServer, sessions);
    EXPECT_EQ(client.handshake(), Status::wants_read);
    sockets.close_theirs();
    EXPECT_EQ(client.handshake(), Status::failed);
  }
  EXPECT_FALSE(resumes(*client_tls, *server_tls, sessions));
}

// The workers share both, and the tickets that one of them gave.
TEST(ServerTls, ServesSeveralThreads) {
  const auto client_tls = client_with({});
  const auto server_tls = server_with({&ecdsa()});
  std::vector<std::jthread> workers;
  std::array<int, 3> resumed{};
  for (int& count : resumed) {
    workers.emplace_back([&client_tls, &server_tls, &count] {
      ClientSessions sessions;
      for (int i = 0; i < 20; ++i) {
        count += resumes(*client_tls, *server_tls, sessions) ? 1 : 0;
      }
    });
  }
  workers.clear();
  EXPECT_EQ(resumed, (std::array<int, 3>{19, 19, 19}));
}

// A resumed handshake shows no certificate: what was remembered without verification must not do for it.
TEST(ClientTls, ForgetsWhatWasAgreedUnderOtherSettings) {
  const TemporaryFolder folder;
  const auto root = folder.write("root.pem", authority().root.pem());
  const auto server_tls = server_with({&ecdsa()});
  ClientSessions sessions;
  {
    const auto careless = client_with({.name = "mx.example.org"});
    EXPECT_FALSE(resumes(*careless, *server_tls, sessions));
    EXPECT_TRUE(resumes(*careless, *server_tls, sessions));
  }
  const auto careful = client_with({true, "mx.example.org", root});
  SocketPair sockets;
  TlsChannel client = careful->connect(sockets.ours(), kServer, sessions);
  TlsChannel server = server_tls->accept(sockets.theirs());
  EXPECT_FALSE(shake_hands(client, server));
  EXPECT_EQ(client.failure(), "the peer's certificate is not accepted: self-signed certificate");
}

TEST(TlsChannel, GivesItsMemoryBack) {
  const auto client_tls = client_with({});
  const auto server_tls = server_with({&ecdsa()});
  const auto connect = [&] {
    ClientSessions sessions;
    static_cast<void>(resumes(*client_tls, *server_tls, sessions));
    static_cast<void>(resumes(*client_tls, *server_tls, sessions));
  };
  // What the allocator keeps for reuse grows for the first few hundred.
  for (int i = 0; i < 600; ++i) {
    connect();
  }
  const std::size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 100; ++i) {
    connect();
  }
  EXPECT_LT(mallinfo2().uordblks, before + 100 * 200) << "after 100 times two connections";
}

RC_GTEST_PROP(TlsChannel, UnderstandsAStreamHoweverItIsCut, ()) {
  Established both;
  SocketPair wire;
  SSL_set_fd(both.peer.ssl(), wire.ours());
  std::string said;
  for (const auto& line : *rc::gen::container<std::vector<std::string>>(
           rc::gen::container<std::string>(rc::gen::inRange('a', 'z')))) {
    if (!line.empty()) {
      RC_ASSERT(both.peer.write(line) == line.size());
      said += line;
    }
    if (*rc::gen::inRange(0, 4) == 0) {
      SSL_key_update(both.peer.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    }
  }
  std::array<char, 7> buffer{};
  std::string heard;
  std::array<char, 100> piece{};
  while (true) {
    const auto step = static_cast<std::size_t>(*rc::gen::inRange(1, 100));
    const ssize_t got = ::recv(wire.theirs(), piece.data(), step, 0);
    if (got <= 0) {
      break;
    }
    RC_ASSERT(::send(both.sockets.theirs(), piece.data(), static_cast<std::size_t>(got), 0) == got);
    TlsChannel::Transfer transfer{.status = Status::done};
    while (transfer.status == Status::done) {
      transfer = both.server.read(buffer);
      heard.append(buffer.data(), transfer.octets);
    }
    RC_ASSERT(transfer.status == Status::wants_read);
  }
  RC_ASSERT(heard == said);
}

RC_GTEST_PROP(TlsChannel, FailsOrWaitsOnAnyGarbageAndNeverMore, ()) {
  static const auto kTls = server_with({&ecdsa()});
  SocketPair sockets;
  TlsChannel server = kTls->accept(sockets.ours());
  auto bytes = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
  if (*rc::gen::arbitrary<bool>()) {
    bytes = std::string("\x16\x03\x01\x00\x40\x01", 6) + bytes;
  }
  ::send(sockets.theirs(), bytes.data(), bytes.size(), 0);
  const Status status = server.handshake();
  RC_ASSERT(status == Status::failed || status == Status::wants_read);
  RC_ASSERT((status == Status::failed) == !server.failure().empty());
}

}  // namespace
}  // namespace postern::smtp_proxy
