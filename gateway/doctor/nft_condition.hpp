// What a match of an nft rule asks of a packet.
#pragma once

#include <boost/json/value.hpp>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/doctor/filter_rules.hpp"

namespace postern::gateway::doctor {

// The elements of named sets, by full_name().
using Sets = std::map<std::string, std::vector<boost::json::value>>;

// "family table name", of something that lies in the table that `of` lies in.
[[nodiscard]] std::string full_name(const boost::json::value& of, std::string_view name);

// One port or queue, or a range of them; nullopt: neither.
[[nodiscard]] std::optional<PortRange> ports_of(const boost::json::value& value);

// What is not understood becomes a condition on Subject::unknown. `rule`: that the match stands in.
void add_conditions(std::vector<Condition>& conditions, const boost::json::value& left_side,
                    std::string_view operation, const boost::json::value& right, const Sets& sets,
                    const boost::json::value& rule);

}  // namespace postern::gateway::doctor
