// TLS towards clients: our server with OpenSSL's client, set up as a peer may be.
#include "smtp_proxy/tls/server_tls.hpp"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/smtp_proxy/tls_fixture.hpp"

namespace postern::smtp_proxy {
namespace {

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

}  // namespace
}  // namespace postern::smtp_proxy
