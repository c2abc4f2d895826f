// What the daemon says of offenders, laid out for `postern offenders` and `postern status`.
#pragma once

#include <boost/json.hpp>

#include <string>

#include "gateway/cli/terminal.hpp"

namespace postern::gateway::cli {

// Empty if there are none.
[[nodiscard]] std::string offenders_table(const boost::json::value& answer);
// What the numbers leave out, a line each.
[[nodiscard]] std::string offenders_notes(const boost::json::value& answer);

}  // namespace postern::gateway::cli
