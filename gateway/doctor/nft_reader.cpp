#include "gateway/doctor/nft_reader.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <utility>

#include "gateway/doctor/nft_condition.hpp"
#include "gateway/doctor/nft_json.hpp"
#include "nfq/core/settings.hpp"
#include "nfq/owned_guard.hpp"

namespace postern::gateway::doctor {
namespace {

namespace json = boost::json;

bool is_mark_of(const json::value& value, std::string_view of) {
  const json::value* inner = at(value, of);
  return inner != nullptr && text_at(*inner, "key") == "mark";
}

// Bits of the result: known ones with their value, those that stay as they were, and the rest.
struct Bits {
  std::uint32_t value = 0;
  std::uint32_t kept = 0;
  std::uint32_t unknown = 0xffffffff;
};

Bits bits_of(const json::value& value, std::string_view own) {
  if (const auto number = number_of(value)) {
    return {.value = *number, .kept = 0, .unknown = 0};
  }
  if (is_mark_of(value, own)) {
    return {.value = 0, .kept = 0xffffffff, .unknown = 0};
  }
  for (const std::string_view operation : {"&", "|", "^"}) {
    const json::value* sides = at(value, operation);
    if (sides == nullptr || !sides->is_array() || sides->as_array().size() != 2) {
      continue;
    }
    Bits bits = bits_of(sides->as_array()[0], own);
    const auto number = number_of(sides->as_array()[1]);
    if (!number) {
      return {};
    }
    if (operation == "&") {
      return {bits.value & *number, bits.kept & *number, bits.unknown & *number};
    }
    if (operation == "|") {
      return {bits.value | *number, bits.kept & ~*number, bits.unknown & ~*number};
    }
    return {bits.value ^ (*number & ~bits.kept), bits.kept & ~*number,
            bits.unknown | (bits.kept & *number)};
  }
  return {};
}

void add_mark(Rule& rule, const json::value& mangle) {
  const json::value* key = at(mangle, "key");
  const json::value* value = at(mangle, "value");
  if (key == nullptr || value == nullptr) {
    return;
  }
  const bool is_packets = is_mark_of(*key, "meta");
  if (!is_packets && !is_mark_of(*key, "ct")) {
    return;
  }
  // What a connection keeps of the packet's mark is what its value holds of it.
  const Bits bits = bits_of(*value, "meta");
  if (is_packets) {
    rule.marks.push_back({.to = MarkWrite::To::packet,
                          .bits = ~bits.kept,
                          .value = bits.value,
                          .unknown = bits.unknown});
  } else {
    rule.marks.push_back({.to = MarkWrite::To::connection,
                          .bits = bits.kept | bits.value | bits.unknown,
                          .value = bits.value,
                          .unknown = bits.kept | bits.unknown});
  }
}

void set_queue(Rule& rule, const json::value& queue) {
  rule.verdict = Verdict::queue;
  if (const json::value* number = at(queue, "num")) {
    rule.queues = ports_of(*number);
  }
  rule.bypass = text_at(queue, "flags").contains("bypass");
}

void set_translation(Rule& rule, const json::value& translation) {
  rule.verdict = Verdict::translate_destination;
  const json::value* address = at(translation, "addr");
  rule.translated = address == nullptr ? std::nullopt : rules::IpAddress::parse(text_of(address));
}

// true: it was a verdict, or a statement that decides nothing.
bool add_statement(Rule& rule, std::string_view name, const json::value& value) {
  constexpr std::array<std::pair<std::string_view, Verdict>, 9> kVerdicts{
      {{"accept", Verdict::accept},
       {"drop", Verdict::drop},
       {"reject", Verdict::drop},
       {"return", Verdict::go_back},
       {"snat", Verdict::translate_source},
       {"masquerade", Verdict::translate_source},
       {"notrack", Verdict::notrack},
       {"flow", Verdict::offload},
       {"tproxy", Verdict::unknown}}};
  for (const auto& [word, verdict] : kVerdicts) {
    if (word == name) {
      rule.verdict = verdict;
      return true;
    }
  }
  if (name == "jump" || name == "goto") {
    rule.verdict = name == "jump" ? Verdict::jump : Verdict::go_to;
    rule.target = text_at(value, "target");
  } else if (name == "queue") {
    set_queue(rule, value);
  } else if (name == "dnat" || name == "redirect") {
    set_translation(rule, value);
  } else if (name == "mangle") {
    add_mark(rule, value);
  } else {
    return name == "counter" || name == "log" || name == "continue" || name == "set" ||
           name == "ct helper" || name == "comment";
  }
  return true;
}

// By place, the rule as nft writes it: of "\t\ttcp dport 22 accept # handle 7", what is in between.
using Texts = std::map<std::string, std::string>;

std::string place_of(std::string_view family, std::string_view table, std::string_view chain,
                     std::string_view handle) {
  return fmt::format("{} {} {} handle {}", family, table, chain, handle);
}

Texts texts_of(std::string_view listing) {
  Texts texts;
  std::istringstream lines{std::string(listing)};
  std::string family;
  std::string table;
  std::string chain;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    const std::size_t end = line.rfind(" # handle ");
    if (word == "table") {
      words >> family >> table;
    } else if (word == "chain") {
      words >> chain;
    } else if (end != std::string::npos) {
      const std::size_t start = line.find_first_not_of(" \t");
      texts[place_of(family, table, chain, line.substr(end + 10))] =
          line.substr(start, end - start);
    }
  }
  return texts;
}

class Reader {
 public:
  Reader(const Sets& sets, const Texts& texts) : sets_(sets), texts_(texts) {}

