// Where in a text file something stands.
#pragma once

#include <cstdint>

namespace postern::gateway {

struct Place {
  std::uint32_t line = 0;    // 1-based; 0: the file as a whole
  std::uint32_t column = 0;  // 1-based, in octets

  bool operator==(const Place&) const = default;
};

}  // namespace postern::gateway
