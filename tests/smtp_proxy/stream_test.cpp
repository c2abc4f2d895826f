// A Stream that speaks TLS, run by an event loop, with OpenSSL at the other end.
#include "smtp_proxy/stream.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "smtp_proxy/tls/client_tls.hpp"
#include "smtp_proxy/tls/server_tls.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/openssl_peer.hpp"
#include "tests/support/sockets.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/wait.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::IpAddress;
using testing::MadeCertificate;
using testing::OpensslPeer;
using testing::SocketPair;
using testing::wait_until;
using Status = TlsChannel::Status;

std::shared_ptr<const ServerTls> server_tls() {
  const testing::TemporaryFolder folder;
  const MadeCertificate made({.names = {"mx.example.org"}});
  const CertificateFiles files{.certificate = folder.write("pem", made.pem()),
                               .private_key = folder.write("key", made.key_pem())};
  return ServerTls::load(std::span(&files, 1), std::chrono::system_clock::now()).tls;
}

constexpr int kTiny = 4096;

class TlsStream : public ::testing::Test {
 protected:
  explicit TlsStream(int socket_octets = 0)
      : sockets_(socket_octets), peer_(OpensslPeer::Role::client, sockets_.theirs()) {
    stream_.open(sockets_.take_ours());
    stream_.begin_tls(tls_->accept(stream_.native_handle()));
    net::co_spawn(loop_.context(), [this] { return serve(); }, net::detached);
  }
  ~TlsStream() override {
    is_stopped_ = true;
    stream_.wake();
    EXPECT_TRUE(until("the coroutines are gone", [this] { return running_ == 0; }));
  }

  // What a session does, with less to say.
  net::awaitable<void> serve() {
    ++running_;
    Status status = Status::wants_read;
    while (!is_stopped_ && status != Status::done && status != Status::failed) {
      status = stream_.handshake_step();
      ++steps_;
      if (status == Status::wants_read) {
        co_await stream_.readable();
      } else if (status == Status::wants_write) {
        co_await stream_.writable();
      }
    }
    while (!is_stopped_ && !has_ended_) {
      while (!is_stopped_ && stream_.has_pending()) {
        co_await stream_.writable();
        stream_.flush();
        ++steps_;
      }
      co_await stream_.readable();
      if (!is_stopped_) {
        read();
      }
    }
    --running_;
  }

  void read() {
    ++steps_;
    const Stream::ReadResult got = stream_.read(buffer_);
    heard_ += got.bytes;
    last_ = got.status;
    has_ended_ = got.status == Stream::Read::end || got.status == Stream::Read::broken;
    if (got.status == Stream::Read::bytes && on_bytes_) {
      on_bytes_(got.bytes);
    }
  }

  bool until(std::string_view what, const std::function<bool()>& condition) {
    return wait_until(what, [&] {
      loop_.step(Clock::now());
      return condition();
    });
  }
  // With nothing new of the peer, the loop has nothing to do, after what is left from before.
  bool is_quiet() {
    for (int turn = 0; turn < 20; ++turn) {
      loop_.step(Clock::now());
    }
    const int before = steps_;
    for (int turn = 0; turn < 20; ++turn) {
      loop_.step(Clock::now());
    }
    return steps_ == before;
  }
  bool shake_hands() {
    return until("the handshake is over",
                 [this] { return peer_.shake_hands() && stream_.is_secured(); });
  }

