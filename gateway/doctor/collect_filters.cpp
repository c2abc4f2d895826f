// What nft and iptables say of their rules, and what the kernel can of what Postern's need.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "gateway/doctor/collect.hpp"
#include "gateway/doctor/iptables_reader.hpp"
#include "gateway/doctor/nft_reader.hpp"
#include "gateway/doctor/proc_files.hpp"
#include "nfq/command.hpp"
#include "nfq/core/ruleset.hpp"

namespace postern::gateway::doctor {
namespace {

struct SavedBy {
  const char* program;
  bool is_v4;
  Chain::Owner owner;
  const char* tables;  // what the kernel lists them in; nullptr: always asked
};
// The older iptables is only asked where its tables are there: asking would make them.
constexpr std::array kSavedBy{SavedBy{"iptables-nft-save", true, Chain::Owner::iptables, nullptr},
                              SavedBy{"ip6tables-nft-save", false, Chain::Owner::iptables, nullptr},
                              SavedBy{"iptables-legacy-save", true, Chain::Owner::iptables_legacy,
                                      "/proc/thread-self/net/ip_tables_names"},
                              SavedBy{"ip6tables-legacy-save", false, Chain::Owner::iptables_legacy,
                                      "/proc/thread-self/net/ip6_tables_names"}};

bool is_installed(const std::string& program) {
  return ::access(("/usr/sbin/" + program).c_str(), X_OK) == 0 ||
         ::access(("/sbin/" + program).c_str(), X_OK) == 0;
}

bool is_same(const Chain& listed, const Chain& saved) {
  return listed.owner == Chain::Owner::nft && saved.owner == Chain::Owner::iptables &&
         listed.family == saved.family && listed.table == saved.table && listed.name == saved.name;
}

// iptables over nftables keeps its chains where nft lists them, too, in words of its own. A chain
// that others made in a table of that name hangs on a hook that iptables does not know of.
void replace_chains(Ruleset& ruleset, std::vector<Chain> saved) {
  for (Chain& chain : saved) {
    const auto listed = std::ranges::find_if(
        ruleset.chains, [&](const Chain& other) { return is_same(other, chain); });
    if (listed == ruleset.chains.end()) {
      ruleset.chains.push_back(std::move(chain));
    } else if (listed->hook == chain.hook) {
      *listed = std::move(chain);
    }
  }
}

void collect_iptables(Facts& facts) {
  for (const SavedBy& by : kSavedBy) {
    if (!is_installed(by.program)) {
      continue;
    }
    if (by.tables != nullptr && read_text(by.tables).value_or("").empty()) {
      continue;
    }
    const auto saved = nfq::run_command({by.program});
    if (saved) {
      replace_chains(*facts.ruleset, read_iptables(*saved, by.is_v4, by.owner));
    } else {
      facts.unknown.push_back({"the rules of iptables", saved.error()});
    }
  }
}

void collect_rules(Facts& facts) {
  const auto document = nfq::run_command({"nft", "-j", "list", "ruleset"});
  const auto listing = nfq::run_command({"nft", "-a", "list", "ruleset"});
  if (!document || !listing) {
    facts.unknown.push_back(
        {"the rules of nft and iptables", document ? listing.error() : document.error()});
    return;
  }
  auto ruleset = read_nft(*document, *listing);
  if (!ruleset) {
    facts.unknown.push_back({"the rules of nft", ruleset.error()});
    return;
  }
  facts.ruleset = std::move(*ruleset);
  facts.has_our_table = listing->contains("table inet postern {");
  collect_iptables(facts);
}

struct Probe {
  const char* name;
  const char* module;
  const char* rule;
};
constexpr std::array kProbes{
    Probe{"tproxy statement in nftables", "nft_tproxy", "tcp dport 25 tproxy ip to 127.0.0.1:25"},
    Probe{"socket expression in nftables", "nft_socket", "socket transparent 1"},
    Probe{"fib expression in nftables", "nft_fib_inet", "fib daddr type local"},
    Probe{"limit statement in nftables", "nft_limit", "limit rate 1/second"},
};

std::expected<std::string, std::string> check_by_nft(const std::string& ruleset) {
  return nfq::run_command({"nft", "-c", "-f", "-"}, ruleset);
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Which of them it is that the kernel lacks.
void find_missing(const std::string& error, Facts& facts) {
  const std::size_t before = facts.missing_features.size();
  for (const Probe& probe : kProbes) {
    const auto checked = check_by_nft(fmt::format(
        "table inet postern_probe_{} {{ chain c {{ type filter hook prerouting priority mangle; "
        "{}; }}; }}\n",
        ::getpid(), probe.rule));
    if (!checked) {
      facts.missing_features.push_back(
          {probe.name, fmt::format("modprobe {}", probe.module), first_line(checked.error())});
    }
  }
  if (facts.missing_features.size() == before) {
    facts.missing_features.push_back({"place for Postern's rules in nftables", "", error});
  }
}

// Without nft's queue statement the target NFQUEUE of iptables does.
nfq::QueueForm collect_queue_form(const Config& config, Facts& facts) {
  if (check_by_nft(nfq::probe_ruleset(fmt::format("postern_probe_{}", ::getpid())))) {
    return nfq::QueueForm::nft;
  }
  for (const char* program : {"iptables-restore", "ip6tables-restore"}) {
    const auto checked = nfq::run_command({program, "--test", "--noflush"},
                                          nfq::xtables_queue_ruleset(config.datapath));
    if (!checked) {
      facts.missing_features.push_back({"queue statement in nftables, nor iptables' NFQUEUE",
                                        "modprobe nft_queue || modprobe xt_NFQUEUE",
                                        first_line(checked.error())});
      break;
    }
  }
  return nfq::QueueForm::xtables;
}

void collect_features(const Config& config, Facts& facts) {
  const nfq::QueueForm form = collect_queue_form(config, facts);
  const auto checked = check_by_nft(nfq::install_ruleset(*config.policy, config.datapath, form));
  if (!checked) {
    find_missing(checked.error(), facts);
  }
  if (!std::filesystem::exists("/proc/thread-self/net/netfilter/nfnetlink_queue") &&
      !nfq::run_command({"modprobe", "--dry-run", "--quiet", "nfnetlink_queue"})) {
    facts.missing_features.push_back({"netfilter queue for programs", "modprobe nfnetlink_queue",
                                      "the kernel has no nfnetlink_queue"});
  }
}

}  // namespace

void collect_filters(const Config& config, Facts& facts) {
  if (::geteuid() != 0) {
    facts.unknown.push_back(
        {"the rules of nft and iptables, and what the kernel can", "only root may look at them"});
    return;
  }
  collect_rules(facts);
  collect_features(config, facts);
}

}  // namespace postern::gateway::doctor
