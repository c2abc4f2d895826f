#include "gateway/cli/policy_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::gateway::cli {
namespace {

std::string section(const Style& style, std::string_view title, const std::string& body) {
  return fmt::format("\n{}\n{}", style.heading(title), body);
}

template <typename T>
std::size_t shown_of(const std::vector<T>& items) {
  return std::min(items.size(), kShownRows);
}

std::string item(std::string_view text) {
  return fmt::format("  - {}\n", text);
}

struct Range {
  const char* prefix;
  std::string_view name;
};

// Ranges that anybody may use inside, so that trusting one trusts whoever else does.
constexpr std::array kRanges{
    Range{"10.0.0.0/8", "private (RFC 1918)"},
    Range{"172.16.0.0/12", "private (RFC 1918)"},
    Range{"192.168.0.0/16", "private (RFC 1918)"},
    Range{"100.64.0.0/10", "shared by carriers (RFC 6598)"},
    Range{"169.254.0.0/16", "link-local (RFC 3927)"},
    Range{"fc00::/7", "private (RFC 4193)"},
    Range{"fe80::/10", "link-local (RFC 4291)"},
};

std::string_view private_range(const rules::Prefix& network) {
  for (const Range& range : kRanges) {
    const auto prefix = *rules::Prefix::parse(range.prefix);
    if (prefix.contains(network.address()) || network.contains(prefix.address())) {
      return range.name;
    }
  }
  return {};
}

std::string internal_text(const rules::Policy& policy) {
  std::string out =
      fmt::format("  A client that comes in on any interface but {}, with an address in\n",
                  first_names(policy.external_interfaces));
  Table networks({{}, {}});
  const auto& prefixes = policy.internal_networks.prefixes();
  for (const rules::Prefix& network : std::span(prefixes).first(shown_of(prefixes))) {
    const std::string_view range = private_range(network);
    networks.add({"  " + network.to_string(),
                  range.empty() ? "" : fmt::format("{}, trusted because it is listed", range)});
  }
  return out + networks.to_string() + and_more(prefixes.size() - shown_of(prefixes), "network") +
         "  Everybody else is a stranger, whatever address or sender is claimed.\n";
}

std::string joined(const std::vector<rules::IpAddress>& addresses) {
  std::vector<std::string> texts;
  texts.reserve(addresses.size());
  for (const rules::IpAddress& address : addresses) {
    texts.push_back(address.to_string());
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string addresses_text(const rules::Mailer& mailer) {
  return joined(mailer.addresses) +
         (mailer.published_as.empty() ? "" : ", published as " + joined(mailer.published_as));
}

std::string domains_text(const rules::Mailer& mailer, const MailerSource& source) {
  const std::size_t count = mailer.domains.size();
  if (count == 0) {
    return "nobody";
  }
  const bool is_whole = source.first_domains.size() == count;
  return fmt::format("{}{} ({})", fmt::join(source.first_domains, ", "), is_whole ? "" : ", ...",
                     count_of(count, "domain"));
}

std::string mailers_text(const Config& config) {
  Table table({{"mailer"}, {"addresses"}, {"strangers may write to"}});
  const auto& mailers = config.policy->mailers();
  for (std::size_t i = 0; i < shown_of(mailers); ++i) {
    table.add({mailers[i].name, addresses_text(mailers[i]),
               printable(domains_text(mailers[i], config.mailer_sources[i]))});
  }
  return table.to_string() + and_more(mailers.size() - shown_of(mailers), "mailer");
}

std::string_view how(rules::Refusal refusal) {
  return refusal == rules::Refusal::drop ? "dropped without an answer" : "refused with a reset";
}

std::string_view how(rules::Tolerance tolerance) {
  switch (tolerance) {
    case rules::Tolerance::count:
      return "let through and counted";
    case rules::Tolerance::reject:
      return "refused with a reset";
    case rules::Tolerance::drop:
      return "dropped without an answer";
  }
  return "";
}

std::string_view without_daemon(const Config& config) {
  if (config.policy->observe) {
    return "everything passes, as with observe = true while it runs.";
  }
  return config.datapath.on_failure == nfq::OnFailure::closed
             ? "no new connection to any port 25 crosses this router."
             : "new connections from outside reach the mailers, and only them, unchecked; those of "
               "internal hosts pass.";
}

std::string observe_text(const Config& config, const Style& style) {
  return config.policy->observe
             ? fmt::format(
                   "\n{}\n  observe = true: what follows is judged, counted and logged, and "
                   "let through all the same.\n",
                   style.bad("NOTHING IS REFUSED"))
             : "";
}

std::string everything_else_text(const Config& config) {
  const rules::Policy& policy = *config.policy;
  std::string out;
  out += item(
      "A stranger's recipient in any other domain: refused with 550 5.7.1 before the mailer "
      "hears of it.");
  out += item(fmt::format("A stranger's connection to port 25 of any other host: {}.",
                          how(policy.unmanaged_destination)));
  out += item(
      fmt::format("An internal address that arrives on an external interface: {}{}.",
                  how(policy.translated_source),
                  policy.translated_source == rules::Tolerance::count ? ", as a stranger's" : ""));
  out += item(fmt::format("An internal host that is no mailer, to port 25 outside: {}.",
                          how(policy.unmanaged_sender)));
  out += item(policy.require_local_sender
                  ? "An internal client's mail to the world: only under a sender of a local domain."
                  : "An internal client's mail, through a mailer or to one: forwarded to any "
                    "recipient, under any sender.");
  out += item("Where posternd died, until it is started again: " +
              std::string(without_daemon(config)));
  return out;
}

std::string clients_tls_text(const rules::Mailer& mailer, const Config& config) {
  switch (mailer.starttls) {
    case rules::Starttls::hide:
      return "hidden: in clear";
    case rules::Starttls::pass:
      return "passed on, NOT JUDGED behind it";
    case rules::Starttls::terminate:
      break;
  }
  std::vector<std::string> names;
  const auto& tls = config.tls->at(mailer.id).towards_clients;
  for (const auto& certificate : tls->certificates()) {
    names.insert(names.end(), certificate.names.begin(), certificate.names.end());
  }
  std::ranges::sort(names);
  names.erase(std::ranges::unique(names).begin(), names.end());
  return fmt::format("TLS, as {}", fmt::join(names, ", "));
}

std::string mailers_tls_text(const rules::Mailer& mailer, const TlsSource& source) {
  if (mailer.starttls == rules::Starttls::pass) {
    return "the clients' own";
  }
  switch (mailer.upstream_tls) {
    case rules::UpstreamTls::off:
      return "in clear";
    case rules::UpstreamTls::opportunistic:
      return "TLS where offered";
    case rules::UpstreamTls::require:
      return "TLS, or 421";
    case rules::UpstreamTls::verify:
      return fmt::format("TLS with {}, or 421", source.upstream->name);
  }
  return "";
}

std::string_view strangers_auth_text(const rules::Mailer& mailer) {
  if (!mailer.authenticated_relay) {
    return "refused";
  }
  if (!mailer.auth_requires_tls) {
    return "also in clear, then any recipient";
  }
  return mailer.starttls == rules::Starttls::terminate ? "inside TLS, then any recipient"
                                                       : "refused, as there is no TLS";
}

struct TlsRow {
  std::array<std::string, 3> cells;
  std::vector<std::string> mailers;
};

// With many mailers one for those that have the same.
std::vector<TlsRow> tls_rows(const Config& config) {
  std::vector<TlsRow> rows;
  const auto& mailers = config.policy->mailers();
  for (std::size_t i = 0; i < mailers.size(); ++i) {
    TlsRow row{.cells = {printable(clients_tls_text(mailers[i], config)),
                         mailers_tls_text(mailers[i], config.tls_sources[i]),
                         std::string(strangers_auth_text(mailers[i]))},
               .mailers = {mailers[i].name}};
    const auto same = std::ranges::find(rows, row.cells, &TlsRow::cells);
    if (mailers.size() > kShownRows && same != rows.end()) {
      same->mailers.push_back(mailers[i].name);
    } else {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::string tls_text(const Config& config) {
  if (config.policy->observe) {
    return item(
        "STARTTLS and AUTH are shown as the mailers offer them: a session that uses STARTTLS is "
        "passed on unread from there.");
  }
  const std::vector<TlsRow> rows = tls_rows(config);
  Table table({{"mailer"}, {"clients' STARTTLS"}, {"to the mailer"}, {"AUTH of strangers"}});
  for (const TlsRow& row : std::span(rows).first(shown_of(rows))) {
    table.add({first_names(row.mailers), row.cells[0], row.cells[1], row.cells[2]});
  }
  return table.to_string() + and_more(rows.size() - shown_of(rows), "such line");
}

// Of the mailers that something holds for.
template <typename Predicate>
std::vector<std::string> names_of(const rules::Policy& policy, Predicate holds) {
  std::vector<std::string> names;
  for (const rules::Mailer& mailer : policy.mailers()) {
    if (std::invoke(holds, mailer)) {
      names.push_back(mailer.name);
    }
  }
  return names;
}

// One line for all mailers that something holds for; which ones, if it is not all.
template <typename Predicate>
std::string item_of(const rules::Policy& policy, Predicate holds, std::string_view text) {
  const std::vector<std::string> names = names_of(policy, holds);
  if (names.empty()) {
    return "";
  }
  return item(names.size() == policy.mailers().size()
                  ? std::string(text)
                  : fmt::format("{}: {}", first_names(names), text));
}

std::string given_up_by_tls_text(const rules::Policy& policy) {
  using rules::Mailer;
  using rules::Starttls;
  return item_of(
             policy, [](const Mailer& mailer) { return mailer.starttls == Starttls::hide; },
             "STARTTLS is hidden: between clients and this router mail crosses in clear text.") +
         item_of(
             policy, [](const Mailer& mailer) { return mailer.starttls == Starttls::pass; },
             "BEHIND STARTTLS NOTHING IS JUDGED: neither recipients nor passwords nor what a "
             "message is made of. Whoever says it meets the mailer's own rules alone.") +
         item_of(
             policy,
             [](const Mailer& mailer) {
               return mailer.starttls == Starttls::terminate &&
                      mailer.upstream_tls == rules::UpstreamTls::off;
             },
             "TLS ends at this router: from here to the mailer mail crosses in clear text.") +
         item_of(
             policy, [](const Mailer& mailer) { return !mailer.authenticated_relay; },
             "AUTH is hidden from strangers: users outside send through the submission ports 587 "
             "and 465, which are left alone.") +
         item_of(
             policy,
             [](const Mailer& mailer) {
               return mailer.authenticated_relay && !mailer.auth_requires_tls;
             },
             "Passwords may cross the Internet in clear text: auth_requires_tls is false.");
}

std::string given_up_text(const Config& config) {
  std::string out = config.policy->observe ? "" : given_up_by_tls_text(*config.policy);
  const auto routing = names_of(*config.policy, &rules::Mailer::allow_routing_characters);
  if (!routing.empty()) {
    out += item(
        fmt::format("{} '%' and '!' from strangers: make sure that {} not reroute by them.",
                    routing.size() == 1 ? routing[0] + " takes" : first_names(routing) + " take",
                    routing.size() == 1 ? "it does" : "they do"));
  }
  const auto literals = names_of(*config.policy, &rules::Mailer::allow_address_literals);
  if (!literals.empty()) {
    out += item(fmt::format("{} own address in brackets from strangers.",
                            literals.size() == 1
                                ? literals[0] + " takes recipients at its"
                                : first_names(literals) + " take recipients at their"));
  }
  if (config.datapath.on_failure == nfq::OnFailure::open && !config.policy->observe) {
    out += item(
        "on_failure = \"open\": where posternd died, the mailers' own relay rules are the "
        "only ones.");
  }
  return out;
}

std::string given_up_section(const Config& config, const Style& style) {
  const std::string text = given_up_text(config);
  return text.empty() ? "" : section(style, "What is given up", text);
}

}  // namespace

std::string policy_text(const Config& config, const Style& style) {
  return observe_text(config, style) +
         section(style, "Who is internal", internal_text(*config.policy)) +
         section(style, "What stands behind this router", mailers_text(config)) +
         section(style, "TLS and AUTH", tls_text(config)) +
         section(style, "What happens to everything else", everything_else_text(config)) +
         given_up_section(config, style);
}

}  // namespace postern::gateway::cli
