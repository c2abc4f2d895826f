#include "gateway/cli/control_client.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

#include "gateway/cli/terminal.hpp"
#include "gateway/config.hpp"
#include "gateway/control_socket_path.hpp"

namespace postern::gateway::cli {
namespace {

std::string why_no_connection(const std::string& socket, int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOENT || error == ECONNREFUSED) {
    return fmt::format("{}: {}: is posternd running? systemctl status posternd", socket, reason);
  }
  if (error == EACCES || error == EPERM) {
    return fmt::format("{}: {}: only root and the members of its group may ask: try sudo", socket,
                       reason);
  }
  return fmt::format("{}: {}", socket, reason);
}

}  // namespace

std::expected<ControlClient, std::string> ControlClient::connect(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.empty() || socket.size() >= sizeof address.sun_path) {
    return std::unexpected(fmt::format("{}: expected the path of a socket, of at most {} octets",
                                       socket, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, socket.data(), socket.size());
  ControlClient client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), socket);
  const void* generic = &address;
  if (client.descriptor_ < 0 ||
      ::connect(client.descriptor_, static_cast<const sockaddr*>(generic), sizeof address) != 0) {
    return std::unexpected(why_no_connection(socket, errno));
  }
  return client;
}

ControlClient::ControlClient(ControlClient&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      socket_(std::move(other.socket_)),
      buffer_(std::move(other.buffer_)) {}

ControlClient::~ControlClient() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::expected<void, std::string> ControlClient::send(const boost::json::object& command) {
  const std::string line = boost::json::serialize(command) + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t n = ::send(descriptor_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return std::unexpected(
          fmt::format("{}: {}", socket_, std::generic_category().message(errno)));
    }
    sent += static_cast<std::size_t>(n);
  }
  return {};
}

// false: the daemon has closed.
std::expected<bool, std::string> ControlClient::fill(
    std::optional<std::chrono::milliseconds> patience) {
  pollfd waiting{descriptor_, POLLIN, 0};
  const int timeout = patience ? static_cast<int>(patience->count()) : -1;
  const int ready = ::poll(&waiting, 1, timeout);
  if (ready < 0 && errno == EINTR) {
    return true;
  }
  if (ready == 0) {
    return std::unexpected(
        fmt::format("{}: posternd did not answer within {} seconds; see journalctl -u posternd",
                    socket_, std::chrono::duration_cast<std::chrono::seconds>(*patience).count()));
  }
  char chunk[64 * 1024];
  const ssize_t n = ::recv(descriptor_, chunk, sizeof chunk, 0);
  if (n < 0) {
    return std::unexpected(fmt::format("{}: {}", socket_, std::generic_category().message(errno)));
  }
  buffer_.append(chunk, static_cast<std::size_t>(n));
  return n > 0;
}

std::expected<std::optional<boost::json::object>, std::string> ControlClient::receive(
    std::optional<std::chrono::milliseconds> patience) {
  std::size_t end = buffer_.find('\n');
  for (bool open = true; end == std::string::npos; end = buffer_.find('\n')) {
    const auto more = fill(patience);
    if (!more) {
      return std::unexpected(more.error());
    }
    open = *more;
    if (!open) {
      if (buffer_.empty()) {
        return std::nullopt;
      }
      buffer_ += '\n';  // a last line without its end; if it was cut, it is no JSON
    }
  }
  boost::system::error_code error;
  boost::json::value value = boost::json::parse(buffer_.substr(0, end), error);
  buffer_.erase(0, end + 1);
  if (error || !value.is_object()) {
    return std::unexpected(
        fmt::format("{}: what answers here does not speak as posternd does; are `postern` and "
                    "`posternd` of one version?",
                    socket_));
  }
  if (member(value, "error") != nullptr) {
    return std::unexpected(fmt::format("posternd: {}", text_at(value, "error")));
  }
  return std::move(value.as_object());
}

std::string socket_of(const ControlOptions& options) {
  if (!options.socket.empty()) {
    return options.socket;
  }
  return control_socket_path(options.config).value_or(Config{}.control_socket).string();
}

std::expected<boost::json::object, std::string> ask(const ControlOptions& options,
                                                    const boost::json::object& command,
                                                    std::chrono::milliseconds patience) {
  const std::string socket = socket_of(options);
  auto client = ControlClient::connect(socket);
  if (!client) {
    return std::unexpected(client.error());
  }
  if (const auto sent = client->send(command); !sent) {
    return std::unexpected(sent.error());
  }
  auto answer = client->receive(patience);
  if (!answer) {
    return std::unexpected(answer.error());
  }
  if (!*answer) {
    return std::unexpected(fmt::format("{}: posternd closed without an answer", socket));
  }
  return std::move(**answer);
}

const boost::json::value* member(const boost::json::value& value, std::string_view path) {
  const boost::json::value* at = &value;
  while (at != nullptr && !path.empty()) {
    const std::string_view name = path.substr(0, path.find('.'));
    path.remove_prefix(std::min(name.size() + 1, path.size()));
    const auto* object = at->if_object();
    at = object == nullptr ? nullptr : object->if_contains(name);
  }
  return at;
}

std::string text_at(const boost::json::value& value, std::string_view path) {
  const boost::json::value* found = member(value, path);
  if (found == nullptr || found->is_null()) {
    return "-";
  }
  if (const auto* text = found->if_string()) {
    return text->empty() ? "-" : printable(*text);
  }
  return printable(boost::json::serialize(*found));
}

double number_at(const boost::json::value& value, std::string_view path) {
  const boost::json::value* found = member(value, path);
  boost::json::error_code error;
  const double number = found == nullptr ? 0 : found->to_number<double>(error);
  return error || !std::isfinite(number) ? 0 : number;
}

bool is_true_at(const boost::json::value& value, std::string_view path) {
  const boost::json::value* found = member(value, path);
  const bool* boolean = found == nullptr ? nullptr : found->if_bool();
  return boolean != nullptr && *boolean;
}

const boost::json::array& array_at(const boost::json::value& value, std::string_view path) {
  static const boost::json::array none;
  const boost::json::value* found = member(value, path);
  const auto* array = found == nullptr ? nullptr : found->if_array();
  return array == nullptr ? none : *array;
}

}  // namespace postern::gateway::cli
