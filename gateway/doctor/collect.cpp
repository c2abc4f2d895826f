#include "gateway/doctor/collect.hpp"

namespace postern::gateway::doctor {

Facts collect(const Config& config) {
  Facts facts;
  collect_routes(config, facts);
  collect_host(config, facts);
  collect_filters(config, facts);
  collect_neighbours(config, facts);
  return facts;
}

}  // namespace postern::gateway::doctor
