// How often each source was refused of late: a token bucket for each, so that who goes on and on is
// answered no more, and is in the end left to the kernel.
//
// Only refusals are charged. A mailer that thousands of messages come from every minute is not
// refused, so it is never here; and since anybody can write any address on a SYN, being over the
// rate costs a source no more than the answer to what is refused anyway. That is why the limits are
// no configuration.
//
// A bucket is kept as a debt of time: a charge adds one interval, time takes it away.
// Units:    a source is an IPv4 address or an IPv6 /64 (stranger_of).
// Memory:   bounded by Limits::sources, some 2 MiB when full; who was charged longest ago goes first.
// Clock:    given by the caller. One that jumps back forgives nothing and punishes nobody.
// Threads:  one owner. Each queue's thread has its own, so that a source whose flows are spread over
//           several queues may be refused so often in each.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "rules/ip.hpp"
#include "rules/recency_table.hpp"

namespace postern::rules {

enum class RateFinding : std::uint8_t { fine, over_rate, repeat_offender };

class SourceRates {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    // A host that retries mail to a dead address, or a person with a wrong one, stays far below.
    std::int64_t per_second = 2;
    std::int64_t burst = 60;
    // So many charges beyond the burst make a repeat offender: a scanner of a /24, or a flood.
    std::int64_t patience = 120;
    // The kernel shows some 100 refused flows a second at most, so none is forgotten in two minutes.
    std::size_t sources = 16'384;
  };

  SourceRates() : SourceRates(Limits()) {}
  explicit SourceRates(const Limits& limits);

  // `source` was refused once more. repeat_offender is said once; then the patience begins anew.
  [[nodiscard]] RateFinding charge(const IpAddress& source, Clock::time_point now);
  [[nodiscard]] std::size_t size() const { return buckets_.size(); }

 private:
  struct Bucket {
    Clock::duration debt{0};
    Clock::time_point as_of = Clock::time_point::min();
  };

  Clock::duration interval_;
  Clock::duration burst_;
  Clock::duration patience_;
  RecencyTable<IpAddress, Bucket> buckets_;
};

}  // namespace postern::rules
