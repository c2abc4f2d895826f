#include "rules/source_rates.hpp"

#include <algorithm>

#include "rules/stranger.hpp"

namespace postern::rules {

SourceRates::SourceRates(const Limits& limits)
    : interval_(std::chrono::duration_cast<Clock::duration>(std::chrono::seconds(1)) /
                limits.per_second),
      burst_(interval_ * limits.burst),
      patience_(interval_ * limits.patience),
      buckets_(limits.sources) {}

RateFinding SourceRates::charge(const IpAddress& source, Clock::time_point now) {
  Bucket& bucket = buckets_.touch(stranger_of(source));
  if (now > bucket.as_of) {
    // Compared and not subtracted: a new bucket is of the beginning of time.
    bucket.debt =
        bucket.as_of < now - bucket.debt ? Clock::duration{0} : bucket.debt - (now - bucket.as_of);
  }
  bucket.as_of = now;
  bucket.debt += interval_;
  if (bucket.debt <= burst_) {
    return RateFinding::fine;
  }
  if (bucket.debt <= burst_ + patience_) {
    return RateFinding::over_rate;
  }
  bucket.debt = burst_;
  return RateFinding::repeat_offender;
}

}  // namespace postern::rules
