// postern ruleset: text that `nft -f` reads; what nft cannot say stands in comments.
#include "nfq/core/ruleset.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <string_view>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/terminal.hpp"
#include "gateway/config.hpp"
#include "nfq/core/mark.hpp"

namespace postern::gateway::cli {
namespace {

std::string commented(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += fmt::format("#   {}\n", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string routing_text(const nfq::Settings& settings) {
  const nfq::MarkField field(settings.mark_mask);
  std::string commands;
  for (const std::string_view family : {"-4", "-6"}) {
    commands += fmt::format("ip {} rule add fwmark {:#010x}/{:#010x} lookup {}\n", family,
                            field.value_of(nfq::Mark::owned), field.mask(), settings.routing_table);
    commands += fmt::format("ip {} route add local default dev lo table {}\n", family,
                            settings.routing_table);
  }
  return "\n# Policy routing, which posternd sets too: packets marked OWNED reach its sockets.\n" +
         commented(commands);
}

std::string xtables_text(const nfq::Settings& settings) {
  return fmt::format(
             "\n# Where the kernel has no queue statement in nftables, chain `judge` is replaced "
             "by "
             "this, for iptables-restore\n# and ip6tables-restore, and a jump from PREROUTING to "
             "{} "
             "in table mangle:\n",
             nfq::kXtablesChain) +
         commented(nfq::xtables_queue_ruleset(settings));
}

}  // namespace

int run_ruleset(const RulesetOptions& options) {
  MailerIds ids;
  const auto config = load_config(options.config, ids, Certificates::leave);
  if (!config) {
    print_error(render(config.error(), Style::of(STDERR_FILENO)));
    return kUsage;
  }
  print(nfq::install_ruleset(*config->policy, config->datapath, nfq::QueueForm::nft) +
        routing_text(config->datapath) + xtables_text(config->datapath));
  return kFine;
}

}  // namespace postern::gateway::cli
