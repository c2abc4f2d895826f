#include "gateway/offenders.hpp"

#include <algorithm>
#include <tuple>

namespace postern::gateway {

void Offenders::note(const rules::Ends& ends, const rules::FlowDecided& flow, Time now) {
  if (flow.decision.refused_for.value_or(flow.decision.reason) != rules::Reason::unmanaged_sender) {
    return;
  }
  const rules::IpAddress& destination = ends.server.address;
  const std::lock_guard lock(mutex_);
  auto& [seen, destinations] =
      hosts_.touch(ends.client.address, [this](const rules::IpAddress&) { ++forgotten_; });
  if (seen.attempts == 0) {
    seen.address = ends.client.address;
    seen.first_seen = now;
  }
  ++seen.attempts;
  ++seen.by_verdict[static_cast<std::size_t>(flow.decision.verdict)];
  seen.last_seen = now;
  seen.sent_by = flow.sent_by;
  const auto place = std::ranges::lower_bound(destinations, destination);
  if (place != destinations.end() && *place == destination) {
    return;
  }
  if (destinations.size() < kMostDestinations) {
    destinations.insert(place, destination);
    seen.destinations = destinations.size();
  } else {
    seen.has_more_destinations = true;
  }
}

std::vector<Offender> Offenders::worst(std::size_t limit) const {
  std::vector<Offender> all;
  {
    const std::lock_guard lock(mutex_);
    all.reserve(hosts_.size());
    for (const auto& [address, record] : hosts_.entries()) {
      all.push_back(record.seen);
    }
  }
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
  std::ranges::partial_sort(all, middle, [](const Offender& a, const Offender& b) {
    return std::tie(a.attempts, a.last_seen, a.address) >
           std::tie(b.attempts, b.last_seen, b.address);
  });
  all.erase(middle, all.end());
  return all;
}

std::size_t Offenders::size() const {
  const std::lock_guard lock(mutex_);
  return hosts_.size();
}

std::uint64_t Offenders::forgotten() const {
  const std::lock_guard lock(mutex_);
  return forgotten_;
}

}  // namespace postern::gateway
