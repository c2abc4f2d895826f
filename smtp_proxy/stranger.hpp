// Who is one stranger to the ledgers: an IPv4 address, or an IPv6 /64, because a /64 is what one
// customer gets at least.
#pragma once

#include <cstdint>

#include "rules/ip.hpp"

namespace postern::smtp_proxy {

[[nodiscard]] inline rules::IpAddress stranger_of(const rules::IpAddress& client) {
  constexpr std::uint8_t kBitsOfACustomer = 64;
  return client.is_v4() ? client : rules::Prefix(client, kBitsOfACustomer).address();
}

}  // namespace postern::smtp_proxy
