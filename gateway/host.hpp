// What a configuration cannot know of itself: the addresses of the machine it is for.
// Threads: any.
#pragma once

#include <vector>

#include "gateway/config.hpp"
#include "rules/ip.hpp"

namespace postern::gateway {

// Of every interface that is there now, in no order. Empty if the kernel does not tell.
[[nodiscard]] std::vector<rules::IpAddress> local_addresses();

// The networks that those interfaces are on. Likewise.
[[nodiscard]] std::vector<rules::Prefix> local_prefixes();

// A mailer at one of the router's own addresses would have the proxy connect to itself, for ever.
[[nodiscard]] Diagnostics check_against_host(const Config& config,
                                             const std::vector<rules::IpAddress>& local_addresses);
// What may be right all the same: a published address that the router does not have, as it may get
// it later. None, if `local_addresses` are none.
[[nodiscard]] Diagnostics warn_against_host(const Config& config,
                                            const std::vector<rules::IpAddress>& local_addresses);

}  // namespace postern::gateway
