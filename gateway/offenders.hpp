// Who inside sends mail past the mailers: the hosts whose connections to port 25 outside were judged
// unmanaged_sender, whatever became of them; also those that came too often to be answered.
// Memory:   kMost hosts with kMostDestinations addresses each, which is some 4 MB; the host that was
//           seen longest ago makes room.
// Threads:  any; one lock, held for a look-up in a tree, or while all of it is read.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "rules/event.hpp"
#include "rules/ip.hpp"
#include "rules/recency_table.hpp"

namespace postern::gateway {

struct Offender {
  rules::IpAddress address;
  std::optional<rules::MacAddress> sent_by;  // the latest; see FlowDecided
  std::uint64_t attempts = 0;
  std::array<std::uint64_t, rules::kFlowVerdictCount> by_verdict{};
  std::chrono::system_clock::time_point first_seen;
  std::chrono::system_clock::time_point last_seen;
  std::size_t destinations = 0;        // different ones
  bool has_more_destinations = false;  // than are told apart
};

class Offenders {
 public:
  using Time = std::chrono::system_clock::time_point;

  static constexpr std::size_t kMost = 4096;
  static constexpr std::size_t kMostDestinations = 32;  // of one host, that are told apart

  explicit Offenders(std::size_t most = kMost) : hosts_(most) {}
  Offenders(const Offenders&) = delete;
  Offenders& operator=(const Offenders&) = delete;

  // Takes any flow, and counts those it is about.
  void note(const rules::Ends& ends, const rules::FlowDecided& flow, Time now);

  // The one with most attempts first; of equals the one seen last.
  [[nodiscard]] std::vector<Offender> worst(std::size_t limit) const;
  [[nodiscard]] std::size_t size() const;
  // Hosts that had to make room.
  [[nodiscard]] std::uint64_t forgotten() const;

 private:
  struct Record {
    Offender seen;
    std::vector<rules::IpAddress> destinations;  // sorted
  };

  mutable std::mutex mutex_;
  rules::RecencyTable<rules::IpAddress, Record> hosts_;
  std::uint64_t forgotten_ = 0;
};

}  // namespace postern::gateway
