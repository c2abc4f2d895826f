#include "gateway/reachability.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <utility>
#include <variant>

namespace postern::gateway {
namespace {

namespace net = boost::asio;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);

net::awaitable<bool> accepts_connections(rules::IpAddress address, std::uint16_t port,
                                         std::chrono::milliseconds patience) {
  using net::experimental::awaitable_operators::operator||;
  const auto executor = co_await net::this_coro::executor;
  net::ip::tcp::socket socket(executor);
  net::steady_timer timer(executor, patience);
  const net::ip::tcp::endpoint endpoint(net::ip::make_address(address.to_string()), port);
  const auto result =
      co_await (socket.async_connect(endpoint, use_tuple) || timer.async_wait(use_tuple));
  co_return result.index() == 0 && !std::get<0>(std::get<0>(result));
}

// Shared by the probes and whoever waits for the last of them.
struct Round {
  Round(const net::any_io_executor& executor, std::size_t count)
      : answers(count), left(count), all_done(executor, net::steady_timer::time_point::max()) {}

  std::vector<bool> answers;
  std::size_t left;
  net::steady_timer all_done;  // cancelled by the last
};

}  // namespace

net::awaitable<std::vector<bool>> accept_connections(std::span<const rules::IpAddress> addresses,
                                                     std::uint16_t port,
                                                     std::chrono::milliseconds patience) {
  const auto executor = co_await net::this_coro::executor;
  const auto round = std::make_shared<Round>(executor, addresses.size());
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    // A probe that fails altogether (no memory, no descriptor) has found nobody.
    net::co_spawn(executor, accepts_connections(addresses[i], port, patience),
                  [round, i](const std::exception_ptr& failure, bool answered) {
                    round->answers[i] = failure == nullptr && answered;
                    if (--round->left == 0) {
                      round->all_done.cancel();
                    }
                  });
  }
  if (round->left > 0) {
    co_await round->all_done.async_wait(use_tuple);
  }
  co_return std::move(round->answers);
}

}  // namespace postern::gateway
