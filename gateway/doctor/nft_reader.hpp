// Reads what `nft -j list ruleset` prints.
// Source:   libnftables-json(5).
// Errors:   text, if it is no such document; a part that is not understood becomes `unknown`.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "gateway/doctor/filter_rules.hpp"

namespace postern::gateway::doctor {

// `listing`: what `nft -a list ruleset` prints, for the words of the rules.
// Without Postern's own tables.
[[nodiscard]] std::expected<Ruleset, std::string> read_nft(std::string_view json,
                                                           std::string_view listing = {});

}  // namespace postern::gateway::doctor
