#include "gateway/line_channel.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>

#include <utility>

#include "smtp_proxy/event_loop.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);

}  // namespace

LineChannel::LineChannel(net::io_context& context, smtp_proxy::FileDescriptor socket,
                         std::size_t longest)
    : context_(context),
      socket_(context, net::local::stream_protocol(), socket.release()),
      longest_(longest) {}

void LineChannel::send(const json::object& message) {
  outgoing_.push_back(json::serialize(message) + '\n');
  if (outgoing_.size() == 1) {
    net::co_spawn(context_, [this]() { return write(); }, smtp_proxy::rethrow);
  }
}

net::awaitable<void> LineChannel::write() {
  while (!outgoing_.empty()) {
    const auto [error, octets] =
        co_await net::async_write(socket_, net::buffer(outgoing_.front()), use_tuple);
    if (error) {
      co_return;  // the reader meets the same end
    }
    outgoing_.pop_front();
  }
}

net::awaitable<std::optional<json::object>> LineChannel::receive() {
  const auto [error, length] = co_await net::async_read_until(
      socket_, net::dynamic_buffer(received_, longest_), '\n', use_tuple);
  if (error) {
    co_return std::nullopt;
  }
  boost::system::error_code mistake;
  json::value message = json::parse(std::string_view(received_).substr(0, length), mistake);
  received_.erase(0, length);
  if (mistake || !message.is_object()) {
    co_return std::nullopt;
  }
  co_return std::move(message.as_object());
}

void LineChannel::close() {
  boost::system::error_code error;
  [[maybe_unused]] const auto same_error = socket_.close(error);
}

}  // namespace postern::gateway
