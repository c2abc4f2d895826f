// TLS over pairs of sockets: what a channel makes of its peer, its socket and its end.
#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <rapidcheck/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "smtp_proxy/tls/channel.hpp"
#include "tests/smtp_proxy/tls_fixture.hpp"

namespace postern::smtp_proxy {
namespace {

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

// What the peer would send for `text`, caught on its way.
std::string record_of(OpensslPeer& peer, std::string_view text) {
  SocketPair wire;
  const int socket = SSL_get_fd(peer.ssl());
  SSL_set_fd(peer.ssl(), wire.ours());
  EXPECT_EQ(peer.write(text), text.size());
  SSL_set_fd(peer.ssl(), socket);
  std::array<char, 1000> record{};
  const ssize_t size = ::recv(wire.theirs(), record.data(), record.size(), 0);
  return {record.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

TEST(TlsChannel, GivesNothingOfATruncatedRecord) {
  Established both;
  const std::string record = record_of(both.peer, "RCPT TO:<user@example.org>\r\n");
  ASSERT_GT(record.size(), 10U);
  ::send(both.sockets.theirs(), record.data(), record.size() - 1, 0);
  ::shutdown(both.sockets.theirs(), SHUT_WR);
  std::array<char, 100> buffer{};
  EXPECT_EQ(both.server.read(buffer).octets, 0U);
  EXPECT_EQ(both.server.read(buffer).status, Status::closed);
}

TEST(TlsChannel, FailsForGoodOnADamagedRecord) {
  Established both;
  std::string record = record_of(both.peer, "RCPT TO:<user@example.org>\r\n");
  ASSERT_GT(record.size(), 10U);
  record[9] = static_cast<char>(record[9] ^ 1);
  ::send(both.sockets.theirs(), record.data(), record.size(), 0);
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
