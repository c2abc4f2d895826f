#include "gateway/log.hpp"

#include <boost/json.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace postern::gateway {
namespace {

std::string_view to_text(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "";
}

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" \"=") != std::string_view::npos;
}

std::string to_text_line(LogLevel level, std::string_view message,
                         std::initializer_list<LogField> fields) {
  std::string line = level >= LogLevel::warning ? fmt::format("{}: {}", to_text(level), message)
                                                : std::string(message);
  for (const LogField& field : fields) {
    if (needs_quotes(field.value)) {
      std::string escaped = field.value;
      std::ranges::replace(escaped, '"', '\'');
      line += fmt::format(" {}=\"{}\"", field.name, escaped);
    } else {
      line += fmt::format(" {}={}", field.name, field.value);
    }
  }
  return line;
}

std::string to_json_line(LogLevel level, std::string_view message,
                         std::initializer_list<LogField> fields) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  boost::json::object object{{"time", std::chrono::duration<double>(now).count()},
                             {"level", to_text(level)},
                             {"message", message}};
  for (const LogField& field : fields) {
    object[field.name] = field.value;
  }
  return boost::json::serialize(object);
}

// What is on a terminal only. A file or a pipe has a reader that knows the time.
std::string time_of_day() {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  return fmt::format("{:%H:%M:%S}.{:03} ",
                     fmt::localtime(std::chrono::system_clock::to_time_t(now)),
                     now.time_since_epoch().count() % 1000);
}

// 0, or an error number. A pipe that takes a write at all takes as much as a line.
int write_now(const std::string& line) {
  if (send(STDERR_FILENO, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
    return 0;
  }
  if (errno != ENOTSOCK) {
    return errno;
  }
  pollfd state{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&state, 1, 0) != 1) {
    return EAGAIN;
  }
  return ::write(STDERR_FILENO, line.data(), line.size()) >= 0 ? 0 : errno;
}

}  // namespace

Log::Log(const LogSettings& settings) : level_(settings.level), format_(settings.format) {}

void Log::use(const LogSettings& settings) {
  level_ = settings.level;
  format_ = settings.format;
}

bool Log::shows(LogLevel level) const {
  return level >= level_;
}

void Log::line(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (!shows(level)) {
    return;
  }
  if (format_ == LogFormat::json) {
    return write(to_json_line(level, message, fields) + "\n");
  }
  const std::string time = isatty(STDERR_FILENO) == 1 ? time_of_day() : "";
  write(time + to_text_line(level, message, fields) + "\n");
}

std::string Log::problem() const {
  const int error = error_number_;
  return error == 0 ? ""
                    : fmt::format("lines of the log are lost, {} so far: {}", lost_.load(),
                                  std::generic_category().message(error));
}

void Log::write(const std::string& text) {
  const std::lock_guard lock(mutex_);
  error_number_ = write_now(text);
  lost_ += error_number_ != 0 ? 1 : 0;
}

bool LogBudget::take(std::chrono::steady_clock::time_point now, std::uint64_t& suppressed) {
  if (now - second_ >= std::chrono::seconds(1)) {
    second_ = now;
    used_ = 0;
  }
  if (used_ >= kLinesASecond) {
    ++suppressed_;
    return false;
  }
  ++used_;
  suppressed = std::exchange(suppressed_, 0);
  return true;
}

}  // namespace postern::gateway
