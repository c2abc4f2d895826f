// A Stream that speaks TLS, run by an event loop, with OpenSSL at the other end.
#include "smtp_proxy/stream.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>

#include "smtp_proxy/tls/server_tls.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/openssl_peer.hpp"
#include "tests/support/sockets.hpp"
#include "tests/support/wait.hpp"

namespace postern::smtp_proxy {
namespace {

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
      if (is_reading_paused_) {
        co_await again_.wait();
        continue;
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
  bool shake_hands() {
    return until("the handshake is over",
                 [this] { return peer_.shake_hands() && stream_.is_secured(); });
  }

  std::shared_ptr<const ServerTls> tls_ = server_tls();
  EventLoop loop_;
  SocketPair sockets_;
  OpensslPeer peer_;
  Stream stream_{loop_};
  Signal again_{loop_};
  std::vector<char> buffer_ = std::vector<char>(20'000);
  std::string heard_;
  std::function<void(std::string_view)> on_bytes_;
  Stream::Read last_ = Stream::Read::nothing_yet;
  int steps_ = 0;
  int running_ = 0;
  bool is_stopped_ = false;
  bool has_ended_ = false;
  bool is_reading_paused_ = false;
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

TEST_F(FullTlsStream, SendsEverythingToASlowPeerAndWaitsMeanwhile) {
  ASSERT_TRUE(shake_hands());
  const std::string text = long_text(300'000);
  stream_.write(text);
  EXPECT_TRUE(stream_.has_pending());
  // Nobody reads: the loop has nothing to do.
  for (int turn = 0; turn < 20; ++turn) {
    loop_.step(Clock::now());
  }
  const int steps = steps_;
  for (int turn = 0; turn < 20; ++turn) {
    loop_.step(Clock::now());
  }
  EXPECT_EQ(steps_, steps) << "steps taken while the socket is full";
  peer_.write("x");  // the pump waits for room before it reads
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

}  // namespace
}  // namespace postern::smtp_proxy
