// A filter that refuses the sources it was given.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/source_filter.hpp"

namespace postern::testing_support {

class BarredSources final : public rules::SourceFilter {
 public:
  BarredSources() = default;
  explicit BarredSources(std::vector<std::string_view> sources) {
    for (const std::string_view source : sources) {
      sources_.push_back(rules::IpAddress::parse(source).value());
    }
  }
  [[nodiscard]] bool refuses(const rules::IpAddress& source) const override {
    return std::ranges::find(sources_, source) != sources_.end();
  }

 private:
  std::vector<rules::IpAddress> sources_;
};

}  // namespace postern::testing_support
