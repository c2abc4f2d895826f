#include "rules/utf8.hpp"

namespace postern::rules {

std::size_t utf8_length(std::string_view text) {
  const auto octet = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto within = [](unsigned value, unsigned low, unsigned high) {
    return value >= low && value <= high;
  };
  const auto is_tail = [&](std::size_t i) { return within(octet(i), 0x80, 0xbf); };
  const unsigned lead = octet(0);
  if (within(lead, 0xc2, 0xdf)) {
    return is_tail(1) ? 2 : 0;
  }
  if (within(lead, 0xe0, 0xef)) {
    const unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : 0xbf;
    return within(octet(1), low, high) && is_tail(2) ? 3 : 0;
  }
  if (within(lead, 0xf0, 0xf4)) {
    const unsigned low = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
    return within(octet(1), low, high) && is_tail(2) && is_tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace postern::rules
