// Sources that are refused for what they did before.
#pragma once

#include "rules/ip.hpp"

namespace postern::rules {

class SourceFilter {
 public:
  virtual ~SourceFilter() = default;
  // Called for every new flow, on any worker's thread; must not block.
  [[nodiscard]] virtual bool refuses(const IpAddress& source) const = 0;
};

}  // namespace postern::rules
