#include "gateway/source_concentration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "rules/stranger.hpp"

namespace postern::gateway {
namespace {

std::int64_t slot_number(SourceConcentration::Clock::time_point now) {
  return now.time_since_epoch() / SourceConcentration::kSlot;
}

bool is_same_source(const std::optional<SourceConcentration::Finding>& a,
                    const std::optional<SourceConcentration::Finding>& b) {
  return a && b ? a->source == b->source : a.has_value() == b.has_value();
}

}  // namespace

void FrequentSources::add(const rules::IpAddress& source) {
  ++total_;
  if (const auto found = std::ranges::find(places_, source, &Place::source);
      found != places_.end()) {
    ++found->count;
    return;
  }
  if (places_.size() < kPlaces) {
    places_.push_back({.source = source, .count = 1});
    return;
  }
  Place& least = *std::ranges::min_element(places_, {}, &Place::count);
  least = {.source = source, .count = least.count + 1, .overcount = least.count};
}

std::string SourceConcentration::Finding::source_text() const {
  return source.is_v4() ? source.to_string() : source.to_string() + "/64";
}

void SourceConcentration::expect(rules::PrefixSet relays) {
  const std::lock_guard lock(mutex_);
  expected_ = std::move(relays);
}

void SourceConcentration::note(const rules::IpAddress& client, Clock::time_point now) {
  const std::int64_t number = slot_number(now);
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[static_cast<std::size_t>(number) % kSlots];
  if (slot.number != number) {
    slot = {.number = number, .sources = {}};
  }
  if (expected_.contains(client)) {
    slot.sources.add_other();
  } else {
    slot.sources.add(rules::stranger_of(client));
  }
}

std::optional<SourceConcentration::Finding> SourceConcentration::most_frequent(
    std::int64_t now) const {
  std::uint64_t in_all = 0;
  std::map<rules::IpAddress, std::uint64_t> sessions;
  for (const Slot& slot : slots_) {
    if (slot.number > now - static_cast<std::int64_t>(kSlots)) {
      in_all += slot.sources.total();
      for (const FrequentSources::Place& place : slot.sources.places()) {
        if (!rules::stands_for_one_of(place.source, expected_)) {
          sessions[place.source] += place.certain();
        }
      }
    }
  }
  const auto most = std::ranges::max_element(
      sessions, {}, [](const auto& of_source) { return of_source.second; });
  if (in_all < kBusy || most == sessions.end()) {
    return std::nullopt;
  }
  return Finding{.source = most->first, .sessions = most->second, .in_all = in_all};
}

std::optional<SourceConcentration::Change> SourceConcentration::judge(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  std::optional<Finding> found = most_frequent(slot_number(now));
  if (found && found->share() < (is_same_source(found, alarm_) ? kKept : kRaised)) {
    found.reset();
  }
  Change change{.before = std::exchange(alarm_, found), .now = found};
  return is_same_source(change.before, change.now) ? std::nullopt : std::optional(change);
}

std::optional<SourceConcentration::Finding> SourceConcentration::alarm() const {
  const std::lock_guard lock(mutex_);
  return alarm_;
}

}  // namespace postern::gateway
