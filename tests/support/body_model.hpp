// The body of DATA by the book and slowly: what smtp_proxy/core/body must agree with.
// Written apart from it on purpose: whole strings, one rule a function, no state machine.
// Source:   RFC 5321 4.5.2, docs/invariants.md.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::testing_support {

struct StrictBody {
  std::string text;          // without the end of data, still stuffed
  std::size_t consumed = 0;  // with the end of data
};

// The end of data is CRLF.CRLF, or .CRLF at the start; nullopt: it has not come.
inline std::optional<StrictBody> take_strict_body(std::string_view input) {
  if (input.starts_with(".\r\n")) {
    return StrictBody{.text = "", .consumed = 3};
  }
  const std::size_t end = input.find("\r\n.\r\n");
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  return StrictBody{.text = std::string(input.substr(0, end + 2)), .consumed = end + 5};
}

// What a strict reader stores: one dot less at the start of each line, lines ending in CRLF only.
inline std::string unstuff_strictly(std::string_view stuffed) {
  std::string text;
  bool is_line_start = true;
  for (std::size_t i = 0; i < stuffed.size(); ++i) {
    if (!(is_line_start && stuffed[i] == '.')) {
      text += stuffed[i];
    }
    is_line_start = stuffed[i] == '\n' && i > 0 && stuffed[i - 1] == '\r';
  }
  return text;
}

// Lines by the laxest reader: CR, LF and CRLF each end one.
inline std::vector<std::string> split_laxly(std::string_view text) {
  std::vector<std::string> lines(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') {
      continue;
    }
    if (text[i] == '\r' || text[i] == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += text[i];
    }
  }
  return lines;
}

// Every newline becomes CRLF.
inline std::string normalise(std::string_view text) {
  std::string normalised;
  const std::vector<std::string> lines = split_laxly(text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    normalised += i == 0 ? "" : "\r\n";
    normalised += lines[i];
  }
  return normalised;
}

inline bool has_bare_newline(std::string_view text) {
  return normalise(text) != text;
}

// Where the laxest reader would see an end of data: offsets behind each line that is a dot alone.
inline std::vector<std::size_t> lax_ends(std::string_view text) {
  std::vector<std::size_t> ends;
  std::size_t line_start = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r' && text[i] != '\n') {
      continue;
    }
    const bool is_dot = text.substr(line_start, i - line_start) == ".";
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') {
      ++i;
    }
    line_start = i + 1;
    if (is_dot) {
      ends.push_back(line_start);
    }
  }
  return ends;
}

}  // namespace postern::testing_support