  // A verdict map makes as many rules as it has elements.
  [[nodiscard]] std::vector<Rule> rules_of(const json::value& source) const {
    Rule rule;
    rule.place = place_of(text_at(source, "family"), text_at(source, "table"),
                          text_at(source, "chain"), text_at(source, "handle"));
    rule.removal = "nft delete rule " + rule.place;
    const auto text = texts_.find(rule.place);
    rule.text = text == texts_.end() ? rule.place : text->second;
    const json::value* expressions = at(source, "expr");
    if (expressions == nullptr || !expressions->is_array()) {
      return {};
    }
    for (const json::value& expression : expressions->as_array()) {
      if (!expression.is_object() || expression.as_object().empty()) {
        continue;
      }
      const auto& [name, value] = *expression.as_object().begin();
      if (name == "vmap") {
        return rules_of_map(rule, source, value);
      }
      add_expression(rule, source, name, value);
    }
    return {rule};
  }

 private:
  void add_expression(Rule& rule, const json::value& source, std::string_view name,
                      const json::value& value) const {
    if (name == "match") {
      const json::value* left = at(value, "left");
      const json::value* right = at(value, "right");
      if (left != nullptr && right != nullptr) {
        add_conditions(rule.conditions, *left, text_at(value, "op"), *right, sets_, source);
        return;
      }
    } else if (name == "xt" && text_at(value, "type") == "target") {
      rule.verdict = Verdict::unknown;
      return;
    } else if (add_statement(rule, name, value)) {
      return;
    }
    rule.conditions.push_back({});
  }

  [[nodiscard]] std::vector<Rule> rules_of_map(const Rule& head, const json::value& source,
                                               const json::value& map) const {
    const json::value* key = at(map, "key");
    const json::value* data = at(map, "data");
    const json::value* elements = data == nullptr ? nullptr : at(*data, "set");
    Rule unknown = head;
    unknown.verdict = Verdict::unknown;
    if (key == nullptr || elements == nullptr || !elements->is_array()) {
      return {unknown};
    }
    std::vector<Rule> rules;
    for (const json::value& element : elements->as_array()) {
      const json::array* pair = element.if_array();
      if (pair == nullptr || pair->size() != 2 || !(*pair)[1].is_object() ||
          (*pair)[1].as_object().empty()) {
        return {unknown};
      }
      Rule rule = head;
      add_conditions(rule.conditions, *key, "==", (*pair)[0], sets_, source);
      const auto& [verdict, value] = *(*pair)[1].as_object().begin();
      if (!add_statement(rule, verdict, value)) {
        return {unknown};
      }
      rules.push_back(std::move(rule));
    }
    return rules;
  }

