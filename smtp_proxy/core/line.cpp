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
  const std::size_t end = input.find("\r\n");
  if (end != std::string_view::npos) {
    return {.consumed = end + 2, .ended = true};
  }
  const bool half_ended = input.ends_with('\r');
  return {.consumed = input.size() - (half_ended ? 1 : 0), .ended = false};
}

}  // namespace postern::smtp_proxy
