// [[mailer]]: the managed mail servers, and what sets them apart from each other and from outside.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

constexpr std::size_t kLongestName = 64;

bool is_mailer_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

void read_name(SectionReader& section, rules::Mailer& mailer) {
  const TomlValue* value = section.find("name");
  if (value == nullptr) {
    section.report_missing("name");
    return;
  }
  const auto* text = std::get_if<std::string>(&value->data);
  if (text != nullptr && is_mailer_name(*text)) {
    mailer.name = *text;
  } else {
    section.report("name", *value);
  }
}

struct Unusable {
  const char* network;
  std::string_view why;
};

constexpr Unusable kUnusable[] = {
    {"0.0.0.0/8", "is no host's address"},
    {"::/128", "is no host's address"},
    {"127.0.0.0/8", "is a loopback address, and never leaves its host"},
    {"::1/128", "is a loopback address, and never leaves its host"},
    {"169.254.0.0/16", "is a link-local address, and is never routed"},
    {"fe80::/10", "is a link-local address, and is never routed"},
    {"224.0.0.0/4", "is a multicast address"},
    {"ff00::/8", "is a multicast address"},
    {"240.0.0.0/4", "is a reserved or broadcast address"},
};

// Why no mail server can be reached at `address` through a router; empty if one can.
std::string_view why_unusable(const rules::IpAddress& address) {
  for (const Unusable& row : kUnusable) {
    if (rules::Prefix::parse(row.network)->contains(address)) {
      return row.why;
    }
  }
  return {};
}

std::string remedy_for_address(std::string_view text) {
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    return fmt::format("leave out {}: a mailer has addresses, not networks",
                       quote(text.substr(slash)));
  }
  if (rules::normalise_domain(text) && text.find('.') != std::string_view::npos &&
      std::ranges::any_of(text, [](char c) { return c >= 'g' && c <= 'z'; })) {
    return "names are not looked up: write the address that the name stands for";
  }
  return "correct it";
}

struct LocatedAddress {
  rules::IpAddress address;
  Place place;
};

// `whose`: what they are addresses of.
std::vector<LocatedAddress> read_list(SectionReader& section, std::string_view key,
                                      std::string_view whose, DiagnosticLog& log) {
  std::vector<LocatedAddress> out;
  const std::size_t errors = log.error_count();
  for (const LocatedString& written : section.strings(key)) {
    const auto address = rules::IpAddress::parse(written.text);
    if (!address) {
      log.error(written.place, written.key,
                found_expected(quote(written.text), "an IPv4 or IPv6 address",
                               remedy_for_address(written.text)));
    } else if (const std::string_view why = why_unusable(*address); !why.empty()) {
      log.error(written.place, written.key,
                fmt::format("found {}, which {}; expected an address of the {}; correct or remove "
                            "it",
                            quote(written.text), why, whose));
    } else {
      out.push_back({*address, written.place});
    }
  }
  if (out.empty() && log.error_count() == errors) {
    section.report(key, *section.find(key));
  }
  return out;
}

void read_addresses(SectionReader& section, MailerSection& out, DiagnosticLog& log) {
  if (section.find("addresses") == nullptr) {
    section.report_missing("addresses");
    return;
  }
  for (const auto& [address, place] : read_list(section, "addresses", "mail server", log)) {
    out.mailer.addresses.push_back(address);
    out.source.address_places.push_back(place);
  }
}

void read_published(SectionReader& section, MailerSection& out, DiagnosticLog& log) {
  if (section.find("published_as") == nullptr) {
    return;
  }
  for (const auto& [address, place] : read_list(section, "published_as", "router", log)) {
    out.mailer.published_as.push_back(address);
    out.source.published_places.push_back(place);
    if (!out.mailer.addresses.empty() && !out.mailer.own_address_for(address)) {
      log.error(place, section.path_of("published_as"),
                fmt::format("found {}, and the mailer has no {} address of its own to connect on "
                            "to; expected one in `addresses`; add it there, or remove this one",
                            address.to_string(), address.is_v4() ? "IPv4" : "IPv6"));
    }
  }
}

void read_domains(SectionReader& section, const std::filesystem::path& directory,
                  MailerSection& out, DiagnosticLog& log) {
  const std::size_t errors = log.error_count();
  DomainList list;
  add_domains(section.strings("domains"), list, log);
  if (const auto file = section.string("domains_file")) {
    add_domains_file(section, *file, directory, list, log);
  }
  if (list.domains.size() == 0 && log.error_count() == errors) {
    log.warning(section.place(), out.path,
                "has no domains, so strangers can write to nobody here; name them in `domains` or "
                "in a `domains_file`");
  }
  out.mailer.domains = std::move(list.domains);
  out.source.first_domains = std::move(list.first);
}

