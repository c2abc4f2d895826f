// How often what another program changes is put back: at once, but where two programs each want it
// their way, not more often than the limit allows.
// Threads:  one owner.
#pragma once

#include <algorithm>
#include <chrono>

namespace postern::gateway {

class RestorePace {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // False: not yet.
  [[nodiscard]] bool take(Time now) {
    const auto passed = std::chrono::duration_cast<std::chrono::duration<double>>(now - last_);
    left_ = std::min(kBurst, left_ + passed.count() * kPerSecond);
    last_ = now;
    if (left_ < 1) {
      return false;
    }
    left_ -= 1;
    return true;
  }

  static constexpr double kBurst = 10;
  static constexpr double kPerSecond = 1;

 private:
  double left_ = kBurst;
  Time last_;
};

}  // namespace postern::gateway
