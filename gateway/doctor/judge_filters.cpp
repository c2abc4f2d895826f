// Other packet filters that do not let mail through.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "gateway/doctor/judge.hpp"
#include "gateway/doctor/mail_packets.hpp"
#include "nfq/core/mark.hpp"

namespace postern::gateway::doctor {
namespace {

// A rule that lets the packets of a station through, in nft's words and in those of iptables.
struct Permission {
  std::string nft;
  std::string iptables;
};

Permission permission_for(const Config& config, const Station& station) {
  const Packet& packet = station.packet;
  if (station.hook == Hook::input) {
    const nfq::MarkField field(config.datapath.mark_mask);
    const std::uint32_t owned = field.value_of(nfq::Mark::owned);
    return {fmt::format("meta mark and {:#010x} == {:#010x} accept", field.mask(), owned),
            fmt::format("-m mark --mark {:#x}/{:#x} -j ACCEPT", owned, field.mask())};
  }
  const bool from_mailer = packet.source.has_value();
  const auto mailers = addresses_of_mailers(config, packet.is_v4);
  const char* port = packet.destination_port ? "dport" : "sport";
  return {fmt::format("{} {} {{ {} }} tcp {} 25 accept", packet.is_v4 ? "ip" : "ip6",
                      from_mailer ? "saddr" : "daddr", fmt::join(mailers, ", "), port),
          fmt::format("{} {} -p tcp --{} 25 -j ACCEPT", from_mailer ? "-s" : "-d",
                      fmt::join(mailers, ","), port)};
}

std::string command_for(const Config& config, const Station& station, const Passage& passage) {
  if (station.hook == Hook::prerouting && passage.decided_by != nullptr) {
    return passage.decided_by->removal;
  }
  const Permission permission = permission_for(config, station);
  return passage.base->insertion(permission.nft, permission.iptables, station.packet.is_v4);
}

std::string in_words(const Passage& passage) {
  return passage.decided_by == nullptr ? "its policy is drop, and no rule accepts them"
                                       : fmt::format("rule `{}`", passage.decided_by->text);
}

const char* why(const Station& station) {
  return station.hook == Hook::forward
             ? "mail of the mailers does not get out; Postern judges who may use port 25, and "
               "leaves what it passes to the other filters"
             : "the proxy never sees these packets, so no mail comes in";
}

// A rule without connection tracking has the filters behind it see no connections.
Packet as_tracked(const Ruleset& ruleset, const Station& station) {
  const Hook early = station.hook == Hook::output ? Hook::output : Hook::prerouting;
  Packet packet = station.packet;
  for (const Chain* chain : base_chains(ruleset, early, packet.is_v4)) {
    for (const Reached& reached : walk(ruleset, *chain, station.packet, {}).reached) {
      if (reached.surely && reached.rule->verdict == Verdict::notrack) {
        packet.state = "untracked";
      }
    }
  }
  return packet;
}

class FilterJudge {
 public:
  FilterJudge(const Config& config, const Facts& facts, std::vector<Finding>& findings)
      : config_(config),
        ruleset_(*facts.ruleset),
        listening_(listening_queues(config, facts)),
        findings_(findings) {}

  void judge(const Station& station) {
    const Packet packet = as_tracked(ruleset_, station);
    for (const Chain* chain : base_chains(ruleset_, station.hook, packet.is_v4)) {
      if (chain->type == "nat") {
        continue;
      }
      const Passage passage = walk(ruleset_, *chain, packet, listening_);
      if (passage.fate == Fate::blocked) {
        tell_blocked(station, passage);
      } else if (passage.fate == Fate::unclear && unclear_.insert(chain).second) {
        findings_.push_back(
            {.id = "unclear_filter",
             .weight = Weight::note,
             .what = fmt::format("{} is too complicated to be judged here", chain->to_string()),
             .why = fmt::format("whether it lets {} through depends on what a rule asks for "
                                "that cannot be told beforehand",
                                station.what),
             .commands = {chain->insertion(permission_for(config_, station).nft,
                                           permission_for(config_, station).iptables,
                                           station.packet.is_v4)}});
      }
    }
  }

 private:
  void tell_blocked(const Station& station, const Passage& passage) {
    Finding finding{.id = std::string("blocked_") + to_label(station.hook),
                    .what = fmt::format("{} does not let {} through: {}", passage.base->to_string(),
                                        station.what, in_words(passage)),
                    .why = why(station),
                    .commands = {command_for(config_, station, passage)}};
    const bool is_known = std::ranges::any_of(findings_, [&](const Finding& known) {
      return known.id == finding.id && known.commands == finding.commands;
    });
    if (!is_known) {
      findings_.push_back(std::move(finding));
    }
  }

  const Config& config_;
  const Ruleset& ruleset_;
  std::vector<std::uint16_t> listening_;
  std::vector<Finding>& findings_;
  std::set<const Chain*> unclear_;
};

}  // namespace

void judge_filters(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.ruleset) {
    return;
  }
  FilterJudge judge(config, facts, findings);
  for (const Station& station : stations_of(config, facts)) {
    judge.judge(station);
  }
}

}  // namespace postern::gateway::doctor
