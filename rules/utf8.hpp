// UTF-8 beyond ASCII, one character at a time.
// Source:   RFC 3629 4: no overlong forms, no surrogates, nothing past U+10FFFF.
// Units:    octets.
#pragma once

#include <cstddef>
#include <string_view>

namespace postern::rules {

// Octets of the character that `text` starts with; 0: it is ASCII or not well-formed.
[[nodiscard]] std::size_t utf8_length(std::string_view text);

}  // namespace postern::rules
