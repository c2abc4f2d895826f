#include "gateway/control.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>
#include <poll.h>
#include <sys/stat.h>

#include <limits>
#include <system_error>
#include <utility>

#include "gateway/report.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::size_t kLongestRequest = 64 * 1024;
constexpr std::chrono::milliseconds kFollowInterval{200};
constexpr mode_t kSocketMode = 0660;

// A path left behind by a crash is in the way of bind(); one that somebody answers at is not ours to remove.
void clear_path(net::io_context& context, const std::filesystem::path& path) {
  net::local::stream_protocol::socket probe(context);
  boost::system::error_code error;
  if (!probe.connect(net::local::stream_protocol::endpoint(path.string()), error)) {
    throw AnotherDaemon("another posternd answers at " + path.string());
  }
  std::error_code ignored;
  if (std::filesystem::is_socket(path, ignored)) {
    std::filesystem::remove(path, ignored);
  }
}

net::awaitable<bool> send_line(net::local::stream_protocol::socket& socket, std::string line) {
  line += '\n';
  const auto [error, written] = co_await net::async_write(socket, net::buffer(line), use_tuple);
  co_return !error && written == line.size();
}

// Without one: all.
std::size_t limit_of(const json::object& request) {
  const json::value* limit = request.if_contains("limit");
  const bool has_limit = limit != nullptr && limit->is_int64() && limit->get_int64() >= 0;
  return has_limit ? static_cast<std::size_t>(limit->get_int64())
                   : std::numeric_limits<std::size_t>::max();
}

bool has_hung_up(net::local::stream_protocol::socket& socket) {
  pollfd state{.fd = socket.native_handle(), .events = 0, .revents = 0};
  return poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

ControlServer::ControlServer(net::io_context& context, const std::filesystem::path& path,
                             ControlTarget& target)
    : context_(context), path_(path), acceptor_(context), target_(target) {
  std::filesystem::create_directories(path.parent_path());
  clear_path(context, path);
  acceptor_.open();
  acceptor_.bind(net::local::stream_protocol::endpoint(path.string()));
  if (chmod(path.c_str(), kSocketMode) != 0) {
    throw std::system_error(errno, std::system_category(), "chmod " + path.string());
  }
  acceptor_.listen();
}

void ControlServer::start() {
  net::co_spawn(context_, [this]() { return accept(); }, net::detached);
}

ControlServer::~ControlServer() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

net::awaitable<void> ControlServer::accept() {
  net::steady_timer pause(context_);
  while (true) {
    auto [error, socket] = co_await acceptor_.async_accept(use_tuple);
    if (error == net::error::operation_aborted) {
      co_return;
    }
    if (error) {
      pause.expires_after(kFollowInterval);
      co_await pause.async_wait(use_tuple);
      continue;
    }
    net::co_spawn(
        context_, [this, s = std::move(socket)]() mutable { return serve(std::move(s)); },
        net::detached);
  }
}

net::awaitable<void> ControlServer::serve(Socket socket) {
  std::string request;
  const auto [error, length] = co_await net::async_read_until(
      socket, net::dynamic_buffer(request, kLongestRequest), '\n', use_tuple);
  if (!error) {
    request.resize(length);
    co_await answer(socket, request);
  }
}

net::awaitable<void> ControlServer::answer(Socket& socket, const std::string& request) {
  boost::system::error_code error;
  const json::value parsed = json::parse(request, error);
  const json::object* object = error ? nullptr : parsed.if_object();
  const json::value* name = object == nullptr ? nullptr : object->if_contains("command");
  const json::string* command = name == nullptr ? nullptr : name->if_string();
  if (command == nullptr) {
    co_await send_line(socket, error_json("a request is one line: {\"command\": NAME}"));
  } else if (*command == "status") {
    std::string status = co_await target_.status();
    co_await send_line(socket, std::move(status));
  } else if (*command == "counters") {
    std::string counters = co_await target_.counters();
    co_await send_line(socket, std::move(counters));
  } else if (*command == "reload") {
    std::string result = co_await target_.reload();
    co_await send_line(socket, std::move(result));
  } else if (*command == "drain") {
    co_await send_line(socket, target_.drain());
  } else if (*command == "offenders") {
    co_await send_line(socket, target_.offenders(limit_of(*object)));
  } else if (*command == "blocked") {
    const json::value* follow = object->if_contains("follow");
    co_await send_blocked(socket, limit_of(*object),
                          follow != nullptr && follow->is_bool() && follow->get_bool());
  } else {
    co_await send_line(socket, error_json("unknown command '" + std::string(*command) + "'"));
  }
}

net::awaitable<void> ControlServer::send_blocked(Socket& socket, std::size_t limit, bool follow) {
  ControlTarget::Cursor cursor;
  std::vector<std::string> lines = co_await target_.blocked(cursor);
  if (lines.size() > limit) {
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(limit));
  }
  net::steady_timer pause(context_);
  while (true) {
    for (const std::string& line : lines) {
      if (!co_await send_line(socket, line)) {
        co_return;
      }
    }
    if (!follow || has_hung_up(socket)) {
      co_return;
    }
    pause.expires_after(kFollowInterval);
    co_await pause.async_wait(use_tuple);
    lines = co_await target_.blocked(cursor);
  }
}

}  // namespace postern::gateway
