// One line an event, to stderr: logfmt-like text, or JSON. journald adds time and host; on a terminal we add the time.
// Errors:   a line that cannot be written at once, because a disk is full or nobody reads a pipe, is lost and counted:
//           mail must not wait for a log.
// Threads:  any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/config.hpp"

namespace postern::gateway {

struct LogField {
  std::string_view name;
  std::string value;
};

class Log {
 public:
  explicit Log(const LogSettings& settings);
  // A reload may change level and format.
  void use(const LogSettings& settings);

  // Ask before a line that is dear to put together.
  [[nodiscard]] bool shows(LogLevel level) const;
  void line(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  // What is wrong, if the latest line was lost; else nothing.
  [[nodiscard]] std::string problem() const;

 private:
  void write(const std::string& text);

  std::atomic<LogLevel> level_;
  std::atomic<LogFormat> format_;
  std::atomic<std::uint64_t> lost_ = 0;
  std::atomic<int> error_number_ = 0;
  std::mutex mutex_;
};

// How many lines a worker may log for what strangers do: a flood must not become a flood of log lines.
class LogBudget {
 public:
  // False: this line is too much. `suppressed` is how many were, since a line was last let through.
  bool take(std::chrono::steady_clock::time_point now, std::uint64_t& suppressed);

 private:
  static constexpr std::uint32_t kLinesASecond = 50;
  std::chrono::steady_clock::time_point second_;
  std::uint32_t used_ = 0;
  std::uint64_t suppressed_ = 0;
};

}  // namespace postern::gateway
