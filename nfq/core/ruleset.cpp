#include "nfq/core/ruleset.hpp"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nfq/core/mark.hpp"
#include "nfq/core/ruleset_text.hpp"
#include "rules/stranger.hpp"

namespace postern::nfq {
namespace {

using namespace ruleset_text;

void replace_all(std::string& text, std::string_view name, std::string_view value) {
  for (std::size_t at = text.find(name); at != std::string::npos;
       at = text.find(name, at + value.size())) {
    text.replace(at, name.size(), value);
  }
}

constexpr std::string_view kDigits = "0123456789abcdef";

std::string hex(std::uint32_t value) {
  std::string text = "0x00000000";
  for (auto digit = text.rbegin(); value != 0; ++digit, value >>= 4U) {
    *digit = kDigits[value & 0x0fU];
  }
  return text;
}

std::string last_queue(const Settings& settings) {
  return std::to_string(settings.queue_base + settings.queue_count - 1);
}

// With `bypass` a queue nobody listens on hands packets on as they are, still PENDING, and the chain
// `undecided` counts them, whatever it does with them. Without it the kernel drops them uncounted.
std::string queue_statement(const Settings& settings) {
  const bool several = settings.queue_count > 1;
  std::string text = several ? "flags bypass,fanout to " : "flags bypass to ";
  text += std::to_string(settings.queue_base);
  if (several) {
    text += "-" + last_queue(settings);
  }
  return text;
}

std::string xtables_queue_arguments(const Settings& settings) {
  std::string text = settings.queue_count > 1 ? "--queue-balance " : "--queue-num ";
  text += std::to_string(settings.queue_base);
  if (settings.queue_count > 1) {
    text += ":" + last_queue(settings);
  }
  return text + " --queue-bypass";
}

using Substitutions = std::vector<std::pair<std::string_view, std::string>>;

void fill_in(std::string& text, const Substitutions& substitutions) {
  for (const auto& [name, value] : substitutions) {
    replace_all(text, name, value);
  }
}

Substitutions mark_values(const Settings& settings) {
  const MarkField field(settings.mark_mask);
  return {{"@FIELD@", hex(field.mask())},
          {"@FOREIGN@", hex(field.foreign_bits())},
          {"@PENDING_EXTERNAL@", hex(field.value_of(Mark::pending_external))},
          {"@PENDING_INTERNAL@", hex(field.value_of(Mark::pending_internal))},
          {"@DIVERT_EXTERNAL@", hex(field.value_of(Mark::divert_external))},
          {"@DIVERT_INTERNAL@", hex(field.value_of(Mark::divert_internal))},
          {"@PASS@", hex(field.value_of(Mark::pass))},
          {"@REJECT@", hex(field.value_of(Mark::reject))},
          {"@OWNED@", hex(field.value_of(Mark::owned))}};
}

// Under Policy::observe the kernel refuses as little by itself as the packet policy does.
constexpr std::string_view kLetPass =
    "counter name observed meta mark set meta mark & $FOREIGN | $PASS accept";

// In this order: what comes first may hold the names of what comes later.
Substitutions policy_values(const rules::Policy& policy) {
  const bool counts_translated = policy.translated_source == rules::Tolerance::count;
  const bool counts_senders = policy.unmanaged_sender == rules::Tolerance::count;
  return {{"@TRANSLATED@", std::string(counts_translated ? "" : kTranslatedRefused)},
          {"@UNMANAGED_SENDER@", std::string(counts_senders ? kSenderCounted : kSenderRefused)},
          {"@COOKIES@", std::string(policy.observe ? "" : kCookies)},
          {"@OWN_PORT@", std::string(policy.observe ? "" : kOwnPortClosed)},
          {"@DROP@", std::string(policy.observe ? kLetPass : "drop")},
          {"@REFUSE@", std::string(policy.observe ? kLetPass : "reject with tcp reset")},
          {"@PURPOSE@", std::string(policy.observe ? kPurposeOfObserving : kPurpose)}};
}

std::string rate_text(const Rate& rate) {
  return std::to_string(rate.packets) + (rate.per == Rate::Per::second ? "/second" : "/hour") +
         " burst " + std::to_string(rate.burst) + " packets";
}

Substitutions rate_values(const Rates& rates) {
  return {{"@STRANGER_RATE@", rate_text(rates.strangers)},
          {"@INSIDE_SOURCE_RATE@", rate_text(rates.of_one_inside)},
          {"@INSIDE_RATE@", rate_text(rates.inside)},
          {"@MAILER_RATE@", rate_text(rates.mailers)}};
}

Substitutions settings_values(const Settings& settings) {
  return {{"@QUEUE@", queue_statement(settings)},
          {"@EXTERNAL_PORT@", std::to_string(settings.proxy_ports[0])},
          {"@INTERNAL_PORT@", std::to_string(settings.proxy_ports[1])}};
}

// What becomes of flows that nobody judged, or that went past the proxy.
std::string undecided_and_guard(const rules::Policy& policy, const Settings& settings) {
  if (policy.observe) {
    return std::string(kUndecidedObserve) + std::string(kGuardObserve);
  }
  const bool open = settings.on_failure == OnFailure::open;
  std::string text(open ? kUndecidedOpen : kUndecidedClosed);
  text += kGuardHead;
  text += open ? kGuardOpen : "";
  text += kGuardTail;
  return text;
}

std::string table_text(std::string_view begin, const SetElements& elements,
                       const rules::Policy& policy, const Settings& settings, QueueForm form) {
  std::string text;
  text += kHead;
  text += kClassify;
  text += form == QueueForm::nft ? kQueueByNft : kQueueByXtables;
  text += kDivert;
  text += undecided_and_guard(policy, settings);
  text += kTail;
  fill_in(text, {{"@BEGIN@", std::string(begin)}});
  fill_in(text, policy_values(policy));
  fill_in(text, rate_values(settings.rates));
  fill_in(text, mark_values(settings));
  fill_in(text, settings_values(settings));
  for (const auto& [set, in_set] : elements) {
    replace_all(text, "@ELEMENTS_" + set + "@", elements_line(in_set));
  }
  return text;
}

// To add what is there changes nothing, to delete what is not there fails.
constexpr std::string_view kHoldAnew = R"(add element inet postern @SET@ { @SOURCE@ }
delete element inet postern @SET@ { @SOURCE@ }
add element inet postern @SET@ { @SOURCE@ timeout @SECONDS@s }
)";

struct SetNames {
  const char* v4;
  const char* v6;
};

SetNames names_of(HeldFor cause) {
  return cause == HeldFor::guessing ? SetNames{"barred4", "barred6"}
                                    : SetNames{"repeat_offenders4", "repeat_offenders6"};
}

}  // namespace

