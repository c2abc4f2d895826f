#include "gateway/doctor/packet_walk.hpp"

#include <algorithm>

namespace postern::gateway::doctor {
namespace {

constexpr int kMaxDepth = 16;  // as many jumps as nft allows

Truth known(bool is_true) {
  return is_true ? Truth::yes : Truth::no;
}

Truth negation(Truth truth) {
  return truth == Truth::maybe ? truth : known(truth == Truth::no);
}

bool names_interface(const std::string& pattern, const std::string& name) {
  if (pattern.ends_with('*') || pattern.ends_with('+')) {
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
  }
  return pattern == name;
}

Truth has_interface(const Condition& condition, const std::string& name) {
  return known(std::ranges::any_of(
      condition.names, [&](const auto& pattern) { return names_interface(pattern, name); }));
}

Truth has_name(const Condition& condition, const std::string& name) {
  return known(std::ranges::find(condition.names, name) != condition.names.end());
}

// Networks that no stranger's address lies in.
bool is_private(const AddressRange& range) {
  static const auto kPrivate = [] {
    std::vector<AddressRange> ranges;
    for (const char* text : {"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
                             "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"}) {
      const auto prefix = *rules::Prefix::parse(text);
      ranges.push_back({prefix.address(), last_address(prefix)});
    }
    return ranges;
  }();
  return std::ranges::any_of(kPrivate, [&](const AddressRange& network) {
    return network.first.is_v4() == range.first.is_v4() && network.first <= range.first &&
           range.last <= network.last;
  });
}

Truth has_address(const Condition& condition, const std::optional<rules::IpAddress>& address,
                  bool is_v4) {
  const auto is_of_family = [&](const AddressRange& range) { return range.first.is_v4() == is_v4; };
  if (!std::ranges::any_of(condition.addresses, is_of_family)) {
    return Truth::no;
  }
  const auto holds_all = [](const AddressRange& range) {
    const auto is = [](const rules::IpAddress& end, std::uint8_t octet) {
      return std::ranges::all_of(end.bytes(), [&](std::uint8_t b) { return b == octet; });
    };
    return is(range.first, 0) && is(range.last, 0xff);
  };
  if (!address) {
    return std::ranges::any_of(condition.addresses, holds_all)    ? Truth::yes
           : std::ranges::all_of(condition.addresses, is_private) ? Truth::no
                                                                  : Truth::maybe;
  }
  return known(std::ranges::any_of(condition.addresses, [&](const AddressRange& range) {
    return range.first.is_v4() == address->is_v4() && range.first <= *address &&
           *address <= range.last;
  }));
}

Truth has_port(const Condition& condition, const std::optional<std::uint16_t>& port) {
  constexpr std::uint16_t kFirstOfClients = 1024;
  const auto has = [&](const PortRange& range) {
    return port ? range.first <= *port && *port <= range.last
                : range.first <= kFirstOfClients && range.last == 0xffff;
  };
  if (std::ranges::any_of(condition.ports, has)) {
    return Truth::yes;
  }
  const auto may_be_a_clients = [](const PortRange& range) {
    return range.last >= kFirstOfClients;
  };
  return !port && std::ranges::any_of(condition.ports, may_be_a_clients) ? Truth::maybe : Truth::no;
}

Truth has_mark(const Condition& condition, const Packet& packet) {
  const std::uint32_t looked_at = condition.mask & packet.mark_mask;
  const bool may_match = std::ranges::any_of(condition.values, [&](std::uint32_t value) {
    return (value & looked_at) == (packet.mark & looked_at);
  });
  if (!may_match) {
    return Truth::no;
  }
  return (condition.mask & ~packet.mark_mask) == 0 ? Truth::yes : Truth::maybe;
}

Truth holds(const Condition& condition, const Packet& packet) {
  switch (condition.subject) {
    case Subject::input_interface:
      return has_interface(condition, packet.input_interface);
    case Subject::output_interface:
      return has_interface(condition, packet.output_interface);
    case Subject::family:
      return has_name(condition, packet.is_v4 ? "ipv4" : "ipv6");
    case Subject::protocol:
      return has_name(condition, "tcp");
    case Subject::source:
      return has_address(condition, packet.source, packet.is_v4);
    case Subject::destination:
      return has_address(condition, packet.destination, packet.is_v4);
    case Subject::source_port:
      return has_port(condition, packet.source_port);
    case Subject::destination_port:
      return has_port(condition, packet.destination_port);
    case Subject::connection_state:
      return has_name(condition, packet.state);
    case Subject::mark:
      return has_mark(condition, packet);
    case Subject::local_destination:
      return known(packet.is_for_router);
    case Subject::first_packet:
      return known(packet.state == "new");
    case Subject::unknown:
      return Truth::maybe;
  }
  return Truth::maybe;
}

class Walker {
 public:
  Walker(const Ruleset& ruleset, const Chain& base, const Packet& packet,
         const std::vector<std::uint16_t>& listening)
      : ruleset_(ruleset), packet_(packet), listening_(listening) {
    passage_.base = &base;
  }

