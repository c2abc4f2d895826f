#include "gateway/config_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace postern::gateway {
namespace {

using enum Availability;

constexpr std::array kSections{
    SectionInfo{"network", now},   SectionInfo{"mailer", now}, SectionInfo{"inbound", now},
    SectionInfo{"outbound", now},  SectionInfo{"smtp", now},   SectionInfo{"log", now},
    SectionInfo{"capture", later}, SectionInfo{"http", later}, SectionInfo{"gateway", now},
};

constexpr std::string_view kTrueOrFalse = "true or false";
constexpr std::string_view kNoQuotes = "write it without quotes";
constexpr std::string_view kDuration =
    R"(a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds)";
constexpr std::string_view kDefaultTime = "correct it, or leave it out for the default";
constexpr std::string_view kDefault = kDefaultTime;

// clang-format off
constexpr std::array kKeys{
    KeyInfo{"network", "external_interfaces", now, R"(a list of interface names, such as ["wan0"])", "name every interface that leads to the Internet; `ip link` lists them"},
    KeyInfo{"network", "internal_networks", now, R"(a list of networks, such as ["203.0.113.0/24", "2001:db8:2::/48"])", "name every network that lies behind this router"},

    KeyInfo{"mailer", "name", now, "a name of 1 to 64 letters, digits, '.', '_' or '-'", "it names the mailer in logs and counters"},
    KeyInfo{"mailer", "addresses", now, R"(a list of IP addresses, such as ["203.0.113.25", "2001:db8:2::25"])", "name every address that receives mail on this host"},
    KeyInfo{"mailer", "published_as", now, R"(a list of IP addresses, such as ["198.51.100.1"])", "name the router's own addresses that stand for this mailer, or leave it out"},
    KeyInfo{"mailer", "domains", now, R"(a list of domains, such as ["example.org", "*.example.org"])", "name the domains that strangers may write to"},
    KeyInfo{"mailer", "domains_file", now, "the path of a text file with one domain a line", "create the file or correct the path"},
    KeyInfo{"mailer", "starttls", now, R"("hide", "terminate" or "pass")", kDefault},
    KeyInfo{"mailer", "certificate", now, "the path of a PEM file, or a list of paths", "name the mailer's certificate, in its file the intermediates behind it"},
    KeyInfo{"mailer", "private_key", now, "the path of a PEM file, or a list of paths", "name the certificate's private key; it may stand in the same file"},
    KeyInfo{"mailer", "upstream_tls", now, R"("off", "opportunistic", "require" or "verify")", kDefault},
    KeyInfo{"mailer", "upstream_name", now, R"(a name such as "mx1.example.org")", "write the name that the mailer's own certificate has"},
    KeyInfo{"mailer", "upstream_ca_file", now, "the path of a PEM file", "name the certificate of who issued the mailer's, or leave it out for the system's"},
    KeyInfo{"mailer", "authenticated_relay", now, kTrueOrFalse, kNoQuotes},
    KeyInfo{"mailer", "auth_requires_tls", now, kTrueOrFalse, kNoQuotes},
    KeyInfo{"mailer", "relay_by_mx", off_only, kTrueOrFalse, kNoQuotes},
    KeyInfo{"mailer", "allow_routing_characters", now, kTrueOrFalse, kNoQuotes},
    KeyInfo{"mailer", "allow_address_literals", now, kTrueOrFalse, kNoQuotes},

    KeyInfo{"inbound", "unmanaged_destination", now, R"("reject" or "drop")", kDefault},
    KeyInfo{"inbound", "translated_source", now, R"("reject", "drop" or "count")", kDefault},
    KeyInfo{"inbound", "expected_relays", now, R"(a list of networks or addresses, such as ["192.0.2.0/24"])", "name those that the site's mail comes through, or leave it out"},

    KeyInfo{"outbound", "unmanaged_sender", now, R"("count", "reject" or "drop")", kDefault},
    KeyInfo{"outbound", "require_local_sender", now, kTrueOrFalse, kNoQuotes},

    KeyInfo{"smtp", "bare_newline", now, R"("normalize" or "reject")", kDefault},
    KeyInfo{"smtp", "early_talker", now, R"("refuse" or "wait")", kDefault},
    KeyInfo{"smtp", "unauthorised_pipelining", now, R"("refuse" or "wait")", kDefault},
    KeyInfo{"smtp", "max_errors", now, "a whole number from 1 to 10000", kDefault},
    KeyInfo{"smtp", "max_recipients", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "max_refused_recipients", now, "a whole number from 1 to 100000", kDefault},
    KeyInfo{"smtp", "max_idle_commands", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "refusals_before_delay", now, "a whole number from 1 to 100000", kDefault},
    KeyInfo{"smtp", "longest_delay", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "max_sessions", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "max_sessions_per_mailer", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "max_sessions_per_client", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "max_handshakes", now, "a whole number from 1 to 1000000", kDefault},
    KeyInfo{"smtp", "max_auth_failures", now, "a whole number from 1 to 10000", kDefault},
    KeyInfo{"smtp", "max_auth_failures_per_client", now, "a whole number from 1 to 100000", kDefault},
    KeyInfo{"smtp", "max_auth_failures_per_user", now, "a whole number from 1 to 100000", kDefault},
    KeyInfo{"smtp", "auth_failure_window", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "auth_refusal_time", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "max_clients_per_user", now, "a whole number from 1 to 100000", kDefault},
    KeyInfo{"smtp", "auth_spread_window", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "connect_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "greeting_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "command_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "reply_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "data_initiation_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "data_block_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "data_termination_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "handshake_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "closing_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "session_timeout", now, kDuration, kDefaultTime},
    KeyInfo{"smtp", "drain_timeout", now, kDuration, kDefaultTime},

    KeyInfo{"log", "level", now, R"("debug", "info", "warning" or "error")", kDefault},
    KeyInfo{"log", "format", now, R"("text" or "json")", kDefault},

    KeyInfo{"gateway", "workers", now, "a whole number from 1 to 256", "leave it out for one worker a core"},
    KeyInfo{"gateway", "queue_base", now, "a whole number from 0 to 65535", "it is the number of the first NFQUEUE; the default is 25"},
    KeyInfo{"gateway", "proxy_ports", now, "two different ports from 1 to 65535, neither of them 25", "the default is [10025, 10026]"},
    KeyInfo{"gateway", "mark_mask", now, "eight adjacent bits of a 32-bit mark", "the default is 0xff000000"},
    KeyInfo{"gateway", "routing_table", now, "a whole number from 1 to 4294967295 that is not 253, 254 or 255", "the kernel uses those three; the default is 2525"},
    KeyInfo{"gateway", "on_failure", now, R"("closed" or "open")", kDefault},
    KeyInfo{"gateway", "observe", now, kTrueOrFalse, kNoQuotes},
    KeyInfo{"gateway", "control_socket", now, "an absolute path of at most 107 octets", "the default is \"/run/postern/control.sock\""},
};
// clang-format on

// A word this near was probably meant; one further away would only mislead.
bool is_near(std::string_view written, std::size_t distance) {
  return distance <= std::max<std::size_t>(1, (written.size() + 1) / 3);
}

struct Nearest {
  std::string_view name;
  std::size_t distance = 0;
};

std::optional<Nearest> nearest(std::string_view written, const std::vector<std::string_view>& all) {
  std::optional<Nearest> best;
  for (const std::string_view candidate : all) {
    const std::size_t distance = edit_distance(written, candidate);
    if (!best || distance < best->distance) {
      best = Nearest{candidate, distance};
    }
  }
  return best && is_near(written, best->distance) ? best : std::nullopt;
}

std::vector<std::string_view> keys_of(std::string_view section) {
  std::vector<std::string_view> names;
  for (const KeyInfo& key : kKeys) {
    if (key.section == section) {
      names.push_back(key.name);
    }
  }
  return names;
}

std::string header_of(std::string_view section) {
  return section == "mailer" ? "[[mailer]]" : fmt::format("[{}]", section);
}

std::string_view section_with_key(std::string_view name) {
  const auto* const key = std::ranges::find(kKeys, name, &KeyInfo::name);
  return key == kKeys.end() ? std::string_view() : key->section;
}

}  // namespace

std::span<const SectionInfo> known_sections() {
  return kSections;
}

std::span<const KeyInfo> known_keys() {
  return kKeys;
}

const SectionInfo* find_section(std::string_view name) {
  const auto* const found = std::ranges::find(kSections, name, &SectionInfo::name);
  return found == kSections.end() ? nullptr : found;
}

const KeyInfo* find_key(std::string_view section, std::string_view name) {
  const auto* const found = std::ranges::find_if(
      kKeys, [&](const KeyInfo& key) { return key.section == section && key.name == name; });
  return found == kKeys.end() ? nullptr : found;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the usual table: a swap looks back two.
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::string remedy_for_unknown_section(std::string_view name) {
  if (const std::string_view owner = section_with_key(name); !owner.empty()) {
    return fmt::format("it belongs below {}", header_of(owner));
  }
  std::vector<std::string_view> names;
  names.reserve(kSections.size());
  for (const SectionInfo& section : kSections) {
    names.push_back(section.name);
  }
  if (const auto near = nearest(name, names)) {
    return fmt::format("did you mean {}?", header_of(near->name));
  }
  return fmt::format("the sections are {}", fmt::join(names, ", "));
}

std::string remedy_for_unknown_key(std::string_view section, std::string_view name) {
  if (const std::string_view owner = section_with_key(name); !owner.empty()) {
    return fmt::format("it belongs below {}", header_of(owner));
  }
  const auto names = keys_of(section);
  if (const auto near = nearest(name, names)) {
    return fmt::format("did you mean \"{}\"?", near->name);
  }
  return fmt::format("the keys of {} are {}", header_of(section), fmt::join(names, ", "));
}

}  // namespace postern::gateway
