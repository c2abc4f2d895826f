#include "gateway/doctor/judge.hpp"

#include <algorithm>
#include <set>

namespace postern::gateway::doctor {

namespace {

// A program with a socket for each of its threads is still one program.
void say_once(std::vector<Finding>& findings) {
  std::set<std::string> said;
  std::erase_if(findings,
                [&](const Finding& finding) { return !said.insert(finding.what).second; });
}

}  // namespace

std::vector<Finding> judge(const Config& config, const Facts& facts) {
  std::vector<Finding> findings;
  judge_host(config, facts, findings);
  judge_routing(config, facts, findings);
  judge_filters(config, facts, findings);
  judge_translation(config, facts, findings);
  judge_marks(config, facts, findings);
  judge_neighbours(config, facts, findings);
  say_once(findings);
  std::ranges::stable_sort(findings, {}, &Finding::weight);
  return findings;
}

std::string in_switch(std::string interface) {
  std::ranges::replace(interface, '.', '/');
  return interface;
}

}  // namespace postern::gateway::doctor
