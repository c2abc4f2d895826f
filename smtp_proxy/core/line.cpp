#include "smtp_proxy/core/line.hpp"

#include <algorithm>

namespace postern::smtp_proxy {

Line take_line(std::string_view input, std::size_t limit_octets) {
  const std::string_view window = input.substr(0, std::min(input.size(), limit_octets));
  const std::size_t newline = window.find_first_of("\r\n");
  if (newline == std::string_view::npos || newline + 1 == window.size()) {
    if (newline != std::string_view::npos && window[newline] == '\n') {
      return {.status = LineStatus::bare_newline};
    }
    return {.status = input.size() >= limit_octets ? LineStatus::too_long : LineStatus::need_more};
  }
  if (window[newline] == '\n' || window[newline + 1] != '\n') {
    return {.status = LineStatus::bare_newline};
  }
  return {
      .status = LineStatus::complete, .text = window.substr(0, newline), .consumed = newline + 2};
}

SkippedLine skip_line(std::string_view input) {
  const std::size_t newline = input.find_first_of("\r\n");
  if (newline == std::string_view::npos) {
    return {.consumed = input.size()};
  }
  const bool is_cr = input[newline] == '\r';
  if (is_cr && newline + 1 == input.size()) {
    return {.consumed = newline};
  }
  if (is_cr && input[newline + 1] == '\n') {
    return {.status = SkippedLine::Status::ended, .consumed = newline + 2};
  }
  return {.status = SkippedLine::Status::bare_newline, .consumed = newline};
}

}  // namespace postern::smtp_proxy
