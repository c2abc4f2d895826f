// What was blocked since midnight, local time, out of totals that only grow.
// Threads:  one owner.
#pragma once

#include <ctime>

#include "gateway/counters.hpp"

namespace postern::gateway {

class BlockedToday {
 public:
  // To be called often. Begins anew on a new day; what was there before the first look counts, too.
  void look(const BlockedTotals& totals, std::time_t now);
  [[nodiscard]] BlockedTotals since_midnight(const BlockedTotals& totals) const;

 private:
  static constexpr int kNoDay = -1;
  int day_ = kNoDay;  // of the year
  BlockedTotals before_;
};

}  // namespace postern::gateway
