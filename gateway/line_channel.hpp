// Messages between the daemon's two processes: JSON objects, one a line, over a local socket.
// Errors:   what cannot be sent or read ends the channel; receive() says so.
// Threads:  the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/json/object.hpp>

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "smtp_proxy/transparent.hpp"

namespace postern::gateway {

class LineChannel {
 public:
  // `longest`: of the lines that are received, in octets; a longer one ends the channel.
  LineChannel(boost::asio::io_context& context, smtp_proxy::FileDescriptor socket,
              std::size_t longest);

  // In the order of the calls.
  void send(const boost::json::object& message);
  // nullopt: the other side is gone, or does not speak this language.
  [[nodiscard]] boost::asio::awaitable<std::optional<boost::json::object>> receive();
  void close();

 private:
  boost::asio::awaitable<void> write();

  boost::asio::io_context& context_;
  boost::asio::local::stream_protocol::socket socket_;
  std::size_t longest_;
  std::string received_;
  std::deque<std::string> outgoing_;
};

}  // namespace postern::gateway
