#include "nfq/firewall_check.hpp"

#include <fmt/core.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "nfq/command.hpp"

namespace postern::nfq {
namespace {

constexpr int kMaxTries = 5;
constexpr std::array kPrograms{"iptables", "ip6tables"};

std::vector<std::string> with_prefix(const std::string& prefix, std::vector<std::string> lines) {
  for (std::string& line : lines) {
    line.insert(0, prefix);
  }
  return lines;
}

// iptables names itself "v1.8.9 (nf_tables)" or "(legacy)"; before 1.8 there was the latter only.
bool xtables_are_nftables() {
  const auto version = run_command({kPrograms[0], "--version"});
  return version && version->find("nf_tables") != std::string::npos;
}

}  // namespace

XtablesStep parse_xtables_step(std::string_view listing) {
  const std::string chain = kXtablesChain;
  const std::string rule = "-A " + chain + " ";
  XtablesStep step;
  std::istringstream lines{std::string(listing)};
  for (std::string line; std::getline(lines, line);) {
    if (line == "-N " + chain) {
      step.has_chain = true;
    } else if (line == "-A PREROUTING -j " + chain) {
      step.has_jump = true;
    } else if (line.starts_with(rule)) {
      step.rules.push_back(line.substr(rule.size()));
    }
  }
  return step;
}

std::vector<std::string> describe_changes(const XtablesStep& before, const XtablesStep& now) {
  if (before.has_chain && !now.has_chain) {
    return {fmt::format("chain {} is gone", kXtablesChain)};
  }
  std::vector<std::string> changes;
  if (before.has_jump && !now.has_jump) {
    changes.push_back(fmt::format("the jump from PREROUTING to chain {} is gone", kXtablesChain));
  }
  if (before.rules != now.rules) {
    changes.push_back(fmt::format("chain {}: its rules are others", kXtablesChain));
  }
  return changes;
}

FirewallCheck::FirewallCheck(QueueForm form)
    : form_(form),
      changes_are_told_(form == QueueForm::nft || xtables_are_nftables()),
      netfilter_(NETLINK_NETFILTER) {}

FirewallCheck::Result FirewallCheck::put_table(const Transaction& transaction) {
  for (int i = 0; i < kMaxTries; ++i) {
    const auto before = read_generation(netfilter_);
    if (!before) {
      return std::unexpected(before.error());
    }
    if (const Result done = transaction(*before == looked_at_); !done) {
      return done;
    }
    auto now = read_table(netfilter_, NFPROTO_INET, kTableName);
    if (!now) {
      return std::unexpected(now.error());
    }
    // Where others change tables all the time, the last look has to do, if there is a table at all.
    const bool is_ours_alone = now->generation == *before + 1;
    if (now->exists && (is_ours_alone || i + 1 == kMaxTries)) {
      looked_at_ = now->generation;
      table_ = std::move(*now);
      return {};
    }
  }
  return std::unexpected("another program takes the table away as soon as it is there");
}

FirewallCheck::Result FirewallCheck::put_queue_step(const Steps& steps) {
  if (const Result done = steps(); !done) {
    return done;
  }
  if (form_ == QueueForm::nft) {
    return {};
  }
  auto now = read_queue_step();
  if (!now) {
    return std::unexpected(now.error());
  }
  const bool is_whole = std::ranges::all_of(
      *now, [](const XtablesStep& step) { return step.has_jump && !step.rules.empty(); });
  if (!is_whole) {
    return std::unexpected("another program takes the queue step away as soon as it is there");
  }
  queue_step_ = std::move(*now);
  return {};
}

FirewallChanges FirewallCheck::look(QueueStep queue_step) {
  FirewallChanges changes;
  if (const auto now = read_table(netfilter_, NFPROTO_INET, kTableName)) {
    changes.table = describe_changes(table_, *now);
    looked_at_ = now->generation;
  } else {
    changes.table = {now.error()};
  }
  if (form_ == QueueForm::nft || queue_step == QueueStep::skip) {
    return changes;
  }
  const auto now = read_queue_step();
  if (!now) {
    changes.queue_step = {now.error()};
    return changes;
  }
  for (std::size_t i = 0; i < kPrograms.size(); ++i) {
    const auto lines =
        with_prefix(fmt::format("{}: ", kPrograms[i]), describe_changes(queue_step_[i], (*now)[i]));
    changes.queue_step.insert(changes.queue_step.end(), lines.begin(), lines.end());
  }
  return changes;
}

bool FirewallCheck::is_stale() {
  const auto now = read_generation(netfilter_);
  return !now || *now != looked_at_;
}

std::expected<std::array<XtablesStep, 2>, std::string> FirewallCheck::read_queue_step() const {
  std::array<XtablesStep, 2> steps;
  for (std::size_t i = 0; i < kPrograms.size(); ++i) {
    const auto listing = run_command({kPrograms[i], "-w", "5", "-t", "mangle", "-S"});
    if (!listing) {
      return std::unexpected(listing.error());
    }
    steps[i] = parse_xtables_step(*listing);
  }
  return steps;
}

}  // namespace postern::nfq