  const Sets& sets_;
  const Texts& texts_;
};

Chain chain_of(const json::value& source) {
  Chain chain{.family = text_at(source, "family"),
              .table = text_at(source, "table"),
              .name = text_at(source, "name"),
              .type = text_at(source, "type"),
              .hook = hook_of(text_at(source, "hook")),
              .drops_by_default = text_at(source, "policy") == "drop"};
  if (const json::value* priority = at(source, "prio"); priority != nullptr) {
    json::error_code error;
    chain.priority = priority->to_number<int>(error);
  }
  return chain;
}

Flowtable flowtable_of(const json::value& source) {
  Flowtable table{.name = fmt::format("{} {} {}", text_at(source, "family"),
                                      text_at(source, "table"), text_at(source, "name")),
                  .interfaces = {}};
  if (const json::value* devices = at(source, "dev"); devices != nullptr && devices->is_array()) {
    for (const json::value& device : devices->as_array()) {
      table.interfaces.push_back(text_of(&device));
    }
  } else if (devices != nullptr) {
    table.interfaces.push_back(text_of(devices));
  }
  return table;
}

bool is_ours(const json::value& object) {
  const std::string table = text_at(object, "table");
  return text_at(object, "family") == "inet" &&
         (table == nfq::kTableName || table == nfq::kOwnedGuardTable);
}

void add_rule(Ruleset& ruleset, const json::value& source, const Reader& reader) {
  for (Chain& chain : ruleset.chains) {
    if (chain.name == text_at(source, "chain") && chain.table == text_at(source, "table") &&
        chain.family == text_at(source, "family")) {
      std::ranges::move(reader.rules_of(source), std::back_inserter(chain.rules));
    }
  }
}

void add(Ruleset& ruleset, const json::value& item, const Reader& reader) {
  if (const json::value* chain = at(item, "chain"); chain != nullptr && !is_ours(*chain)) {
    ruleset.chains.push_back(chain_of(*chain));
  } else if (const json::value* rule = at(item, "rule"); rule != nullptr && !is_ours(*rule)) {
    add_rule(ruleset, *rule, reader);
  } else if (const json::value* table = at(item, "flowtable");
             table != nullptr && !is_ours(*table)) {
    ruleset.flowtables.push_back(flowtable_of(*table));
  }
}

void collect_set(Sets& sets, const json::value& set) {
  auto& elements = sets[full_name(set, text_at(set, "name"))];
  if (const json::value* list = at(set, "elem"); list != nullptr && list->is_array()) {
    elements.assign(list->as_array().begin(), list->as_array().end());
  }
}

}  // namespace

std::expected<Ruleset, std::string> read_nft(std::string_view text, std::string_view listing) {
  boost::system::error_code error;
  const json::value document = json::parse(text, error);
  const json::value* items = error ? nullptr : at(document, "nftables");
  if (items == nullptr || !items->is_array()) {
    return std::unexpected("what `nft -j list ruleset` printed is not understood");
  }
  Sets sets;
  for (const json::value& item : items->as_array()) {
    if (const json::value* set = at(item, "set")) {
      collect_set(sets, *set);
    }
  }
  const Texts texts = texts_of(listing);
  const Reader reader(sets, texts);
  Ruleset ruleset;
  for (const json::value& item : items->as_array()) {
    add(ruleset, item, reader);
  }
  return ruleset;
}

}  // namespace postern::gateway::doctor
