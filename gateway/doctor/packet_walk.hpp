// What other people's packet filters do to a packet of ours.
// Errors:   none; what cannot be told is `unclear`, never "passes".
// Threads:  pure.
// Limits:   a packet is a class of packets: what it leaves open (a stranger's address) may match a
//           condition or not. Rules that drop only some of them, as block lists do, are the
//           administrator's business and do not count as standing in the way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gateway/doctor/filter_rules.hpp"

namespace postern::gateway::doctor {

enum class Truth : std::uint8_t { no, maybe, yes };

struct Packet {
  bool is_v4 = true;
  std::string input_interface{};   // empty: made here
  std::string output_interface{};  // empty: not known yet, or delivered here
  std::optional<rules::IpAddress> source{};
  std::optional<rules::IpAddress> destination{};
  std::optional<std::uint16_t> source_port{};
  std::optional<std::uint16_t> destination_port{};
  std::string state = "new";  // of its connection: "new", "established", "untracked"
  std::uint32_t mark = 0;
  std::uint32_t mark_mask = 0;  // the bits of the mark that are known
  bool is_for_router = false;
};

[[nodiscard]] Truth matches(const Condition& condition, const Packet& packet);
[[nodiscard]] Truth matches(const Rule& rule, const Packet& packet);

enum class Fate : std::uint8_t { passes, blocked, unclear };

struct Reached {
  const Chain* base = nullptr;
  const Rule* rule = nullptr;
  bool surely = false;
};

// A packet's way through one base chain.
struct Passage {
  Fate fate = Fate::passes;
  const Chain* base = nullptr;
  const Rule* decided_by = nullptr;  // nullptr: the chain's policy
  std::vector<Reached> reached{};
};

// `listening`: netfilter queues with somebody behind; a packet in any other is lost.
[[nodiscard]] Passage walk(const Ruleset& ruleset, const Chain& base, const Packet& packet,
                           const std::vector<std::uint16_t>& listening);

// The base chains of a hook that see packets of this family, in the order of their priorities.
[[nodiscard]] std::vector<const Chain*> base_chains(const Ruleset& ruleset, Hook hook, bool is_v4);

}  // namespace postern::gateway::doctor
