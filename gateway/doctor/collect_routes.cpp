// What ip(8) says of interfaces, addresses, rules and routes.
// Source: `ip -json`.
#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "gateway/doctor/collect.hpp"
#include "nfq/command.hpp"

namespace postern::gateway::doctor {
namespace {

namespace json = boost::json;

std::string text_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) {
    return {};
  }
  const auto* text = value->if_string();
  return text == nullptr ? json::serialize(*value) : std::string(text->begin(), text->end());
}

std::uint32_t number_in(std::string_view text) {
  const bool is_hex = text.starts_with("0x");
  if (is_hex) {
    text.remove_prefix(2);
  }
  std::uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, is_hex ? 16 : 10);
  return value;
}

// The objects of the list that `ip -json ...` prints.
std::expected<std::vector<json::object>, std::string> ask_ip(std::vector<std::string> arguments) {
  std::vector<std::string> command{"ip", "-json"};
  std::ranges::move(arguments, std::back_inserter(command));
  const auto answer = nfq::run_command(command);
  if (!answer) {
    return std::unexpected(answer.error());
  }
  std::vector<json::object> objects;
  boost::system::error_code error;
  const json::value list = json::parse(answer->empty() ? "[]" : *answer, error);
  if (error || !list.is_array()) {
    return std::unexpected("what `ip` printed is not understood");
  }
  for (const json::value& item : list.as_array()) {
    if (const auto* object = item.if_object()) {
      objects.push_back(*object);
    }
  }
  return objects;
}

Interface interface_of(const json::object& link) {
  Interface interface{.name = text_at(link, "ifname"),
                      .is_up = text_at(link, "flags").contains("\"UP\""),
                      .master = text_at(link, "master"),
                      .has_xdp = link.contains("xdp")};
  if (const auto* info = link.if_contains("linkinfo"); info != nullptr && info->is_object()) {
    interface.kind = text_at(info->as_object(), "info_kind");
    interface.kind_as_part = text_at(info->as_object(), "info_slave_kind");
  }
  return interface;
}

void add_addresses(const json::object& link, std::vector<Interface>& interfaces) {
  const auto found = std::ranges::find(interfaces, text_at(link, "ifname"), &Interface::name);
  const json::value* list = link.if_contains("addr_info");
  if (found == interfaces.end() || list == nullptr || !list->is_array()) {
    return;
  }
  for (const json::value& item : list->as_array()) {
    if (const auto* object = item.if_object(); object && text_at(*object, "scope") == "global") {
      if (const auto address = rules::IpAddress::parse(text_at(*object, "local"))) {
        found->addresses.push_back(*address);
      }
    }
  }
}

void collect_interfaces(Facts& facts) {
  const auto links = ask_ip({"-details", "link", "show"});
  const auto addresses = ask_ip({"address", "show"});
  if (!links || !addresses) {
    facts.unknown.push_back({"the interfaces", links ? addresses.error() : links.error()});
    return;
  }
  facts.interfaces.emplace();
  for (const json::object& link : *links) {
    facts.interfaces->push_back(interface_of(link));
  }
  for (const json::object& link : *addresses) {
    add_addresses(link, *facts.interfaces);
  }
}

// What a rule asks for beside the mark, as `ip rule add` takes it.
std::string selector_of(const json::object& rule) {
  std::string selector;
  if (rule.contains("not")) {
    selector += "not ";
  }
  for (const auto& [key, word, length] :
       {std::tuple{"src", "from", "srclen"}, std::tuple{"dst", "to", "dstlen"}}) {
    const std::string address = text_at(rule, key);
    const std::string bits = text_at(rule, length);
    if (!address.empty() && address != "all") {
      selector += fmt::format("{} {}{}{} ", word, address, bits.empty() ? "" : "/", bits);
    }
  }
  for (const char* key : {"iif", "oif", "ipproto", "sport", "dport", "tos"}) {
    if (const std::string value = text_at(rule, key); !value.empty()) {
      selector += fmt::format("{} {} ", key, value);
    }
  }
  if (const std::string length = text_at(rule, "suppress_prefixlen"); !length.empty()) {
    selector += fmt::format("suppress_prefixlength {} ", length);
  }
  return selector;
}

RoutingRule rule_of(const json::object& source, bool is_v4) {
  RoutingRule rule{.is_v4 = is_v4,
                   .priority = number_in(text_at(source, "priority")),
                   .table = text_at(source, "table"),
                   .protocol = text_at(source, "protocol"),
                   .selector = selector_of(source)};
  if (const std::string mark = text_at(source, "fwmark"); !mark.empty()) {
    rule.mark = number_in(mark);
    const std::string mask = text_at(source, "fwmask");
    rule.mask = mask.empty() ? 0xffffffff : number_in(mask);
  }
  return rule;
}

Route route_of(const json::object& source, bool is_v4) {
  Route route{.is_v4 = is_v4,
              .destination = text_at(source, "dst"),
              .protocol = text_at(source, "protocol")};
  if (const std::string table = text_at(source, "table"); !table.empty()) {
    route.table = table;
  }
  if (const std::string type = text_at(source, "type"); !type.empty()) {
    route.type = type;
  }
  if (const std::string interface = text_at(source, "dev"); !interface.empty()) {
    route.interfaces.push_back(interface);
  }
  if (const json::value* hops = source.if_contains("nexthops"); hops && hops->is_array()) {
    for (const json::value& hop : hops->as_array()) {
      if (const auto* object = hop.if_object()) {
        route.interfaces.push_back(text_at(*object, "dev"));
      }
    }
  }
  return route;
}

void collect_family(bool is_v4, Facts& facts) {
  const std::string family = is_v4 ? "-4" : "-6";
  const auto rules = ask_ip({family, "-details", "rule", "show"});
  const auto routes = ask_ip({family, "-details", "route", "show", "table", "all"});
  if (!rules || !routes) {
    facts.unknown.push_back({is_v4 ? "IPv4 routes and rules" : "IPv6 routes and rules",
                             rules ? routes.error() : rules.error()});
    return;
  }
  for (const json::object& rule : *rules) {
    facts.routing_rules->push_back(rule_of(rule, is_v4));
  }
  for (const json::object& route : *routes) {
    facts.routes->push_back(route_of(route, is_v4));
  }
}

void collect_way(const rules::IpAddress& mailer, Facts& facts) {
  const auto answer = ask_ip({"route", "get", mailer.to_string()});
  WayTo way;
  if (!answer) {
    way.error = answer.error();
  } else if (!answer->empty()) {
    way.interface = text_at(answer->front(), "dev");
  }
  facts.ways[mailer] = std::move(way);
}

}  // namespace

void collect_routes(const Config& config, Facts& facts) {
  collect_interfaces(facts);
  facts.routing_rules.emplace();
  facts.routes.emplace();
  collect_family(true, facts);
  collect_family(false, facts);
  for (const rules::Mailer& mailer : config.policy->mailers()) {
    for (const rules::IpAddress& address : mailer.addresses) {
      collect_way(address, facts);
    }
  }
}

}  // namespace postern::gateway::doctor
