// A session on real sockets of the loopback, with its event loop run by the test itself. Needs root, as
// the session does for connecting in the client's name.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "smtp_proxy/session.hpp"
#include "tests/support/wait.hpp"

namespace postern::smtp_proxy {

using tcp = net::ip::tcp;
using testing::wait_until;

inline const tcp::endpoint kAnyPort(net::ip::address_v4::loopback(), 0);

inline rules::Endpoint to_endpoint(const tcp::endpoint& endpoint) {
  return {.address = rules::IpAddress(endpoint.address().to_v4().to_bytes()),
          .port = endpoint.port()};
}

inline std::shared_ptr<const rules::Policy> policy_with(rules::Mailer mailer) {
  auto policy = std::make_shared<rules::Policy>();
  policy->add_mailer(std::move(mailer));
  return policy;
}

inline rules::Mailer at_loopback(rules::Mailer mailer) {
  mailer.addresses = {to_endpoint(kAnyPort).address};
  return mailer;
}

class Sink : public rules::EventSink {
 public:
  std::function<void(const rules::Event&)> on_each = [](const rules::Event&) {};
  rules::Reason closed_for = rules::Reason::none;
  bool is_closed = false;
  rules::Ends last_ends{};

  void on_event(const rules::Ends& ends, const rules::Event& event) override {
    last_ends = ends;
    if (const auto* closed = std::get_if<rules::SessionClosed>(&event)) {
      is_closed = true;
      closed_for = closed->reason;
      return;
    }
    on_each(event);
  }
};

// An end that the test speaks for: everything it was sent, and whether its peer has gone.
class Peer {
 public:
  explicit Peer(net::io_context& context) : socket(context) {}

  void send(std::string_view bytes) { net::write(socket, net::buffer(bytes)); }
  void read() {
    if (speaks_tls) {
      return;
    }
    socket.non_blocking(true);
    char bytes[4096];
    boost::system::error_code error;
    while (!error) {
      heard.append(bytes, socket.read_some(net::buffer(bytes), error));
    }
    has_lost_its_peer = error && error != net::error::would_block;
  }

  tcp::socket socket;
  std::string heard;
  bool speaks_tls = false;  // somebody else reads it
  bool has_lost_its_peer = false;
};

// The session's own end of a connection, or -1.
inline int peer_end_of(const tcp::socket& socket) {
  constexpr int kMostDescriptors = 1024;
  for (int fd = 0; fd < kMostDescriptors; ++fd) {
    tcp::endpoint local;
    socklen_t size = sizeof(sockaddr_in);
    const bool is_peer = getsockname(fd, local.data(), &size) == 0 && size == sizeof(sockaddr_in) &&
                         local == socket.remote_endpoint();
    if (is_peer) {
      return fd;
    }
  }
  ADD_FAILURE() << "the session has no socket at " << socket.remote_endpoint();
  return -1;
}

// Its buffer on the loopback would hold megabytes.
inline void shrink_send_buffer_of_peer(const tcp::socket& socket) {
  const int octets = 8192;
  EXPECT_EQ(setsockopt(peer_end_of(socket), SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets), 0);
}

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(rules::Mailer mailer = {.name = "inner"},
                       std::shared_ptr<const TlsContexts> tls = nullptr,
                       const std::string& connected_to = "127.0.0.1")
      : policy_(policy_with(at_loopback(std::move(mailer)))) {
    // Small, so that a side that does not read is soon felt.
    inner_.set_option(net::socket_base::receive_buffer_size(8192));
    tcp::acceptor door(context_, kAnyPort);
    door.set_option(net::socket_base::send_buffer_size(8192));
    client_.socket.open(tcp::v4());
    client_.socket.set_option(net::socket_base::receive_buffer_size(8192));
    client_.socket.connect(door.local_endpoint());
    tcp::socket accepted = door.accept();
    accepted.non_blocking(true);
    const rules::Ends ends{.client = to_endpoint(accepted.remote_endpoint()),
                           .server = {.address = rules::IpAddress::parse(connected_to).value(),
                                      .port = inner_.local_endpoint().port()}};
    session_ = std::make_shared<Session>(
        SessionHost{.loop = loop_,
                    .buffers = buffers_,
                    .handshakes = handshakes_,
                    .upstream_tls = upstream_tls_,
                    .authentications = authentications_,
                    .sink = sink_},
        Accepted{.socket = FileDescriptor(accepted.release()), .ends = ends},
        SessionSettings{.policy = policy_, .smtp = settings_, .tls = std::move(tls)},
        policy_->mailers().front(), rules::Zone::external);
  }

  // A session that still waits holds itself; the proxy abandons those at a stop, and so does the test.
  ~SessionTest() override {
    if (const auto session = served_.lock()) {
      session->abandon(rules::Reason::shutting_down);
    }
    EXPECT_TRUE(wait_until("the session is gone", [&] {
      loop_.step(Clock::now());
      return served_.expired();
    }));
  }

  void serve() {
    served_ = session_;
    net::co_spawn(
        loop_.context(),
        [session = std::exchange(session_, nullptr)]() { return session->serve(); }, net::detached);
    inner_.non_blocking(true);
    ASSERT_TRUE(wait_until("the mailer is connected to", [&] {
      loop_.step(Clock::now());
      boost::system::error_code error;
      inner_.accept(server_.socket, error);
      return !error;
    }));
  }
  template <typename Condition>
  ::testing::AssertionResult run_until(std::string_view what, Condition condition) {
    return wait_until(what, [&] {
      loop_.step(Clock::now());
      client_.read();
      server_.read();
      return condition();
    });
  }

  std::shared_ptr<const rules::Policy> policy_;
  net::io_context context_;  // the test's own sockets
  Sink sink_;
  EventLoop loop_;
  std::shared_ptr<Settings> settings_ = std::make_shared<Settings>();
  WorkBuffers buffers_;
  HandshakeLimit handshakes_;
  UpstreamTlsMemory upstream_tls_;
  AuthLedger authentications_;
  tcp::acceptor inner_{context_, kAnyPort};
  Peer client_{context_};
  Peer server_{context_};
  std::shared_ptr<Session> session_;
  std::weak_ptr<Session> served_;
};

}  // namespace postern::smtp_proxy
