#include "gateway/reachability.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <variant>

namespace postern::gateway {

boost::asio::awaitable<bool> accepts_connections(rules::IpAddress address, std::uint16_t port,
                                                 std::chrono::milliseconds patience) {
  namespace net = boost::asio;
  using net::experimental::awaitable_operators::operator||;
  constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
  const auto executor = co_await net::this_coro::executor;
  net::ip::tcp::socket socket(executor);
  net::steady_timer timer(executor, patience);
  const net::ip::tcp::endpoint endpoint(net::ip::make_address(address.to_string()), port);
  const auto result =
      co_await (socket.async_connect(endpoint, use_tuple) || timer.async_wait(use_tuple));
  co_return result.index() == 0 && !std::get<0>(std::get<0>(result));
}

}  // namespace postern::gateway
