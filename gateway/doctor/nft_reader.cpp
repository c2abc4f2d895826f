#include "gateway/doctor/nft_reader.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <sstream>
#include <utility>

#include "nfq/core/settings.hpp"
#include "nfq/owned_guard.hpp"

namespace postern::gateway::doctor {
namespace {

namespace json = boost::json;

const json::value* at(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains(name);
}

std::string text_of(const json::value* value) {
  if (value == nullptr) {
    return {};
  }
  if (const auto* text = value->if_string()) {
    return {text->begin(), text->end()};
  }
  return json::serialize(*value);
}

std::string text_at(const json::value& value, std::string_view name) {
  return text_of(at(value, name));
}

std::optional<std::uint32_t> number_of(const json::value& value) {
  json::error_code error;
  const auto number = value.to_number<std::int64_t>(error);
  if (error || number < 0 || number > std::numeric_limits<std::uint32_t>::max()) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(number);
}

// By "family table name".
using Sets = std::map<std::string, std::vector<json::value>>;

std::string full_name(const json::value& of, std::string_view name) {
  return fmt::format("{} {} {}", text_at(of, "family"), text_at(of, "table"), name);
}

// One scalar, a list, the elements of a set, of an unnamed or a named one.
class Values {
 public:
  Values(const json::value& right, const Sets& sets, const json::value& rule) {
    if (const json::value* set = at(right, "set")) {
      add_all(*set);
    } else if (const auto* name = right.if_string(); name != nullptr && name->starts_with('@')) {
      const auto found = sets.find(full_name(rule, std::string_view(*name).substr(1)));
      if (found == sets.end()) {
        understood_ = false;
      } else {
        values_ = found->second;
      }
    } else {
      add_all(right);
    }
    for (json::value& value : values_) {
      if (const json::value* element = at(value, "elem")) {
        const json::value* inner = at(*element, "val");
        value = json::value(inner == nullptr ? json::value() : *inner);
      }
    }
  }

  [[nodiscard]] bool understood() const { return understood_; }
  [[nodiscard]] const std::vector<json::value>& list() const { return values_; }

 private:
  void add_all(const json::value& value) {
    if (const json::array* array = value.if_array()) {
      values_.assign(array->begin(), array->end());
    } else {
      values_.push_back(value);
    }
  }

