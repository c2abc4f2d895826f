// Do nearly all strangers come from one address? Then another box in front of this router translates
// addresses, and nothing that is decided by a client's address is right any more. Or it is where the
// site's mail is known to come from, such as a provider's filter service, or one client that is busy
// beyond measure.
// Source:   the counting is Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient Computation of
//           Frequent and Top-k Elements in Data Streams", 2005.
// Memory:   kSlots * kPlaces addresses, whatever strangers do.
// Threads:  any; one lock, held for a walk over kPlaces addresses a session.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "rules/ip.hpp"

namespace postern::gateway {

// The most frequent of many sources, in constant memory. A source that made more than one in kPlaces
// of all visits has a place.
class FrequentSources {
 public:
  static constexpr std::size_t kPlaces = 32;

  struct Place {
    rules::IpAddress source;
    std::uint64_t count = 0;      // at most overcount too many, never too few
    std::uint64_t overcount = 0;  // what another source left behind in this place
    [[nodiscard]] std::uint64_t certain() const { return count - overcount; }
  };

  void add(const rules::IpAddress& source);
  // A visit whose source does not matter.
  void add_other() { ++total_; }

  [[nodiscard]] std::uint64_t total() const { return total_; }
  [[nodiscard]] const std::vector<Place>& places() const { return places_; }

 private:
  std::uint64_t total_ = 0;
  std::vector<Place> places_;
};

class SourceConcentration {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::chrono::minutes kSlot{5};
  static constexpr std::size_t kSlots = 12;  // an hour
  // An hour with fewer sessions says nothing.
  static constexpr std::uint64_t kBusy = 100;
  // Of all sessions of the hour: from where on there is an alarm, and down to where it stays.
  static constexpr double kRaised = 0.9;
  static constexpr double kKept = 0.75;

  struct Finding {
    rules::IpAddress source;     // of an IPv6 /64 its first address
    std::uint64_t sessions = 0;  // its own, at least
    std::uint64_t in_all = 0;
    [[nodiscard]] double share() const {
      return static_cast<double>(sessions) / static_cast<double>(in_all);
    }
    [[nodiscard]] std::uint64_t percent() const { return 100 * sessions / in_all; }
    [[nodiscard]] std::string source_text() const;
  };
  struct Change {
    std::optional<Finding> before;
    std::optional<Finding> now;
  };

  SourceConcentration() = default;
  SourceConcentration(const SourceConcentration&) = delete;
  SourceConcentration& operator=(const SourceConcentration&) = delete;

  // From where the site's mail is known to come: no alarm is raised for them.
  void expect(rules::PrefixSet relays);
  // An external session.
  void note(const rules::IpAddress& client, Clock::time_point now);
  // Judges the last hour. Told of is another source than at the last time, not another share.
  [[nodiscard]] std::optional<Change> judge(Clock::time_point now);
  // As last judged.
  [[nodiscard]] std::optional<Finding> alarm() const;

 private:
  struct Slot {
    std::int64_t number = -1;
    FrequentSources sources;
  };

  [[nodiscard]] std::optional<Finding> most_frequent(std::int64_t now) const;

  mutable std::mutex mutex_;
  rules::PrefixSet expected_;
  std::array<Slot, kSlots> slots_;
  std::optional<Finding> alarm_;
};

}  // namespace postern::gateway
