// Reading what `nft --json` prints: whatever is not there, or of another kind, reads as nothing.
#pragma once

#include <boost/json/fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postern::gateway::doctor {

// nullptr: `value` has no such member. Else it is `value`'s.
[[nodiscard]] const boost::json::value* at(const boost::json::value& value, std::string_view name);
// A string as it is, anything else as JSON, nullptr as nothing.
[[nodiscard]] std::string text_of(const boost::json::value* value);
[[nodiscard]] std::string text_at(const boost::json::value& value, std::string_view name);
[[nodiscard]] std::optional<std::uint32_t> number_of(const boost::json::value& value);

}  // namespace postern::gateway::doctor
