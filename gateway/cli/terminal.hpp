// How text is laid out for people: colours where they help, aligned tables, nothing unprintable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/config.hpp"

namespace postern::gateway::cli {

class Style {
 public:
  explicit Style(bool coloured) : coloured_(coloured) {}
  // Coloured if `descriptor` is a terminal and NO_COLOR is unset or empty (no-color.org).
  [[nodiscard]] static Style of(int descriptor);

  [[nodiscard]] std::string heading(std::string_view text) const { return paint("1", text); }
  [[nodiscard]] std::string good(std::string_view text) const { return paint("32", text); }
  [[nodiscard]] std::string doubtful(std::string_view text) const { return paint("33", text); }
  [[nodiscard]] std::string bad(std::string_view text) const { return paint("31", text); }

 private:
  [[nodiscard]] std::string paint(std::string_view code, std::string_view text) const;

  bool coloured_;
};

// Whatever a client may have sent, without the bytes that steer a terminal.
[[nodiscard]] std::string printable(std::string_view text);

// Columns as wide as their widest cell; the last one is not padded.
class Table {
 public:
  enum class Align : std::uint8_t { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  // Every line indented by two spaces; without titles if all of them are empty.
  [[nodiscard]] std::string to_string() const;

 private:
  [[nodiscard]] std::string line(const std::vector<std::string>& row,
                                 const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// 20000 -> "20,000"
[[nodiscard]] std::string with_commas(std::uint64_t number);

// 1 -> "1 domain", 2 -> "2 domains"; thousands apart, as in "1,000,000 domains".
[[nodiscard]] std::string count_of(std::size_t count, std::string_view what);

// Of a list with hundreds of entries so many are shown: one screen is to stay one.
inline constexpr std::size_t kShownRows = 20;
inline constexpr std::size_t kShownNames = 5;

// "a, b, c, d, e and 295 more"
[[nodiscard]] std::string first_names(const std::vector<std::string>& names);
// A line such as "  and 280 more mailers"; empty if `left` is 0.
[[nodiscard]] std::string and_more(std::size_t left, std::string_view what);

// Local time, as "2026-11-22 11:00:04".
[[nodiscard]] std::string local_time(std::int64_t unix_seconds);

// 11530 -> "3h 12m"
[[nodiscard]] std::string duration_text(std::int64_t seconds);

void print(std::string_view text);        // to stdout
void print_error(std::string_view text);  // to stderr
// One line each, "error" and "warning" in colour.
[[nodiscard]] std::string render(const Diagnostics& diagnostics, const Style& style);

}  // namespace postern::gateway::cli
