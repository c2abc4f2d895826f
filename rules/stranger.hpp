// Who is one stranger to the ledgers: an IPv4 address, or an IPv6 /64, because a /64 is what one
// customer gets at least.
#pragma once

#include <cstdint>

#include "rules/ip.hpp"

namespace postern::rules {

[[nodiscard]] inline IpAddress stranger_of(const IpAddress& client) {
  constexpr std::uint8_t kBitsOfACustomer = 64;
  return client.is_v4() ? client : Prefix(client, kBitsOfACustomer).address();
}

}  // namespace postern::rules