std::string name_for_people(const MailerSection& section) {
  return section.mailer.name.empty() ? section.path : quote(section.mailer.name);
}

// Every address that stands in some mailer's section, with whose it is.
class AddressBook {
 public:
  explicit AddressBook(DiagnosticLog& log) : log_(log) {}

  void add(const MailerSection& section, std::string_view key, const rules::IpAddress& address,
           Place place) {
    const auto [owner, is_new] = by_address_.emplace(address, &section);
    if (is_new) {
      return;
    }
    const bool is_same = owner->second == &section;
    const std::string who = is_same ? "this mailer" : name_for_people(*owner->second);
    log_.error(place, fmt::format("{}.{}", section.path, key),
               fmt::format("found {}, which {} has already; expected every address once, because "
                           "an address decides which mailer's domains hold; remove one of them",
                           address.to_string(), who));
  }

 private:
  DiagnosticLog& log_;
  std::unordered_map<rules::IpAddress, const MailerSection*> by_address_;
};

bool any_of_family(const rules::PrefixSet& networks, bool is_v4) {
  return std::ranges::any_of(networks.prefixes(), [is_v4](const rules::Prefix& network) {
    return network.address().is_v4() == is_v4;
  });
}

}  // namespace

MailerSection read_mailer(SectionReader& section, const std::filesystem::path& directory,
                          DiagnosticLog& log) {
  MailerSection out;
  out.path = section.path();
  out.place = section.place();
  out.name_place = section.place_of("name");
  read_name(section, out.mailer);
  read_addresses(section, out, log);
  read_published(section, out, log);
  read_domains(section, directory, out, log);
  read_tls(section, directory, out, log);
  section.read_off_switch("relay_by_mx");
  section.read("allow_routing_characters", out.mailer.allow_routing_characters);
  section.read("allow_address_literals", out.mailer.allow_address_literals);
  return out;
}

void check_mailers_differ(const std::vector<MailerSection>& mailers, DiagnosticLog& log) {
  std::map<std::string, const MailerSection*> by_name;
  AddressBook addresses(log);
  for (const MailerSection& section : mailers) {
    if (!section.mailer.name.empty() && !by_name.emplace(section.mailer.name, &section).second) {
      log.error(section.name_place, section.path + ".name",
                fmt::format("found {}, which is the name of {} too; expected a name of its own, "
                            "because counters and logs tell mailers apart by it; rename one",
                            quote(section.mailer.name), by_name[section.mailer.name]->path));
    }
    for (std::size_t i = 0; i < section.mailer.addresses.size(); ++i) {
      addresses.add(section, "addresses", section.mailer.addresses[i],
                    section.source.address_places[i]);
    }
  }
  for (const MailerSection& section : mailers) {
    for (std::size_t i = 0; i < section.mailer.published_as.size(); ++i) {
      addresses.add(section, "published_as", section.mailer.published_as[i],
                    section.source.published_places[i]);
    }
  }
}

void check_mailers_are_internal(const NetworkSection& network,
                                const std::vector<MailerSection>& mailers, DiagnosticLog& log) {
  std::vector<std::pair<const MailerSection*, std::size_t>> outside;
  std::size_t addresses = 0;
  for (const MailerSection& section : mailers) {
    addresses += section.mailer.addresses.size();
    for (std::size_t i = 0; i < section.mailer.addresses.size(); ++i) {
      if (!network.internal_networks.contains(section.mailer.addresses[i])) {
        outside.emplace_back(&section, i);
      }
    }
  }
  if (!outside.empty() && outside.size() == addresses) {
    log.error(network.networks_place, "network.internal_networks",
              "no address of any mailer lies in these networks; expected the mailers to stand "
              "behind this router; without that their own mail to the world would be refused as "
              "a stranger's: add their network, or correct their addresses");
    return;
  }
  for (const auto& [section, i] : outside) {
    const rules::IpAddress& address = section->mailer.addresses[i];
    const bool family_is_known = any_of_family(network.internal_networks, address.is_v4());
    log.warning(section->source.address_places[i], section->path + ".addresses",
                fmt::format("{} of {} lies outside internal_networks{}, so what it sends counts as "
                            "a stranger's; add its network, or correct the address",
                            address.to_string(), name_for_people(*section),
                            family_is_known   ? ""
                            : address.is_v4() ? ", which hold no IPv4 network"
                                              : ", which hold no IPv6 network"));
  }
}

}  // namespace postern::gateway
