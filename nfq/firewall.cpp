#include "nfq/firewall.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "nfq/command.hpp"

namespace postern::nfq {
namespace {

using Result = std::expected<void, std::string>;

struct XtablesFamily {
  const char* program;
  const char* nft_name;
};
constexpr std::array kXtablesFamilies{XtablesFamily{"iptables", "ip"},
                                      XtablesFamily{"ip6tables", "ip6"}};
constexpr int kMaxDoubledJumps = 16;

Result apply(std::string_view ruleset) {
  const auto applied = run_command({"nft", "-f", "-"}, ruleset);
  return applied ? Result() : std::unexpected(applied.error());
}

// In doubt it is.
bool table_is_there() {
  const auto listing = run_command({"nft", "list", "tables", "inet"});
  return !listing || listing->contains("table inet postern\n");
}

// A check goes through the kernel like a change and is rolled back, modules and all: it fails where
// the change would. Where an empty table fails, too, that says nothing of the queue statement.
QueueForm find_queue_form() {
  const std::string table = fmt::format("postern_probe_{}", ::getpid());
  const auto check = [](std::string_view ruleset) {
    return run_command({"nft", "-c", "-f", "-"}, ruleset);
  };
  if (const auto empty = check(fmt::format("table inet {} {{ }}\n", table)); !empty) {
    throw std::runtime_error("cannot install the firewall: " + empty.error());
  }
  return check(probe_ruleset(table)) ? QueueForm::nft : QueueForm::xtables;
}

// -w: another program may hold the lock of xtables for a moment.
std::expected<std::string, std::string> mangle(const std::string& program,
                                               std::vector<std::string> arguments) {
  std::vector<std::string> command{program, "-w", "5", "-t", "mangle"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_command(command);
}

Result install_xtables(const std::string& program, const Settings& settings) {
  const auto filled =
      run_command({program + "-restore", "-w", "5", "--noflush"}, xtables_queue_ruleset(settings));
  if (!filled) {
    return std::unexpected(filled.error());
  }
  if (mangle(program, {"-C", "PREROUTING", "-j", kXtablesChain})) {
    return {};  // left by a crash
  }
  const auto jump = mangle(program, {"-I", "PREROUTING", "-j", kXtablesChain});
  return jump ? Result() : std::unexpected(jump.error());
}

Result remove_xtables(const std::string& program) {
  if (!mangle(program, {"-S", kXtablesChain})) {
    return {};  // no such chain, so no jump to it
  }
  for (int i = 0; i < kMaxDoubledJumps; ++i) {
    if (!mangle(program, {"-D", "PREROUTING", "-j", kXtablesChain})) {
      break;
    }
  }
  for (const char* step : {"-F", "-X"}) {
    if (const auto done = mangle(program, {step, kXtablesChain}); !done) {
      return std::unexpected(done.error());
    }
  }
  return {};
}

Result for_each_family(const auto& step) {
  for (const XtablesFamily& family : kXtablesFamilies) {
    if (const Result done = step(family.program); !done) {
      return done;
    }
  }
  return {};
}

std::expected<std::string, std::string> list_mangle(const XtablesFamily& family) {
  return run_command({"nft", "list", "table", family.nft_name, "mangle"});
}

// iptables over nftables makes its table at the first use and never takes it away.
void remove_mangle_if_empty(const XtablesFamily& family) {
  const auto listing = list_mangle(family);
  if (listing && has_no_rules(*listing)) {
    [[maybe_unused]] const auto removed =
        run_command({"nft", "delete", "table", family.nft_name, "mangle"});
  }
}

}  // namespace

Firewall::Firewall(const Settings& settings) : Firewall(settings, find_queue_form()) {}

Firewall::~Firewall() {
  if (installed_) {
    [[maybe_unused]] const auto removed = remove();
  }
}

void Firewall::install(const rules::Policy& policy) {
  const bool was_shut = table_is_there();
  installed_ = true;
  if (form_ == QueueForm::xtables) {
    for (std::size_t i = 0; i < kXtablesFamilies.size(); ++i) {
      mangle_is_ours_[i] = !list_mangle(kXtablesFamilies[i]);
    }
  }
  if (const Result done = put(policy); !done) {
    if (was_shut) {
      leave();  // a crash left it, and without it everything passes
    } else {
      [[maybe_unused]] const auto removed = remove();
    }
    throw std::runtime_error("cannot install the firewall: " + done.error());
  }
}

std::expected<void, std::string> Firewall::put_queue_step() {
  return form_ == QueueForm::nft ? Result() : check_.put_queue_step([&] {
    return for_each_family(
        [&](const char* program) { return install_xtables(program, settings_); });
  });
}

std::expected<void, std::string> Firewall::put_text(std::string_view ruleset,
                                                    SetElements elements) {
  Result done = apply(ruleset);
  if (done) {
    elements_ = std::move(elements);
  }
  return done;
}

std::expected<void, std::string> Firewall::put_table(const rules::Policy& policy) {
  ++times_emptied_;
  return check_.put_table([&](bool) {
    return put_text(install_ruleset(policy, settings_, form_), set_elements(policy));
  });
}

// The queue step first: while nothing is marked it matches nothing, and a table without it would judge
// nothing.
std::expected<void, std::string> Firewall::put(const rules::Policy& policy) {
  const Result done = put_queue_step();
  return done ? put_table(policy) : done;
}

std::expected<void, std::string> Firewall::restore(const rules::Policy& policy,
                                                   const FirewallChanges& changes) {
  const Result queue_step = changes.queue_step.empty() ? Result() : put_queue_step();
  const Result table = changes.table.empty() ? Result() : put_table(policy);
  return table ? queue_step : table;
}

std::expected<void, std::string> Firewall::update(const rules::Policy& policy) {
  // What somebody else has changed meanwhile must not be taken for ours.
  if (!check_.look(FirewallCheck::QueueStep::skip).table.empty()) {
    return put_table(policy);
  }
  return check_.put_table([&](bool is_as_looked_at) {
    return put_text(
        update_ruleset(is_as_looked_at ? elements_ : std::nullopt, policy, settings_, form_),
        set_elements(policy));
  });
}

std::expected<void, std::string> Firewall::hold(std::span<const HeldSource> sources) {
  Result all;
  for (const std::string& ruleset : hold_rulesets(sources)) {
    if (Result done = apply(ruleset); !done) {
      all = std::move(done);
    }
  }
  return all;
}

std::expected<void, std::string> Firewall::remove() {
  installed_ = false;
  const Result table = apply(remove_ruleset());
  Result queue;
  if (form_ == QueueForm::xtables) {
    queue = for_each_family([](const char* program) { return remove_xtables(program); });
    for (std::size_t i = 0; i < kXtablesFamilies.size(); ++i) {
      if (std::exchange(mangle_is_ours_[i], false)) {
        remove_mangle_if_empty(kXtablesFamilies[i]);
      }
    }
  }
  return table ? queue : table;
}

std::expected<std::vector<KernelCounter>, std::string> kernel_counters() {
  const auto listing = run_command({"nft", "list", "counters", "table", "inet", "postern"});
  if (!listing) {
    return std::unexpected(listing.error());
  }
  return parse_counters(*listing);
}

bool has_no_rules(std::string_view listing) {
  std::istringstream lines{std::string(listing)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = line.find_first_not_of(" \t");
    const std::string_view text =
        start == std::string::npos ? std::string_view{} : std::string_view(line).substr(start);
    const bool is_frame = text.empty() || text == "}" || text.starts_with("table ") ||
                          text.starts_with("chain ") || text.starts_with('#') ||
                          (text.starts_with("type ") && text.ends_with("policy accept;"));
    if (!is_frame) {
      return false;
    }
  }
  return true;
}

std::vector<KernelCounter> parse_counters(std::string_view listing) {
  std::vector<KernelCounter> counters;
  std::istringstream words{std::string(listing)};
  for (std::string word; words >> word;) {
    if (word == "counter") {
      words >> counters.emplace_back().name;
    } else if (word == "packets" && !counters.empty()) {
      words >> counters.back().packets;
    } else if (word == "bytes" && !counters.empty()) {
      words >> counters.back().bytes;
    }
  }
  return counters;
}

}  // namespace postern::nfq
