#include "smtp_proxy/core/reply.hpp"

#include <algorithm>

namespace postern::smtp_proxy {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// 0: no reply code. The first digit is 2 to 5; RFC 5321 4.2.1 knows second digits 0 to 5, servers
// use others too.
std::uint16_t parse_code(std::string_view line) {
  if (line.size() < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) ||
      !is_digit(line[2])) {
    return 0;
  }
  return static_cast<std::uint16_t>((line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0'));
}

}  // namespace

Reply take_reply(std::string_view input) {
  std::uint16_t code = 0;
  std::size_t position = 0;
  while (true) {
    const std::size_t end = input.find_first_of("\r\n", position);
    if (end == std::string_view::npos || end + 1 == input.size()) {
      const bool is_bare_lf = end != std::string_view::npos && input[end] == '\n';
      const bool is_endless = input.size() >= kLongestReplyOctets;
      return {.status = is_bare_lf || is_endless ? ReplyStatus::malformed : ReplyStatus::need_more};
    }
    const std::string_view line = input.substr(position, end - position);
    const std::uint16_t line_code = parse_code(line);
    const bool is_last = line.size() == 3 || (line.size() > 3 && line[3] == ' ');
    const bool is_continued = line.size() > 3 && line[3] == '-';
    if (input[end] != '\r' || input[end + 1] != '\n' || line_code == 0 ||
        (code != 0 && code != line_code) || (!is_last && !is_continued)) {
      return {.status = ReplyStatus::malformed};
    }
    code = line_code;
    position = end + 2;
    if (position > kLongestReplyOctets) {
      return {.status = ReplyStatus::malformed};
    }
    if (is_last) {
      return {.status = ReplyStatus::complete, .code = code, .text = input.substr(0, position)};
    }
  }
}

std::string make_printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string printable;
  for (const char c : text) {
    const bool is_printable = c >= ' ' && c <= '~';
    if (printable.size() + (is_printable ? 1 : 4) > limit) {
      return printable + "...";
    }
    if (is_printable) {
      printable += c;
    } else {
      const auto octet = static_cast<unsigned char>(c);
      printable += {'\\', 'x', kHex[octet >> 4U], kHex[octet & 0xfU]};
    }
  }
  return printable;
}

std::string render_reply(rules::Reason reason, std::string_view detail) {
  const rules::ReasonInfo& info = rules::info(reason);
  std::string reply = std::to_string(info.smtp_code);
  reply += ' ';
  reply += info.enhanced;
  reply += ' ';
  if (!detail.empty()) {
    reply += make_printable(detail);
    reply += ": ";
  }
  reply += info.text;
  reply += "\r\n";
  return reply;
}

}  // namespace postern::smtp_proxy