  std::shared_ptr<const ServerTls> tls_ = server_tls();
  EventLoop loop_;
  SocketPair sockets_;
  OpensslPeer peer_;
  Stream stream_{loop_};
  std::vector<char> buffer_ = std::vector<char>(20'000);
  std::string heard_;
  std::function<void(std::string_view)> on_bytes_;
  Stream::Read last_ = Stream::Read::nothing_yet;
  int steps_ = 0;
  int running_ = 0;
  bool is_stopped_ = false;
  bool has_ended_ = false;
};

class FullTlsStream : public TlsStream {
 protected:
  FullTlsStream() : TlsStream(kTiny) {}
};

std::string long_text(std::size_t octets) {
  std::string text;
  for (std::size_t i = 0; text.size() < octets; ++i) {
    text += std::to_string(i) + "\r\n";
  }
  return text;
}

// The records of application data that lie unread in the peer's socket.
int records_before(const OpensslPeer& peer) {
  std::vector<unsigned char> wire(1'000'000);
  const ssize_t size = ::recv(SSL_get_fd(peer.ssl()), wire.data(), wire.size(), MSG_PEEK);
  int records = 0;
  constexpr int kHeader = 5;
  for (ssize_t at = 0; at + kHeader <= size; ++records) {
    const auto* header = wire.data() + at;
    EXPECT_EQ(header[0], SSL3_RT_APPLICATION_DATA);
    at += kHeader + header[3] * 256 + header[4];
  }
  return records;
}

TEST_F(TlsStream, CarriesCommandsAndReplies) {
  ASSERT_TRUE(shake_hands());
  EXPECT_EQ(stream_.tls_description(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(stream_.tls_failure(), "");
  stream_.write("220 hello\r\n");
  peer_.write("NOOP\r\n");
  EXPECT_TRUE(until("the peer heard", [this] {
    peer_.read();
    return peer_.heard == "220 hello\r\n";
  }));
  EXPECT_TRUE(until("the stream heard", [this] { return heard_ == "NOOP\r\n"; }));
}

TEST_F(TlsStream, WaitsForASilentPeerWithoutATurn) {
  ASSERT_TRUE(shake_hands());
  peer_.write("NOOP\r\n");
  EXPECT_TRUE(until("the stream heard", [this] { return heard_ == "NOOP\r\n"; }));
  EXPECT_TRUE(is_quiet());
}

TEST_F(FullTlsStream, SendsEverythingToASlowPeerAndWaitsMeanwhile) {
  ASSERT_TRUE(shake_hands());
  const std::string text = long_text(300'000);
  stream_.write(text);
  EXPECT_TRUE(stream_.has_pending());
  EXPECT_TRUE(is_quiet());
  peer_.write("x");  // the pump waits for room before it reads
  EXPECT_TRUE(until("the peer heard some more", [&] {
    peer_.read();
    return peer_.heard.size() > text.size() / 2;
  }));
  EXPECT_TRUE(stream_.has_pending());
  EXPECT_TRUE(is_quiet());
  EXPECT_TRUE(until("the peer heard all", [&] {
    peer_.read();
    return peer_.heard.size() == text.size();
  }));
  EXPECT_EQ(peer_.heard, text);
  EXPECT_FALSE(stream_.has_pending());
}

TEST_F(FullTlsStream, ReadsEverythingOfAPeerThatSendsMuch) {
  ASSERT_TRUE(shake_hands());
  const std::string text = long_text(300'000);
  std::size_t sent = 0;
  EXPECT_TRUE(until("all is heard", [&] {
    sent += sent < text.size() ? peer_.write(std::string_view(text).substr(sent)) : 0;
    return heard_.size() == text.size();
  }));
  EXPECT_EQ(heard_, text);
}

TEST_F(FullTlsStream, EchoesMuchBothWays) {
  ASSERT_TRUE(shake_hands());
  on_bytes_ = [this](std::string_view bytes) { stream_.write(bytes); };
  const std::string text = long_text(500'000);
  std::size_t sent = 0;
  EXPECT_TRUE(until("all has come back", [&] {
    sent += sent < text.size() ? peer_.write(std::string_view(text).substr(sent)) : 0;
    peer_.read();
    return peer_.heard.size() == text.size();
  }));
  EXPECT_EQ(peer_.heard, text);
}

TEST_F(TlsStream, SendsPiecesAsFullRecords) {
  ASSERT_TRUE(shake_hands());
  ASSERT_TRUE(until("the ticket is there", [this] {
    peer_.read();
    return SSL_SESSION_is_resumable(SSL_get0_session(peer_.ssl())) == 1;
  }));
  const std::string view = long_text(600);
  const std::string large = long_text(50'000);
  Output output;
  std::string said;
  for (int i = 0; i < 20; ++i) {
    output.to_server("BDAT 600\r\n");
    output.to_server_without_copy(view);
    said += "BDAT 600\r\n" + view;
  }
  output.to_server_without_copy(large);
  output.to_server("QUIT\r\n");
  said += large + "QUIT\r\n";
  stream_.write_server_pieces(output);
  constexpr std::size_t kRecord = 16384;
  EXPECT_EQ(records_before(peer_), static_cast<int>((said.size() + kRecord - 1) / kRecord));
  EXPECT_TRUE(until("the peer heard all", [&] {
    peer_.read();
    return peer_.heard.size() >= said.size();
  }));
  EXPECT_EQ(peer_.heard, said);
}

TEST_F(FullTlsStream, KeepsThePiecesInOrderThatTheSocketDoesNotTake) {
  ASSERT_TRUE(shake_hands());
  const std::string text = long_text(70'000);
  Output output;
  std::string said;
  for (std::size_t i = 0; i < 10; ++i) {
    output.to_server(std::to_string(i) + " small\r\n");
    output.to_server_without_copy(std::string_view(text).substr(0, 600 + i * 6000));
    said += std::to_string(i) + " small\r\n" + text.substr(0, 600 + i * 6000);
  }
  stream_.write_server_pieces(output);
  stream_.write("QUIT\r\n");
  said += "QUIT\r\n";
  EXPECT_TRUE(stream_.has_pending());
  peer_.write("x");
  EXPECT_TRUE(until("the peer heard all", [&] {
    peer_.read();
    return peer_.heard.size() >= said.size();
  }));
  EXPECT_EQ(peer_.heard, said);
}

TEST_F(TlsStream, ThatClosesSaysSo) {
  ASSERT_TRUE(shake_hands());
  stream_.write("221 bye\r\n");
  stream_.close();
  peer_.read();
  EXPECT_EQ(peer_.heard, "221 bye\r\n");
  EXPECT_TRUE(peer_.has_closed);
  EXPECT_EQ(peer_.failure, "");
}

TEST_F(TlsStream, ThatIsResetSaysNothing) {
  ASSERT_TRUE(shake_hands());
  stream_.write("354 go on\r\n");
  stream_.reset();
  peer_.read();
  EXPECT_EQ(peer_.heard, "354 go on\r\n");
  EXPECT_FALSE(peer_.has_closed);
}

TEST_F(FullTlsStream, ThatClosesBeforeAllIsSentIsTruncated) {
  ASSERT_TRUE(shake_hands());
  stream_.write(long_text(300'000));
  stream_.close();
  peer_.read();
  EXPECT_FALSE(peer_.has_closed);
}

TEST_F(TlsStream, GoesOnReadingAfterItSaidItsLast) {
  ASSERT_TRUE(shake_hands());
  stream_.write("QUIT\r\n");
  stream_.shut_down_sending();
  peer_.read();
  EXPECT_EQ(peer_.heard, "QUIT\r\n");
  EXPECT_TRUE(peer_.has_closed);
  peer_.write("221 bye\r\n");
  SSL_shutdown(peer_.ssl());
  EXPECT_TRUE(until("the end is read", [this] { return has_ended_; }));
  EXPECT_EQ(heard_, "221 bye\r\n");
  EXPECT_EQ(last_, Stream::Read::end);
}

TEST_F(TlsStream, WhoseHandshakeFailedIsABrokenSocket) {
  constexpr std::string_view kGarbage = "EHLO client.example.org\r\n";
  ::send(sockets_.theirs(), kGarbage.data(), kGarbage.size(), 0);
  EXPECT_TRUE(until("the handshake failed", [this] { return has_ended_; }));
  EXPECT_EQ(stream_.tls_failure(), "the peer does not speak TLS");
  EXPECT_FALSE(stream_.is_secured());
  EXPECT_EQ(last_, Stream::Read::broken);
  stream_.write("250 in clear?\r\n");
  stream_.flush();
  EXPECT_FALSE(stream_.has_pending());
  std::array<char, 100> wire{};
  std::string came;
  ssize_t got = 0;
  while ((got = ::recv(sockets_.theirs(), wire.data(), wire.size(), 0)) > 0) {
    came.append(wire.data(), static_cast<std::size_t>(got));
  }
  EXPECT_EQ(got, 0) << "the socket was not shut down";
  EXPECT_EQ(came.find("250"), std::string::npos) << "said in clear";
}

TEST_F(TlsStream, ThatReadsADamagedRecordIsABrokenSocket) {
  ASSERT_TRUE(shake_hands());
  constexpr std::string_view kRecord("\x17\x03\x03\x00\x20 this is no record of the session.", 37);
  ::send(sockets_.theirs(), kRecord.data(), kRecord.size(), 0);
  EXPECT_TRUE(until("it is broken", [this] { return has_ended_; }));
  EXPECT_EQ(last_, Stream::Read::broken);
  stream_.write("250 ok\r\n");
  EXPECT_FALSE(stream_.has_pending());
  peer_.read();
  EXPECT_EQ(peer_.heard, "");
  EXPECT_EQ(peer_.failure, "sslv3 alert bad record mac");
}

// The connection to a mailer whose tickets are so long that each fills two records.
class TlsStreamToMailer : public TlsStream {
 protected:
  static int add_much(SSL* ssl, void* /*argument*/) {
    const std::string much(600, 'x');
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), much.data(), much.size());
  }
  static SSL_TICKET_RETURN take_it(SSL* /*ssl*/, SSL_SESSION* /*session*/,
                                   const unsigned char* /*name*/, std::size_t /*size*/,
                                   SSL_TICKET_STATUS /*status*/, void* /*argument*/) {
    return SSL_TICKET_RETURN_USE;
  }

  const MadeCertificate certificate_{{.names = {"mail.example.org"}}};
  std::shared_ptr<const ClientTls> client_tls_ = *ClientTls::load({});
  ClientSessions sessions_;
  SocketPair wire_;  // what the mailer says goes by here, and on when the test wants it
  OpensslPeer mailer_{OpensslPeer::Role::server, wire_.theirs(), [this](SSL_CTX* context) {
                        OpensslPeer::serves(certificate_)(context);
                        SSL_CTX_set_session_ticket_cb(context, add_much, take_it, nullptr);
                        SSL_CTX_set_max_send_fragment(context, 512);
                        SSL_CTX_set_num_tickets(context, 1);
                      }};
  SocketPair of_stream_;
  Stream to_mailer_{loop_};

  void pass(int from, int to, std::size_t octets) {
    std::vector<char> bytes(octets);
    const ssize_t got = ::recv(from, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      ASSERT_EQ(::send(to, bytes.data(), static_cast<std::size_t>(got), 0), got);
    }
  }
};

TEST_F(TlsStreamToMailer, WaitsForTheRestOfAMessageBeforeItWrites) {
  to_mailer_.open(of_stream_.take_ours());
  const IpAddress address = *IpAddress::parse("192.0.2.25");
  to_mailer_.begin_tls(client_tls_->connect(to_mailer_.native_handle(), address, sessions_));
  constexpr std::size_t kAll = 100'000;
  while (!to_mailer_.is_secured()) {
    ASSERT_NE(to_mailer_.handshake_step(), Status::failed) << to_mailer_.tls_failure();
    pass(of_stream_.theirs(), wire_.ours(), kAll);
    if (!to_mailer_.is_secured()) {
      mailer_.shake_hands();
      pass(wire_.ours(), of_stream_.theirs(), kAll);
    }
  }
  ASSERT_TRUE(mailer_.shake_hands());
  // The first record of the ticket, and not the second.
  pass(wire_.ours(), of_stream_.theirs(), 600);
  EXPECT_EQ(to_mailer_.read(buffer_).status, Stream::Read::nothing_yet);
  to_mailer_.write("EHLO postern.example.org\r\n");
  EXPECT_TRUE(to_mailer_.has_pending());
  bool is_flushed = false;
  int turns = 0;
  net::co_spawn(
      loop_.context(),
      [](Stream& stream, bool& is_done, int& count) -> net::awaitable<void> {
        while (stream.has_pending()) {
          co_await stream.writable();
          stream.flush();
          ++count;
        }
        is_done = true;
      }(to_mailer_, is_flushed, turns),
      net::detached);
  for (int i = 0; i < 50; ++i) {
    loop_.step(Clock::now());
  }
  EXPECT_LE(turns, 2) << "it spins";
  EXPECT_FALSE(is_flushed);
  pass(wire_.ours(), of_stream_.theirs(), kAll);
  EXPECT_TRUE(until("the command is sent", [&] { return is_flushed; }));
  pass(of_stream_.theirs(), wire_.ours(), kAll);
  mailer_.read();
  EXPECT_EQ(mailer_.heard, "EHLO postern.example.org\r\n");
}

}  // namespace
}  // namespace postern::smtp_proxy
