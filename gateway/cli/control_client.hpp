// Talks to a running posternd: one line of JSON asks, lines of JSON answer.
// Errors:   one sentence for people, with what to do.
// Lifetime: one connection, one command.
// Threads:  one owner.
#pragma once

#include <boost/json.hpp>

#include <chrono>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/cli/commands.hpp"

namespace postern::gateway::cli {

class ControlClient {
 public:
  [[nodiscard]] static std::expected<ControlClient, std::string> connect(const std::string& socket);

  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&& other) noexcept = delete;
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;
  ~ControlClient();

  [[nodiscard]] std::expected<void, std::string> send(const boost::json::object& command);
  // The next document, or nullopt at the end. A document {"error": ...} is an error.
  // `patience`: how long the daemon may be silent; nullopt: for ever.
  [[nodiscard]] std::expected<std::optional<boost::json::object>, std::string> receive(
      std::optional<std::chrono::milliseconds> patience);

 private:
  ControlClient(int descriptor, std::string socket)
      : descriptor_(descriptor), socket_(std::move(socket)) {}
  [[nodiscard]] std::expected<bool, std::string> fill(
      std::optional<std::chrono::milliseconds> patience);

  int descriptor_;
  std::string socket_;
  std::string buffer_;
};

inline constexpr std::chrono::seconds kPatience{10};
// Reading a long list of domains again takes its time.
inline constexpr std::chrono::seconds kReloadPatience{120};

// The socket that was named, else the one of the configuration if that can be read, else the
// default.
[[nodiscard]] std::string socket_of(const ControlOptions& options);

// Asks for one document and no more.
[[nodiscard]] std::expected<boost::json::object, std::string> ask(
    const ControlOptions& options, const boost::json::object& command,
    std::chrono::milliseconds patience = kPatience);

// What the daemon says, without trusting it to say it all: absent or of another type is "-", 0,
// false or empty. `path`: member names with dots between.
[[nodiscard]] const boost::json::value* member(const boost::json::value& value,
                                               std::string_view path);
[[nodiscard]] std::string text_at(const boost::json::value& value, std::string_view path);
[[nodiscard]] double number_at(const boost::json::value& value, std::string_view path);
[[nodiscard]] bool is_true_at(const boost::json::value& value, std::string_view path);
[[nodiscard]] const boost::json::array& array_at(const boost::json::value& value,
                                                 std::string_view path);

}  // namespace postern::gateway::cli
