#include "gateway/barred_sources.hpp"

#include <algorithm>

#include "rules/stranger.hpp"

namespace postern::gateway {

void BarredSources::bar(const rules::IpAddress& source, std::chrono::seconds duration,
                        Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Clock::time_point& end = ends_.touch(rules::stranger_of(source));
  end = std::max(end, now + duration);
  last_ends_ = std::max(last_ends_.load(), end);
}

bool BarredSources::is_barred(const rules::IpAddress& source, Clock::time_point now) const {
  if (now >= last_ends_.load(std::memory_order_relaxed)) {
    return false;
  }
  const std::lock_guard lock(mutex_);
  const Clock::time_point* end = ends_.find(rules::stranger_of(source));
  return end != nullptr && now < *end;
}

std::vector<BarredSources::Bar> BarredSources::bars(Clock::time_point now) const {
  std::vector<Bar> bars;
  const std::lock_guard lock(mutex_);
  for (const auto& [source, end] : ends_.entries()) {
    if (now < end) {
      bars.push_back(
          {.source = source, .left = std::chrono::ceil<std::chrono::seconds>(end - now)});
    }
  }
  return bars;
}

bool BarredSources::refuses(const rules::IpAddress& source) const {
  return is_barred(source, Clock::now());
}

}  // namespace postern::gateway
