// Who is one stranger to the ledgers: an IPv4 address, or an IPv6 /64, because a /64 is what one
// customer gets at least.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rules/ip.hpp"

namespace postern::rules {

[[nodiscard]] inline IpAddress stranger_of(const IpAddress& client) {
  constexpr std::uint8_t kBitsOfACustomer = 64;
  return client.is_v4() ? client : Prefix(client, kBitsOfACustomer).address();
}

// Whether one of these hosts or networks is, or is in, what one stranger is taken for.
[[nodiscard]] inline bool stands_for_one_of(const IpAddress& stranger, const PrefixSet& networks) {
  return std::ranges::any_of(networks.prefixes(), [&](const Prefix& network) {
    return network.contains(stranger) || stranger_of(network.address()) == stranger;
  });
}

}  // namespace postern::rules
