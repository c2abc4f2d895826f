// A configuration in plain words: who is internal, what stands behind, what strangers may write to,
// what becomes of everything else, and what is given up.
#pragma once

#include <string>

#include "gateway/cli/terminal.hpp"
#include "gateway/config.hpp"

namespace postern::gateway::cli {

[[nodiscard]] std::string policy_text(const Config& config, const Style& style);

}  // namespace postern::gateway::cli
