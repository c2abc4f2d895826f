// The argument of BDAT: how many octets of a message follow the command line.
// Source:   RFC 3030 2.
// Units:    octets.
// Errors:   nullopt: how many follow cannot be known, so nothing behind it can be told apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace postern::smtp_proxy {

struct Chunk {
  std::uint64_t octets = 0;
  bool is_last = false;

  bool operator==(const Chunk&) const = default;
};

[[nodiscard]] std::optional<Chunk> parse_chunk(std::string_view argument);

}  // namespace postern::smtp_proxy
