// Do mailers answer? Asked of listeners on loopback, of a closed port, and of ports that stay silent.
#include "gateway/reachability.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace postern::gateway {
namespace {

namespace net = boost::asio;
using net::ip::tcp;
using namespace std::chrono_literals;

rules::IpAddress ip(const char* text) {
  return rules::IpAddress::parse(text).value();
}

net::awaitable<void> ask(std::span<const rules::IpAddress> addresses, std::uint16_t port,
                         std::chrono::milliseconds patience, std::vector<bool>& answers) {
  answers = co_await accept_connections(addresses, port, patience);
}

std::vector<bool> answers_of(const std::vector<rules::IpAddress>& addresses, std::uint16_t port,
                             std::chrono::milliseconds patience = 5s) {
  net::io_context context;
  std::vector<bool> answers;
  net::co_spawn(context, ask(addresses, port, patience, answers), net::detached);
  context.run();
  return answers;
}

// Listens at one loopback address.
class Server {
 public:
  explicit Server(const char* address, std::uint16_t port = 0)
      : acceptor_(context_, tcp::endpoint(net::ip::make_address(address), port)) {}
  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  net::io_context context_;
  tcp::acceptor acceptor_;
};

// Answers no SYN, as a dead host does: what it would queue is full.
class SilentServer {
 public:
  SilentServer(const char* address, std::uint16_t port) : acceptor_(context_) {
    const tcp::endpoint endpoint(net::ip::make_address(address), port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(0);
    // One more than the backlog is taken, and the next stays in SYN_SENT.
    for (int i = 0; i < 4; ++i) {
      waiting_.emplace_back(context_);
      waiting_.back().open(endpoint.protocol());
      waiting_.back().non_blocking(true);
      // Not the socket's own connect(), which waits however it is set.
      EXPECT_TRUE(::connect(waiting_.back().native_handle(), endpoint.data(),
                            static_cast<socklen_t>(endpoint.size())) == 0 ||
                  errno == EINPROGRESS);
    }
  }

 private:
  net::io_context context_;
  tcp::acceptor acceptor_;
  std::vector<tcp::socket> waiting_;
};

TEST(AcceptConnections, AnswersForEachAddressInItsPlace) {
  const Server at_one("127.0.0.1");
  const Server at_three("127.0.0.3", at_one.port());
  EXPECT_EQ(answers_of({ip("127.0.0.1"), ip("127.0.0.2"), ip("127.0.0.3")}, at_one.port()),
            (std::vector<bool>{true, false, true}));
}

TEST(AcceptConnections, OfNobodyIsAnsweredAtOnce) {
  EXPECT_TRUE(answers_of({}, 25).empty());
}

TEST(AcceptConnections, WaitsForAllTheSilentOnesOnlyOnce) {
  const Server alive("127.0.0.1");
  std::vector<std::unique_ptr<SilentServer>> silent;
  std::vector<rules::IpAddress> addresses{ip("127.0.0.1")};
  std::vector<bool> expected{true};
  for (int i = 2; i < 12; ++i) {
    const std::string address = "127.0.0." + std::to_string(i);
    silent.push_back(std::make_unique<SilentServer>(address.c_str(), alive.port()));
    addresses.push_back(ip(address.c_str()));
    expected.push_back(false);
  }
  constexpr std::chrono::milliseconds kOnce{400};
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(answers_of(addresses, alive.port(), kOnce), expected);
  const auto took = std::chrono::steady_clock::now() - started;
  EXPECT_GE(took, kOnce) << "nobody was silent";
  EXPECT_LT(took, 4 * kOnce) << "ten one after another take ten times as long as one";
}

}  // namespace
}  // namespace postern::gateway
