#include "gateway/log.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>

namespace postern::gateway {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

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

}  // namespace

Log::Log(const LogSettings& settings)
    : logger_(std::make_shared<spdlog::logger>("posternd",
                                               std::make_shared<spdlog::sinks::stderr_sink_mt>())),
      format_(settings.format) {
  use(settings);
}

Log::~Log() = default;

void Log::use(const LogSettings& settings) {
  format_ = settings.format;
  logger_->set_level(to_spdlog(settings.level));
  const bool shows_time = settings.format == LogFormat::text && isatty(STDERR_FILENO) == 1;
  logger_->set_pattern(shows_time ? "%H:%M:%S.%e %v" : "%v");
  logger_->flush_on(spdlog::level::debug);
}

bool Log::shows(LogLevel level) const {
  return logger_->should_log(to_spdlog(level));
}

void Log::line(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (!shows(level)) {
    return;
  }
  const std::string text = format_ == LogFormat::json ? to_json_line(level, message, fields)
                                                      : to_text_line(level, message, fields);
  logger_->log(to_spdlog(level), spdlog::string_view_t(text));
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
