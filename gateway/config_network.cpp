// [network]: the interfaces and the networks that tell inside from outside.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <set>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

constexpr std::size_t kLongestInterfaceName = 15;  // IFNAMSIZ less its NUL

// Narrower than the kernel's own rule, because the names stand in firewall rules, where '*', '+'
// and quotes mean something.
bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestInterfaceName && name != "." && name != ".." &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-' || c == '@';
         });
}

std::string remedy_for_interface(std::string_view name) {
  if (name.ends_with('*') || name.ends_with('+')) {
    return "patterns are not understood: name every interface";
  }
  if (name.find(':') != std::string_view::npos) {
    return fmt::format("an alias is no interface of its own: write {}",
                       quote(name.substr(0, name.find(':'))));
  }
  return "`ip link` lists the names";
}

std::vector<std::string> read_interfaces(SectionReader& section, DiagnosticLog& log) {
  const TomlValue* value = section.find("external_interfaces");
  if (value == nullptr) {
    section.report_missing("external_interfaces");
    return {};
  }
  const std::size_t errors = log.error_count();
  std::vector<std::string> names;
  for (const LocatedString& name : section.strings("external_interfaces")) {
    if (!is_interface_name(name.text)) {
      log.error(name.place, name.key,
                found_expected(quote(name.text),
                               "an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'",
                               remedy_for_interface(name.text)));
    } else if (name.text == "lo") {
      log.error(name.place, name.key,
                found_expected("\"lo\"", "an interface that leads to the Internet",
                               "remove it: the loopback interface leads nowhere"));
    } else if (std::ranges::find(names, name.text) != names.end()) {
      log.error(name.place, name.key,
                fmt::format("found {} a second time; expected every interface once; remove one, or "
                            "correct it if another was meant",
                            quote(name.text)));
    } else {
      names.push_back(name.text);
    }
  }
  if (names.empty() && log.error_count() == errors) {
    section.report("external_interfaces", *value);
  }
  return names;
}

std::string remedy_for_network(std::string_view text) {
  if (text.find("0.0.0.0/") == 0 || text == "any") {
    return "name the networks that lie behind this router";
  }
  if (std::ranges::count(text, '.') == 3 && text.find('-') != std::string_view::npos) {
    return "write a range as one or more networks in address/length form";
  }
  return "write address/length, such as 203.0.113.0/24";
}

void warn_of_host_bits(const LocatedString& written, const rules::Prefix& network,
                       DiagnosticLog& log) {
  const auto address =
      rules::IpAddress::parse(std::string_view(written.text).substr(0, written.text.find('/')));
  if (address && *address != network.address()) {
    log.warning(written.place, written.key,
                fmt::format("found {}, which has bits set behind the network's length; the network "
                            "{} is meant by it; write that",
                            quote(written.text), network.to_string()));
  }
}

constexpr std::uint8_t kGlobalUnicastLength = 3;

// 2000::/3 holds every address of the IPv6 Internet (RFC 4291 2.4).
bool is_everybody(const rules::Prefix& network) {
  return network.length() == 0 ||
         (network.length() <= kGlobalUnicastLength && !network.address().is_v4() &&
          network.contains(rules::Prefix::parse("2000::/3")->address()));
}

constexpr std::uint8_t kWidestV4 = 8;
constexpr std::uint8_t kWidestV6 = 16;

// Shorter than any block that a registry gives to one organisation.
bool is_surprisingly_wide(const rules::Prefix& network) {
  return network.length() < (network.address().is_v4() ? kWidestV4 : kWidestV6) &&
         network != *rules::Prefix::parse("fc00::/7");
}

void add_network(const LocatedString& written, std::set<rules::Prefix>& seen,
                 rules::PrefixSet& networks, DiagnosticLog& log) {
  const auto network = rules::Prefix::parse(written.text);
  if (!network) {
    log.error(written.place, written.key,
              found_expected(quote(written.text), "a network such as \"203.0.113.0/24\"",
                             remedy_for_network(written.text)));
    return;
  }
  if (is_everybody(*network)) {
    log.error(written.place, written.key,
              fmt::format("found {}; expected the networks behind this router; with this one every "
                          "host would count as internal: name your own networks",
                          quote(written.text)));
    return;
  }
  warn_of_host_bits(written, *network, log);
  if (is_surprisingly_wide(*network)) {
    log.warning(written.place, written.key,
                fmt::format("{} is far wider than any organisation's own network, and all of it "
                            "counts as internal; check its length",
                            network->to_string()));
  }
  if (seen.insert(*network).second) {
    networks.add(*network);
  } else {
    log.warning(written.place, written.key,
                fmt::format("{} is listed twice; the second changes nothing: remove it, or correct "
                            "it if another network was meant",
                            network->to_string()));
  }
}

}  // namespace

NetworkSection read_network(SectionReader& section, DiagnosticLog& log) {
  NetworkSection out;
  out.external_interfaces = read_interfaces(section, log);
  out.networks_place = section.place_of("internal_networks");
  const TomlValue* value = section.find("internal_networks");
  if (value == nullptr) {
    section.report_missing("internal_networks");
    return out;
  }
  const std::size_t errors = log.error_count();
  std::set<rules::Prefix> seen;
  for (const LocatedString& written : section.strings("internal_networks")) {
    add_network(written, seen, out.internal_networks, log);
  }
  if (seen.empty() && log.error_count() == errors) {
    section.report("internal_networks", *value);
  }
  out.networks_are_valid = log.error_count() == errors;
  return out;
}

}  // namespace postern::gateway