  Passage run() {
    const Chain& base = *passage_.base;
    if (go_through(base, true, 0) == End::none) {
      passage_.fate = !base.drops_by_default ? Fate::passes
                      : may_be_accepted_     ? Fate::unclear
                                             : Fate::blocked;
      if (may_be_dropped_ && passage_.fate == Fate::passes) {
        passage_.fate = Fate::unclear;
      }
    }
    return passage_;
  }

 private:
  enum class End : std::uint8_t { none, decided };

  End decide(Fate fate, const Rule* by) {
    passage_.fate = fate;
    passage_.decided_by = by;
    return End::decided;
  }

  // `surely`: the packet gets here, whatever is left open.
  End go_through(const Chain& chain, bool surely, int depth) {
    bool may_have_left = false;
    for (const Rule& rule : chain.rules) {
      const Truth truth = matches(rule, packet_);
      if (truth == Truth::no) {
        continue;
      }
      const bool is_sure = surely && truth == Truth::yes && !may_have_left;
      passage_.reached.push_back({passage_.base, &rule, is_sure});
      if (rule.verdict == Verdict::go_back) {
        if (truth == Truth::yes) {
          return End::none;
        }
        may_have_left = true;
      } else if (rule.verdict == Verdict::jump || rule.verdict == Verdict::go_to) {
        if (follow(chain, rule, is_sure, depth) == End::decided) {
          return End::decided;
        }
        if (rule.verdict == Verdict::go_to && truth == Truth::yes) {
          return End::none;
        }
        may_have_left = may_have_left || rule.verdict == Verdict::go_to;
      } else if (obey(rule, is_sure, truth == Truth::yes && may_have_left) == End::decided) {
        return End::decided;
      }
    }
    return End::none;
  }

  End follow(const Chain& chain, const Rule& rule, bool is_sure, int depth) {
    const Chain* target = ruleset_.chain_of(chain, rule.target);
    if (target == nullptr || depth == kMaxDepth) {
      may_be_accepted_ = may_be_dropped_ = true;
      return End::none;
    }
    return go_through(*target, is_sure, depth + 1);
  }

  // `in_doubt`: it matches for sure, but the packet may have left the chain before.
  End obey(const Rule& rule, bool is_sure, bool in_doubt) {
    switch (rule.verdict) {
      case Verdict::accept:
      case Verdict::translate_destination:
      case Verdict::translate_source:
        return accept(rule, is_sure);
      case Verdict::drop:
        return drop(rule, is_sure, in_doubt);
      case Verdict::queue:
        return rule.bypass || somebody_listens(rule) ? accept(rule, is_sure)
                                                     : drop(rule, is_sure, in_doubt);
      case Verdict::unknown:
        may_be_accepted_ = may_be_dropped_ = true;
        return End::none;
      case Verdict::none:
      case Verdict::go_back:
      case Verdict::jump:
      case Verdict::go_to:
      case Verdict::notrack:
      case Verdict::offload:
        return End::none;
    }
    return End::none;
  }

  End accept(const Rule& rule, bool is_sure) {
    if (is_sure) {
      return decide(may_be_dropped_ ? Fate::unclear : Fate::passes, &rule);
    }
    may_be_accepted_ = true;
    return End::none;
  }

  End drop(const Rule& rule, bool is_sure, bool in_doubt) {
    if (is_sure) {
      return decide(may_be_accepted_ ? Fate::unclear : Fate::blocked, &rule);
    }
    may_be_dropped_ = may_be_dropped_ || in_doubt;
    return End::none;
  }

  [[nodiscard]] bool somebody_listens(const Rule& rule) const {
    return !rule.queues || std::ranges::any_of(listening_, [&](std::uint16_t queue) {
      return rule.queues->first <= queue && queue <= rule.queues->last;
    });
  }

  const Ruleset& ruleset_;
  const Packet& packet_;
  const std::vector<std::uint16_t>& listening_;
  Passage passage_;
  bool may_be_accepted_ = false;
  bool may_be_dropped_ = false;
};

}  // namespace

Truth matches(const Condition& condition, const Packet& packet) {
  const Truth truth = holds(condition, packet);
  return condition.negated ? negation(truth) : truth;
}

Truth matches(const Rule& rule, const Packet& packet) {
  Truth truth = Truth::yes;
  for (const Condition& condition : rule.conditions) {
    truth = std::min(truth, matches(condition, packet));
  }
  return truth;
}

Passage walk(const Ruleset& ruleset, const Chain& base, const Packet& packet,
             const std::vector<std::uint16_t>& listening) {
  return Walker(ruleset, base, packet, listening).run();
}

std::vector<const Chain*> base_chains(const Ruleset& ruleset, Hook hook, bool is_v4) {
  std::vector<const Chain*> chains;
  for (const Chain& chain : ruleset.chains) {
    if (chain.hook == hook && chain.is_for(is_v4)) {
      chains.push_back(&chain);
    }
  }
  std::ranges::stable_sort(chains, {}, &Chain::priority);
  return chains;
}

}  // namespace postern::gateway::doctor
