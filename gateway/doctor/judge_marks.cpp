// Other people's rules that write bits of the packet mark that are Postern's.
// Source:   the priorities of Postern's chains, nfq/core/ruleset.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "gateway/doctor/judge.hpp"
#include "gateway/doctor/mail_packets.hpp"

namespace postern::gateway::doctor {
namespace {

constexpr int kClassify = -152;
constexpr int kGuard = 0;

class MarkJudge {
 public:
  MarkJudge(const Config& config, const Facts& facts)
      : config_(config), field_(config.datapath.mark_mask) {
    for (const Station& station : stations_of(config, facts)) {
      for (const Chain* chain : base_chains(*facts.ruleset, station.hook, station.packet.is_v4)) {
        for (const Reached& reached : walk(*facts.ruleset, *chain, station.packet, {}).reached) {
          if (!reached.rule->marks.empty()) {
            writers_.insert({chain, reached.rule});
          }
        }
      }
    }
    for (const auto& [chain, rule] : writers_) {
      for (const MarkWrite& write : rule->marks) {
        if (write.to == MarkWrite::To::connection && carries_ours(*chain)) {
          kept_ |= write.unknown & field_;
        }
      }
    }
  }

  void judge(std::vector<Finding>& findings) const {
    for (const auto& [chain, rule] : writers_) {
      for (const MarkWrite& write : rule->marks) {
        if (write.to == MarkWrite::To::packet && (write.bits & field_) != 0) {
          judge_write(*chain, *rule, write, findings);
        }
      }
    }
  }

 private:
  // Whether packets have marks of Postern's there, for a rule to keep in the connection's mark.
  [[nodiscard]] static bool carries_ours(const Chain& chain) {
    return chain.hook == Hook::input || (chain.hook == Hook::prerouting && comes_between(chain));
  }

  // After Postern begins to mark, and before it has routed.
  [[nodiscard]] static bool comes_between(const Chain& chain) {
    return chain.priority >= kClassify;
  }

  void judge_write(const Chain& chain, const Rule& rule, const MarkWrite& write,
                   std::vector<Finding>& findings) const {
    const bool sets = (write.value & write.bits & field_) != 0 || (write.unknown & kept_) != 0;
    const bool clears = (chain.hook == Hook::prerouting && comes_between(chain)) ||
                        (chain.hook == Hook::forward && chain.priority <= kGuard &&
                         config_.policy->unmanaged_sender == rules::Tolerance::reject);
    const bool is_routed_after =
        chain.hook == Hook::prerouting || chain.hook == Hook::forward || chain.hook == Hook::output;
    if (!is_routed_after || (!sets && !clears)) {
      return;
    }
    Finding finding{
        .id = "mark_clash",
        .what = fmt::format("rule `{}` in {} writes bits of the packet mark that are Postern's "
                            "({:#x})",
                            rule.text, chain.to_string(), field_),
        .why = clears ? "it wipes out what the packet policy has decided, so mail does not reach "
                        "the proxy, or what was refused is let through"
                      : "packets get a mark that means something to Postern, and take the way of "
                        "others"};
    mend(chain, rule, write, clears, finding);
    findings.push_back(std::move(finding));
  }

  void mend(const Chain& chain, const Rule& rule, const MarkWrite& write, bool clears,
            Finding& finding) const {
    if ((write.value & write.bits & field_) != 0) {
      finding.config = fmt::format("mark_mask = {:#010x}", free_field());
      finding.commands = {"postern check && systemctl restart posternd"};
      return;
    }
    const auto masked =
        chain.owner == Chain::Owner::nft ? masked_nft(rule, write) : masked_iptables(chain, rule);
    if (masked) {
      finding.commands = {*masked};
    } else if (clears) {
      finding.commands = {chain.insertion(
          fmt::format("meta mark and {:#010x} != 0 accept", field_),
          fmt::format("-m mark ! --mark 0x0/{:#x} -j ACCEPT", field_), chain.family != "ip6")};
    } else {
      finding.commands = {rule.removal};
    }
  }

  // The same rule, with our bits kept. nft can say it of constants.
  [[nodiscard]] std::optional<std::string> masked_nft(const Rule& rule,
                                                      const MarkWrite& write) const {
    constexpr std::string_view kSets = "meta mark set 0x";
    const std::size_t start = rule.text.find(kSets);
    if (write.bits != 0xffffffff || write.unknown != 0 || start == std::string::npos) {
      return std::nullopt;
    }
    const std::size_t end = rule.text.find(' ', start + kSets.size());
    const std::string rest = end == std::string::npos ? "" : rule.text.substr(end);
    return fmt::format("nft replace rule {} {}meta mark set meta mark and {:#010x} or {:#010x}{}",
                       rule.place, rule.text.substr(0, start), field_, write.value, rest);
  }

  [[nodiscard]] std::optional<std::string> masked_iptables(const Chain& chain,
                                                           const Rule& rule) const {
    std::string text = rule.text;
    const std::string ours = fmt::format("{:#x}", ~field_);
    for (const std::string_view before : {"--nfmask ", "--ctmask ", "/"}) {
      const std::string found = std::string(before) + "0xffffffff";
      const std::size_t at = text.find(found);
      if (at != std::string::npos) {
        text.replace(at, found.size(), std::string(before) + ours);
      }
    }
    if (text == rule.text) {
      return std::nullopt;
    }
    const std::string program = rule.removal.substr(0, rule.removal.find(' '));
    return fmt::format("{} -t {} -R {} {} {}", program, chain.table, chain.name, rule.position,
                       text);
  }

  // A byte of the mark that no rule writes a value into.
  [[nodiscard]] std::uint32_t free_field() const {
    constexpr std::array<std::uint32_t, 4> kBytes{0xff000000, 0x00ff0000, 0x0000ff00, 0x000000ff};
    std::uint32_t used = 0;
    for (const auto& [chain, rule] : writers_) {
      for (const MarkWrite& write : rule->marks) {
        used |= write.value & write.bits;
      }
    }
    const auto* free =
        std::ranges::find_if(kBytes, [&](std::uint32_t byte) { return (byte & used) == 0; });
    return free == kBytes.end() ? kBytes.back() : *free;
  }

  const Config& config_;
  std::uint32_t field_;
  std::set<std::pair<const Chain*, const Rule*>> writers_;
  std::uint32_t kept_ = 0;  // of our bits, those that connections may carry
};

}  // namespace

void judge_marks(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (facts.ruleset) {
    MarkJudge(config, facts).judge(findings);
  }
}

}  // namespace postern::gateway::doctor
