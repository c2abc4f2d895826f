#include "tests/smtp_proxy/tls_fixture.hpp"

#include <array>
#include <chrono>
#include <vector>

#include "tests/support/temporary_folder.hpp"

namespace postern::smtp_proxy {
namespace {

struct Files {
  testing::TemporaryFolder folder;
  std::vector<CertificateFiles> pairs;

  void add(const MadeCertificate& made) {
    const std::string number = std::to_string(pairs.size());
    pairs.push_back({.certificate = folder.write(number + ".pem", made.pem()),
                     .private_key = folder.write(number + ".key", made.key_pem())});
  }
};

bool is_over(Status status) {
  return status == Status::done || status == Status::failed;
}

}  // namespace

const MadeCertificate& rsa() {
  static const MadeCertificate kMade(
      {.names = {"mx.example.org"}, .key = {.type = "RSA", .detail = "2048"}});
  return kMade;
}

const MadeCertificate& ecdsa() {
  static const MadeCertificate kMade({.names = {"mx.example.org"}});
  return kMade;
}

std::shared_ptr<const ServerTls> server_with(std::initializer_list<const MadeCertificate*> all) {
  Files files;
  for (const MadeCertificate* made : all) {
    files.add(*made);
  }
  auto loaded = ServerTls::load(files.pairs, std::chrono::system_clock::now());
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

OpensslPeer::Settings versions(int lowest, int highest) {
  return [=](SSL_CTX* context) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_min_proto_version(context, lowest);
    SSL_CTX_set_max_proto_version(context, highest);
  };
}

bool resumes(const ClientTls& client_tls, const ServerTls& server_tls, ClientSessions& sessions,
             const rules::IpAddress& address) {
  SocketPair sockets;
  TlsChannel client = client_tls.connect(sockets.ours(), address, sessions);
  TlsChannel server = server_tls.accept(sockets.theirs());
  EXPECT_TRUE(shake_hands(client, server)) << client.failure() << server.failure();
  EXPECT_EQ(read_all(client), "");
  EXPECT_EQ(client.was_resumed(), server.was_resumed());
  return client.was_resumed();
}

}  // namespace postern::smtp_proxy
