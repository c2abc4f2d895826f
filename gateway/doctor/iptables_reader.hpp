// Reads what iptables-save and ip6tables-save print.
// Source:   iptables-save(8), iptables-extensions(8).
// Errors:   none; an option that is not understood makes its rule's condition `unknown`.
#pragma once

#include <string_view>
#include <vector>

#include "gateway/doctor/filter_rules.hpp"

namespace postern::gateway::doctor {

// Without Postern's own chain, and the jump to it.
[[nodiscard]] std::vector<Chain> read_iptables(std::string_view saved, bool is_v4,
                                               Chain::Owner owner);

}  // namespace postern::gateway::doctor
