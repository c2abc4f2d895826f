// From what a router is like to what stands in the way of Postern there, and the commands that
// mend it.
// Threads:  pure.
#pragma once

#include <string>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/doctor/facts.hpp"
#include "gateway/doctor/finding.hpp"

namespace postern::gateway::doctor {

// The gravest first. What could not be looked at is Facts::unknown, and judged as if it were fine.
[[nodiscard]] std::vector<Finding> judge(const Config& config, const Facts& facts);

// An interface's name as a part of a switch's: sysctl(8) writes its dots as slashes.
[[nodiscard]] std::string in_switch(std::string interface);

// By subject; each is called by judge().
void judge_host(const Config& config, const Facts& facts, std::vector<Finding>& findings);
void judge_routing(const Config& config, const Facts& facts, std::vector<Finding>& findings);
void judge_filters(const Config& config, const Facts& facts, std::vector<Finding>& findings);
void judge_translation(const Config& config, const Facts& facts, std::vector<Finding>& findings);
void judge_marks(const Config& config, const Facts& facts, std::vector<Finding>& findings);
void judge_neighbours(const Config& config, const Facts& facts, std::vector<Finding>& findings);

}  // namespace postern::gateway::doctor
