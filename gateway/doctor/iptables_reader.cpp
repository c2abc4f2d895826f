#include "gateway/doctor/iptables_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "nfq/core/ruleset.hpp"

namespace postern::gateway::doctor {
namespace {

// At spaces, but not inside double quotes.
std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  bool is_quoted = false;
  for (std::size_t i = 0; i <= line.size(); ++i) {
    const char c = i < line.size() ? line[i] : ' ';
    if (c == '\\' && is_quoted && i + 1 < line.size()) {
      word += line[++i];
    } else if (c == '"') {
      is_quoted = !is_quoted;
    } else if (c == ' ' && !is_quoted) {
      if (!word.empty()) {
        words.push_back(std::exchange(word, {}));
      }
    } else {
      word += c;
    }
  }
  return words;
}

std::vector<std::string> parts_of(std::string_view list, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(separator, at), list.size());
    parts.emplace_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::optional<std::uint32_t> number_of(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x")) {
    text.remove_prefix(2);
    base = 16;
  }
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

std::optional<PortRange> ports_of(std::string_view text) {
  const auto parts = parts_of(text, ':');
  const auto first = number_of(parts.front());
  const auto last = number_of(parts.back());
  if (!first || !last || *first > 0xffff || *last > 0xffff) {
    return std::nullopt;
  }
  return PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

// VALUE or VALUE/MASK
std::optional<std::pair<std::uint32_t, std::uint32_t>> masked(std::string_view text) {
  const auto parts = parts_of(text, '/');
  const auto value = number_of(parts.front());
  const auto mask = parts.size() > 1 ? number_of(parts[1]) : std::optional(0xffffffffU);
  return value && mask ? std::optional(std::pair(*value, *mask)) : std::nullopt;
}

std::string in_lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

class RuleReader {
 public:
  explicit RuleReader(std::span<const std::string> words) : words_(words) {}

  Rule read() {
    while (!words_.empty()) {
      const bool negated = words_.front() == "!";
      if (negated) {
        take();
      }
      const std::string option = take();
      if (option == "-j" || option == "-g") {
        read_target(option == "-g");
      } else if (option == "-m" || option == "--comment") {
        take();
      } else {
        add_condition(option, negated);
      }
    }
    return std::move(rule_);
  }

 private:
  std::string take() {
    if (words_.empty()) {
      return {};
    }
    std::string word = words_.front();
    words_ = words_.subspan(1);
    return word;
  }

  [[nodiscard]] bool has_argument() const {
    return !words_.empty() && !words_.front().starts_with('-') && words_.front() != "!";
  }

  void add_condition(const std::string& option, bool negated) {
    Condition condition{.negated = negated};
    bool understood = true;
    if (option == "-i" || option == "-o") {
      condition.subject = option == "-i" ? Subject::input_interface : Subject::output_interface;
      condition.names = {take()};
    } else if (option == "-s" || option == "-d") {
      condition.subject = option == "-s" ? Subject::source : Subject::destination;
      understood = add_addresses(condition);
    } else if (option == "-p") {
      condition.subject = Subject::protocol;
      condition.names = {take()};
    } else if (option == "--sport" || option == "--sports" || option == "--dport" ||
               option == "--dports") {
      condition.subject =
          option.starts_with("--s") ? Subject::source_port : Subject::destination_port;
      understood = add_ports(condition);
    } else if (option == "--ctstate" || option == "--state") {
      condition.subject = Subject::connection_state;
      condition.names = parts_of(in_lower_case(take()), ',');
    } else if (option == "--mark") {
      understood = read_mark(condition);
    } else if (option == "--dst-type") {
      condition.subject = Subject::local_destination;
      understood = take() == "LOCAL";
    } else if (option == "--tcp-flags") {
      condition.subject = Subject::first_packet;
      understood = take() == "FIN,SYN,RST,ACK" && take() == "SYN";
    } else {
      understood = false;
    }
    if (!understood) {
      while (has_argument()) {
        take();
      }
      condition = {};
    }
    rule_.conditions.push_back(std::move(condition));
  }

  bool add_addresses(Condition& condition) {
    const auto prefix = rules::Prefix::parse(take());
    if (prefix) {
      condition.addresses.push_back({prefix->address(), last_address(*prefix)});
    }
    return prefix.has_value();
  }

  bool add_ports(Condition& condition) {
    for (const std::string& part : parts_of(take(), ',')) {
      const auto ports = ports_of(part);
      if (!ports) {
        return false;
      }
      condition.ports.push_back(*ports);
    }
    return true;
  }

  bool read_mark(Condition& condition) {
    const auto mark = masked(take());
    if (mark) {
      condition.subject = Subject::mark;
      condition.values = {mark->first};
      condition.mask = mark->second;
    }
    return mark.has_value();
  }

  void read_target(bool goes) {
    const std::string target = take();
    constexpr std::array<std::pair<std::string_view, Verdict>, 10> kVerdicts{
        {{"ACCEPT", Verdict::accept},
         {"DROP", Verdict::drop},
         {"REJECT", Verdict::drop},
         {"RETURN", Verdict::go_back},
         {"NFQUEUE", Verdict::queue},
         {"SNAT", Verdict::translate_source},
         {"MASQUERADE", Verdict::translate_source},
         {"DNAT", Verdict::translate_destination},
         {"REDIRECT", Verdict::translate_destination},
         {"TPROXY", Verdict::unknown}}};
    constexpr std::array<std::string_view, 12> kGoOn{"LOG",   "NFLOG", "TCPMSS", "TOS",
                                                     "DSCP",  "TTL",   "HL",     "SET",
                                                     "TRACE", "ECN",   "AUDIT",  "CLASSIFY"};
    const auto* known =
        std::ranges::find(kVerdicts, target, &std::pair<std::string_view, Verdict>::first);
    if (known != kVerdicts.end()) {
      rule_.verdict = known->second;
    } else if (target == "MARK" || target == "CONNMARK" || target == "CT") {
      rule_.verdict = Verdict::none;
    } else if (std::ranges::find(kGoOn, target) == kGoOn.end()) {
      rule_.verdict = goes ? Verdict::go_to : Verdict::jump;
      rule_.target = target;
    }
    read_target_options(target);
  }

  void read_target_options(const std::string& target) {
    while (!words_.empty()) {
      const std::string option = take();
      if (option == "--set-xmark" || option == "--set-mark") {
        set_mark(target == "MARK");
      } else if (option == "--save-mark" || option == "--restore-mark") {
        keep_mark(option == "--restore-mark");
      } else if (option == "--queue-num" || option == "--queue-balance") {
        rule_.queues = ports_of(take());
      } else if (option == "--queue-bypass") {
        rule_.bypass = true;
      } else if (option == "--to-destination") {
        set_destination(take());
      } else if (option == "--notrack") {
        rule_.verdict = Verdict::notrack;
      }
    }
  }

  void set_mark(bool of_packet) {
    if (const auto mark = masked(take())) {
      rule_.marks.push_back({.to = of_packet ? MarkWrite::To::packet : MarkWrite::To::connection,
                             .bits = mark->second | mark->first,
                             .value = mark->first});
    }
  }

  // iptables-save always writes both masks, behind the option.
  void keep_mark(bool restores) {
    std::uint32_t packet = 0xffffffff;
    std::uint32_t connection = 0xffffffff;
    while (words_.size() >= 2 && (words_.front() == "--nfmask" || words_.front() == "--ctmask")) {
      std::uint32_t& mask = take() == "--nfmask" ? packet : connection;
      mask = number_of(take()).value_or(mask);
    }
    rule_.marks.push_back(
        restores
            ? MarkWrite{.to = MarkWrite::To::packet, .bits = packet, .unknown = packet & connection}
            : MarkWrite{.to = MarkWrite::To::connection,
                        .bits = connection,
                        .unknown = packet & connection});
  }

  // "203.0.113.25", "203.0.113.25:25", "[2001:db8::25]:25"
  void set_destination(std::string text) {
    if (text.starts_with('[')) {
      text = text.substr(1, text.find(']') - 1);
    } else if (std::ranges::count(text, ':') == 1) {
      text = text.substr(0, text.find(':'));
    }
    rule_.translated = rules::IpAddress::parse(text);
  }

  std::span<const std::string> words_;
  Rule rule_;
};

// What stands for a base chain's place in nft's words.
void give_place(Chain& chain) {
  constexpr std::array<std::pair<std::string_view, Hook>, 5> kHooks{
      {{"PREROUTING", Hook::prerouting},
       {"INPUT", Hook::input},
       {"FORWARD", Hook::forward},
       {"OUTPUT", Hook::output},
       {"POSTROUTING", Hook::postrouting}}};
  constexpr std::array<std::pair<std::string_view, int>, 4> kPriorities{
      {{"raw", -300}, {"mangle", -150}, {"filter", 0}, {"security", 50}}};
  for (const auto& [name, hook] : kHooks) {
    if (name == chain.name) {
      chain.hook = hook;
    }
  }
  for (const auto& [table, priority] : kPriorities) {
    if (table == chain.table) {
      chain.priority = priority;
    }
  }
  chain.type = chain.table == "nat"                                ? "nat"
               : chain.table == "mangle" && chain.name == "OUTPUT" ? "route"
                                                                   : "filter";
  if (chain.type == "nat") {
    const bool is_early = chain.hook == Hook::prerouting || chain.hook == Hook::output;
    chain.priority = is_early ? -100 : 100;
  }
}

}  // namespace

std::vector<Chain> read_iptables(std::string_view saved, bool is_v4, Chain::Owner owner) {
  std::vector<Chain> chains;
  std::string table;
  std::map<std::string, std::size_t> positions;
  const std::string program = std::string(is_v4 ? "iptables" : "ip6tables") +
                              (owner == Chain::Owner::iptables_legacy ? "-legacy" : "");
  for (const std::string& line : parts_of(saved, '\n')) {
    const auto words = words_of(line);
    if (line.starts_with('*')) {
      table = line.substr(1);
      positions.clear();
    } else if (line.starts_with(':') && words.size() >= 2) {
      Chain chain{.owner = owner,
                  .family = is_v4 ? "ip" : "ip6",
                  .table = table,
                  .name = words[0].substr(1),
                  .drops_by_default = words[1] == "DROP"};
      if (chain.name != nfq::kXtablesChain) {
        give_place(chain);
        chains.push_back(std::move(chain));
      }
    } else if (line.starts_with("-A ") && words.size() > 2) {
      const auto of_it = std::ranges::find_if(chains, [&](const Chain& chain) {
        return chain.table == table && chain.name == words[1];
      });
      Rule rule = RuleReader(std::span(words).subspan(2)).read();
      const std::size_t position = ++positions[words[1]];
      if (of_it != chains.end() && rule.target != nfq::kXtablesChain) {
        rule.position = position;
        rule.text = line.substr(3 + words[1].size() + 1);
        rule.removal = fmt::format("{} -t {} -D {}", program, table, line.substr(3));
        of_it->rules.push_back(std::move(rule));
      }
    }
  }
  return chains;
}

}  // namespace postern::gateway::doctor
