#include "gateway/cli/terminal.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <span>
#include <utility>

namespace postern::gateway::cli {
namespace {

constexpr std::int64_t kMinute = 60;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

// Characters, not octets: internationalised domains are UTF-8.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & '\xc0') != '\x80'; }));
}

void write_all(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

}  // namespace

Style Style::of(int descriptor) {
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
  return Style(isatty(descriptor) == 1 && !is_set("NO_COLOR") && !dumb);
}

std::string Style::paint(std::string_view code, std::string_view text) const {
  return coloured_ ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080..U+009F, of which some terminals obey U+009B as an escape sequence.
    const bool c1 =
        byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (byte < 0x20 || byte == 0x7f || c1) {
      out += fmt::format("\\x{:02x}", byte);
      if (c1) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
      }
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string Table::line(const std::vector<std::string>& row,
                        const std::vector<std::size_t>& widths) const {
  std::string out = " ";
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const std::string pad(widths[i] - width_of(row[i]), ' ');
    out += i == 0 ? " " : "  ";
    if (columns_[i].align == Align::right) {
      out += pad + row[i];
    } else {
      out += row[i] + pad;
    }
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + "\n";
}

std::string Table::to_string() const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    std::size_t width = width_of(columns_[i].title);
    for (const auto& row : rows_) {
      width = std::max(width, width_of(row[i]));
    }
    widths.push_back(width);
  }
  const bool has_titles = std::ranges::any_of(titles, [](const auto& t) { return !t.empty(); });
  std::string out = has_titles ? line(titles, widths) : "";
  for (const auto& row : rows_) {
    out += line(row, widths);
  }
  return out;
}

std::string with_commas(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string count_of(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", with_commas(count), what, count == 1 ? "" : "s");
}

std::string first_names(const std::vector<std::string>& names) {
  if (names.size() <= kShownNames) {
    return fmt::format("{}", fmt::join(names, ", "));
  }
  return fmt::format("{} and {} more", fmt::join(std::span(names).first(kShownNames), ", "),
                     with_commas(names.size() - kShownNames));
}

std::string and_more(std::size_t left, std::string_view what) {
  return left == 0 ? "" : fmt::format("  and {}\n", count_of(left, fmt::format("more {}", what)));
}

std::string local_time(std::int64_t unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  if (localtime_r(&time, &parts) == nullptr) {
    return std::to_string(unix_seconds);
  }
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string duration_text(std::int64_t seconds) {
  if (seconds >= kDay) {
    return fmt::format("{}d {}h", seconds / kDay, seconds % kDay / kHour);
  }
  if (seconds >= kHour) {
    return fmt::format("{}h {}m", seconds / kHour, seconds % kHour / kMinute);
  }
  if (seconds >= kMinute) {
    return fmt::format("{}m {}s", seconds / kMinute, seconds % kMinute);
  }
  return fmt::format("{}s", seconds);
}

void print(std::string_view text) {
  write_all(stdout, text);
}

void print_error(std::string_view text) {
  write_all(stderr, text);
}

std::string render(const Diagnostics& diagnostics, const Style& style) {
  std::string out;
  for (const Diagnostic& diagnostic : diagnostics) {
    const bool is_error = diagnostic.severity == Severity::error;
    const std::string_view word = is_error ? "error: " : "warning: ";
    std::string line = diagnostic.to_string();
    const std::size_t at = line.find(word);
    const std::string painted = is_error ? style.bad(word) : style.doubtful(word);
    line.replace(at, word.size(), painted);
    out += line + "\n";
  }
  return out;
}

}  // namespace postern::gateway::cli
