#include "gateway/doctor/nft_condition.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "gateway/doctor/nft_json.hpp"

namespace postern::gateway::doctor {
namespace {

namespace json = boost::json;

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

}  // namespace

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

std::string full_name(const json::value& of, std::string_view name) {
  return fmt::format("{} {} {}", text_at(of, "family"), text_at(of, "table"), name);
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

}  // namespace postern::gateway::doctor
