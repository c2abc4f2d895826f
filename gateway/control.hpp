// The control socket: one line of JSON asks, lines of JSON answer (docs/control-protocol.md).
// Errors:   the constructor throws std::system_error; AnotherDaemon when somebody answers at the path already.
// Threads:  the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace postern::gateway {

class AnotherDaemon : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the socket asks of the daemon. Every answer is one JSON document.
class ControlTarget {
 public:
  virtual ~ControlTarget() = default;
  virtual boost::asio::awaitable<std::string> status() = 0;
  virtual boost::asio::awaitable<std::string> counters() = 0;
  // The worst of them.
  virtual std::string offenders(std::size_t limit) = 0;
  virtual boost::asio::awaitable<std::string> reload() = 0;
  virtual std::string drain() = 0;

  // Blocked attempts, oldest first. `cursor` is empty the first time, and says where to go on afterwards.
  struct Cursor {
    std::vector<std::uint64_t> packets;
    std::vector<std::uint64_t> sessions;
  };
  virtual boost::asio::awaitable<std::vector<std::string>> blocked(Cursor& cursor) = 0;
};

class ControlServer {
 public:
  ControlServer(boost::asio::io_context& context, const std::filesystem::path& path,
                ControlTarget& target);
  // From now on requests are answered.
  void start();
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  using Socket = boost::asio::local::stream_protocol::socket;
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> serve(Socket socket);
  boost::asio::awaitable<void> answer(Socket& socket, const std::string& request);
  boost::asio::awaitable<void> send_blocked(Socket& socket, std::size_t limit, bool follow);

  boost::asio::io_context& context_;
  std::filesystem::path path_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  ControlTarget& target_;
};

}  // namespace postern::gateway