std::string install_ruleset(const rules::Policy& policy, const Settings& settings, QueueForm form) {
  return table_text(kReplace, set_elements(policy), policy, settings, form);
}

std::string update_ruleset(const std::optional<SetElements>& before, const rules::Policy& policy,
                           const Settings& settings, QueueForm form) {
  SetElements elements = set_elements(policy);
  const std::string in_the_sets = set_changes(before, elements);
  for (auto& [set, in_set] : elements) {
    in_set.clear();
  }
  std::string text = table_text(kExchange, elements, policy, settings, form);
  replace_all(text, "@CHANGES@", in_the_sets);
  return text;
}

std::vector<std::string> hold_rulesets(std::span<const HeldSource> sources) {
  std::map<std::string, std::string> by_set;
  for (const HeldSource& held : sources) {
    const SetNames names = names_of(held.cause);
    const std::string set = held.source.is_v4() ? names.v4 : names.v6;
    const std::string source = rules::stranger_of(held.source).to_string();
    std::string lines(kHoldAnew);
    fill_in(lines, {{"@SET@", set},
                    {"@SOURCE@", source},
                    {"@SECONDS@", std::to_string(held.duration.count())}});
    by_set[set] += lines;
  }
  std::vector<std::string> texts;
  texts.reserve(by_set.size());
  for (auto& [set, text] : by_set) {
    texts.push_back(std::move(text));
  }
  return texts;
}

std::string remove_ruleset() {
  return "add table inet postern\ndelete table inet postern\n";
}

std::string probe_ruleset(std::string_view table) {
  return "table inet " + std::string(table) +
         " {\n\tchain judge {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n"
         "\t\tmeta mark 0xffffffff queue flags bypass,fanout to 65534-65535\n\t}\n}\n";
}

std::string xtables_queue_ruleset(const Settings& settings) {
  std::string text(kXtables);
  fill_in(text, mark_values(settings));
  fill_in(text, {{"@QUEUE@", xtables_queue_arguments(settings)}});
  return text;
}

}  // namespace postern::nfq
