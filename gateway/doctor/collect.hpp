// Looks at this machine, in the network namespace that it runs in: /proc, and what ip, nft and
// iptables print. Nothing is changed, but for modules that the kernel loads when it is asked
// whether it has them.
// Errors:   none; what could not be looked at is in Facts::unknown.
// Threads:  any; blocks for as long as those programs take.
#pragma once

#include "gateway/config.hpp"
#include "gateway/doctor/facts.hpp"

namespace postern::gateway::doctor {

[[nodiscard]] Facts collect(const Config& config);

// By subject; each is called by collect().
void collect_host(const Config& config, Facts& facts);
void collect_routes(const Config& config, Facts& facts);
void collect_filters(const Config& config, Facts& facts);
void collect_neighbours(const Config& config, Facts& facts);

}  // namespace postern::gateway::doctor
