#include "gateway/blocked_today.hpp"

#include <cstddef>
#include <utility>

namespace postern::gateway {

void BlockedToday::look(const BlockedTotals& totals, std::time_t now) {
  std::tm local{};
  localtime_r(&now, &local);
  const int day_before = std::exchange(day_, local.tm_yday);
  if (day_before != kNoDay && day_before != day_) {
    before_ = totals;
  }
}

BlockedTotals BlockedToday::since_midnight(const BlockedTotals& totals) const {
  BlockedTotals today = totals;
  for (std::size_t i = 0; i < rules::kReasonCount; ++i) {
    today.refused[i] -= before_.refused[i];
    today.observed[i] -= before_.observed[i];
  }
  return today;
}

}  // namespace postern::gateway
