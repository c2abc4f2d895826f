// What the tests of TLS share: both our roles ready made, and handshakes over pairs of sockets.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>

#include "smtp_proxy/tls/channel.hpp"
#include "smtp_proxy/tls/client_tls.hpp"
#include "smtp_proxy/tls/server_tls.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/openssl_peer.hpp"
#include "tests/support/sockets.hpp"

namespace postern::smtp_proxy {

using testing::MadeCertificate;
using testing::OpensslPeer;
using testing::SocketPair;
using Role = OpensslPeer::Role;
using Status = TlsChannel::Status;

inline const rules::IpAddress kServer = *rules::IpAddress::parse("192.0.2.25");

// Made once: keys of RSA take their time.
[[nodiscard]] const MadeCertificate& rsa();
[[nodiscard]] const MadeCertificate& ecdsa();

[[nodiscard]] std::shared_ptr<const ServerTls> server_with(
    std::initializer_list<const MadeCertificate*> all);
[[nodiscard]] std::shared_ptr<const ClientTls> client_with(const ClientTlsSettings& settings);

// Both until each is done, or has failed.
void shake_hands(TlsChannel& ours, OpensslPeer& peer);
[[nodiscard]] bool shake_hands(TlsChannel& client, TlsChannel& server);

[[nodiscard]] std::string read_all(TlsChannel& channel);

[[nodiscard]] OpensslPeer::Settings versions(int lowest, int highest);

// A client of OpenSSL's and our server, the handshake behind them.
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

// Connects, and whether that was resumed. With TLS 1.3 the ticket comes behind the handshake.
[[nodiscard]] bool resumes(const ClientTls& client_tls, const ServerTls& server_tls,
                           ClientSessions& sessions, const rules::IpAddress& address = kServer);

}  // namespace postern::smtp_proxy
