// TLS towards mailers: our client with OpenSSL's server, and with our own.
#include "smtp_proxy/tls/client_tls.hpp"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <string>
#include <utility>

#include "tests/smtp_proxy/tls_fixture.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::smtp_proxy {
namespace {

using testing::TemporaryFolder;

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

}  // namespace
}  // namespace postern::smtp_proxy
