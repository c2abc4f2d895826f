// TLS over pairs of sockets: our two roles with each other, and each with OpenSSL set up as a peer may be.
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

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

TEST(TlsChannel, ServesAPeerOfTls12) {
  const auto server_tls = server_with({&rsa()});
  SocketPair sockets;
  TlsChannel server = server_tls->accept(sockets.ours());
  OpensslPeer peer(Role::client, sockets.theirs(), [](SSL_CTX* context) {
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  });
  shake_hands(server, peer);
  ASSERT_TRUE(peer.is_established) << peer.failure << server.failure();
  EXPECT_EQ(server.description(), "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256");
}

}  // namespace
}  // namespace postern::smtp_proxy
