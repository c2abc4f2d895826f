// Who is refused at the packet policy for the passwords it guessed. The proxy finds out and tells; here it is kept for the
// threads that judge packets.
// Memory:   bounded; who was barred longest ago goes first.
// Threads:  any. One lock, but as long as nobody is barred refuses() does not take it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <vector>

#include "rules/ip.hpp"
#include "rules/recency_table.hpp"
#include "rules/source_filter.hpp"

namespace postern::gateway {

class BarredSources final : public rules::SourceFilter {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kMost = 16'384;

  struct Bar {
    rules::IpAddress source;  // IPv6: of its /64 the first
    std::chrono::seconds left;
  };

  // `source`: an IPv6 one stands for its /64.
  void bar(const rules::IpAddress& source, std::chrono::seconds duration, Clock::time_point now);
  [[nodiscard]] bool is_barred(const rules::IpAddress& source, Clock::time_point now) const;
  // Those that are not over; who was barred last is last.
  [[nodiscard]] std::vector<Bar> bars(Clock::time_point now) const;
  // The same, at this moment.
  [[nodiscard]] bool refuses(const rules::IpAddress& source) const override;

 private:
  mutable std::mutex mutex_;
  rules::RecencyTable<rules::IpAddress, Clock::time_point> ends_{kMost};
  std::atomic<Clock::time_point> last_ends_ = Clock::time_point::min();
};

}  // namespace postern::gateway