  std::vector<json::value> values_;
  bool understood_ = true;
};

std::optional<AddressRange> addresses_of(const json::value& value) {
  if (const json::value* prefix = at(value, "prefix")) {
    const auto parsed = rules::Prefix::parse(
        fmt::format("{}/{}", text_at(*prefix, "addr"), text_at(*prefix, "len")));
    if (!parsed) {
      return std::nullopt;
    }
    return AddressRange{parsed->address(), last_address(*parsed)};
  }
  if (const json::value* range = at(value, "range");
      range != nullptr && range->is_array() && range->as_array().size() == 2) {
    const auto first = rules::IpAddress::parse(text_of(&range->as_array()[0]));
    const auto last = rules::IpAddress::parse(text_of(&range->as_array()[1]));
    return first && last ? std::optional(AddressRange{*first, *last}) : std::nullopt;
  }
  const auto address = rules::IpAddress::parse(text_of(&value));
  return address ? std::optional(AddressRange{*address, *address}) : std::nullopt;
}

std::optional<PortRange> ports_of(const json::value& value) {
  const auto port = [](const json::value& number) {
    const auto read = number_of(number);
    return read && *read <= 0xffff ? std::optional(static_cast<std::uint16_t>(*read))
                                   : std::nullopt;
  };
  if (const json::value* range = at(value, "range");
      range != nullptr && range->is_array() && range->as_array().size() == 2) {
    const auto first = port(range->as_array()[0]);
    const auto last = port(range->as_array()[1]);
    return first && last ? std::optional(PortRange{*first, *last}) : std::nullopt;
  }
  const auto single = port(value);
  return single ? std::optional(PortRange{*single, *single}) : std::nullopt;
}

// What the left side of a comparison looks at, and which conditions it brings along: `tcp dport`
// holds for TCP only.
struct Left {
  Subject subject = Subject::unknown;
  std::uint32_t mask = 0xffffffff;
  std::vector<Condition> implied{};
};

Condition named(Subject subject, std::string name) {
  return {.subject = subject, .names = {std::move(name)}};
}

Left left_of_payload(const json::value& payload) {
  const std::string protocol = text_at(payload, "protocol");
  const std::string field = text_at(payload, "field");
  if (protocol == "ip" || protocol == "ip6") {
    const std::vector<Condition> family{named(Subject::family, protocol == "ip" ? "ipv4" : "ipv6")};
    const Subject subject = field == "saddr"                            ? Subject::source
                            : field == "daddr"                          ? Subject::destination
                            : field == "protocol" || field == "nexthdr" ? Subject::protocol
                                                                        : Subject::unknown;
    return {.subject = subject, .implied = family};
  }
  const Subject subject = field == "sport"   ? Subject::source_port
                          : field == "dport" ? Subject::destination_port
                                             : Subject::unknown;
  if (protocol == "th") {
    return {.subject = subject};
  }
  return {.subject = subject, .implied = {named(Subject::protocol, protocol)}};
}

Subject subject_of_meta(std::string_view key) {
  constexpr std::array<std::pair<std::string_view, Subject>, 7> kSubjects{
      {{"iif", Subject::input_interface},
       {"iifname", Subject::input_interface},
       {"oif", Subject::output_interface},
       {"oifname", Subject::output_interface},
       {"nfproto", Subject::family},
       {"l4proto", Subject::protocol},
       {"mark", Subject::mark}}};
  for (const auto& [name, subject] : kSubjects) {
    if (name == key) {
      return subject;
    }
  }
  return Subject::unknown;
}

Left left_of(const json::value& left) {
  if (const json::value* payload = at(left, "payload")) {
    return left_of_payload(*payload);
  }
  if (const json::value* meta = at(left, "meta")) {
    return {.subject = subject_of_meta(text_at(*meta, "key"))};
  }
  if (const json::value* ct = at(left, "ct"); ct != nullptr && text_at(*ct, "key") == "state") {
    return {.subject = Subject::connection_state};
  }
  if (const json::value* fib = at(left, "fib"); fib != nullptr &&
                                                text_at(*fib, "result") == "type" &&
                                                text_at(*fib, "flags") == R"(["daddr"])") {
    return {.subject = Subject::local_destination};
  }
  if (const json::value* both = at(left, "&");
      both != nullptr && both->is_array() && both->as_array().size() == 2) {
    Left masked = left_of(both->as_array()[0]);
    const auto mask = number_of(both->as_array()[1]);
    if (masked.subject == Subject::mark && mask) {
      masked.mask = *mask;
      return masked;
    }
    masked.subject = Subject::unknown;
    return masked;
  }
  return {};
}

// Whether it is about the packet that begins a connection: tcp flags & (fin|syn|rst|ack) == syn.
bool is_about_first_packet(const json::value& left, const json::value& right) {
  const json::value* both = at(left, "&");
  if (both == nullptr || !both->is_array() || both->as_array().size() != 2) {
    return false;
  }
  const json::value* payload = at(both->as_array()[0], "payload");
  const std::string mask = text_of(&both->as_array()[1]);
  return payload != nullptr && text_at(*payload, "field") == "flags" && mask.contains("syn") &&
         mask.contains("ack") && text_of(&right) == "syn";
}

template <typename Range>
bool append(std::vector<Range>& ranges, const std::optional<Range>& range) {
  if (range) {
    ranges.push_back(*range);
  }
  return range.has_value();
}

// A mask whose bits are the leading ones is printed as a prefix.
bool add_mark_value(Condition& condition, const json::value& value) {
  std::optional<std::uint32_t> number = number_of(value);
  if (const json::value* prefix = at(value, "prefix")) {
    const json::value* address = at(*prefix, "addr");
    const json::value* length = at(*prefix, "len");
    const std::uint32_t bits = length == nullptr ? 0 : number_of(*length).value_or(0);
    number = address == nullptr ? std::nullopt : number_of(*address);
    if (bits == 0 || bits > 32 || !condition.values.empty()) {
      return false;
    }
    condition.mask = 0xffffffffU << (32 - bits);
  }
  if (number) {
    condition.values.push_back(*number);
  }
  return number.has_value();
}

bool add_value(Condition& condition, const json::value& value) {
  switch (condition.subject) {
    case Subject::source:
    case Subject::destination:
      return append(condition.addresses, addresses_of(value));
    case Subject::source_port:
    case Subject::destination_port:
      return append(condition.ports, ports_of(value));
    case Subject::mark:
      return add_mark_value(condition, value);
    case Subject::local_destination:
      condition.negated = condition.negated != (text_of(&value) != "local");
      return true;
    case Subject::unknown:
    case Subject::first_packet:
      return false;
    case Subject::input_interface:
    case Subject::output_interface:
    case Subject::family:
    case Subject::protocol:
    case Subject::connection_state:
      condition.names.push_back(text_of(&value));
      return value.is_string();
  }
  return false;
}

void add_conditions(std::vector<Condition>& conditions, const json::value& left_side,
                    std::string_view operation, const json::value& right, const Sets& sets,
                    const json::value& rule) {
  Left left = left_of(left_side);
  std::ranges::move(left.implied, std::back_inserter(conditions));
  Condition condition{.subject = left.subject, .negated = operation == "!=", .mask = left.mask};
  const Values values(right, sets, rule);
  bool understood =
      values.understood() && (operation == "==" || operation == "!=" || operation == "in");
  if (is_about_first_packet(left_side, right)) {
    condition.subject = Subject::first_packet;
  } else {
    for (const json::value& value : values.list()) {
      understood = understood && add_value(condition, value);
    }
  }
  if (!understood) {
    condition.subject = Subject::unknown;
  }
  conditions.push_back(std::move(condition));
}

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
