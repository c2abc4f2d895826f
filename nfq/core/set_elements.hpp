// What the sets of the ruleset hold that are filled from the configuration, and what a reload changes
// in them.
// Threads:  pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rules/policy.hpp"

namespace postern::nfq {

// By the names of the sets; sorted.
using SetElements = std::map<std::string, std::vector<std::string>>;
[[nodiscard]] SetElements set_elements(const rules::Policy& policy);

// As it stands in a set; empty where there are none, because nft takes no empty list.
[[nodiscard]] std::string elements_line(const std::vector<std::string>& elements);

// The lines that make one of the other; without `before`, whatever there is.
// What stays is not touched: while the kernel exchanges the elements of a set, packets may find neither
// the old nor the new ones (Linux 6.1), and nothing at all in a new set of ranges (later ones).
[[nodiscard]] std::string set_changes(const std::optional<SetElements>& before,
                                      const SetElements& now);

}  // namespace postern::nfq
