#include "gateway/cli/policy_text.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <vector>

namespace postern::gateway::cli {
namespace {

std::string section(const Style& style, std::string_view title, const std::string& body) {
  return fmt::format("\n{}\n{}", style.heading(title), body);
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
                  fmt::join(policy.external_interfaces, ", "));
  Table networks({{}, {}});
  for (const rules::Prefix& network : policy.internal_networks.prefixes()) {
    const std::string_view range = private_range(network);
    networks.add({"  " + network.to_string(),
                  range.empty() ? "" : fmt::format("{}, trusted because it is listed", range)});
  }
  return out + networks.to_string() +
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
  for (std::size_t i = 0; i < mailers.size(); ++i) {
    table.add({mailers[i].name, joined(mailers[i].addresses),
               printable(domains_text(mailers[i], config.mailer_sources[i]))});
  }
  return table.to_string();
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

std::string extensions_hidden_text() {
  return item("STARTTLS is hidden: mail through this router's port 25 crosses in clear text.") +
         item(
             "AUTH is hidden: from outside, users send through the submission ports 587 and 465, "
             "which are left alone.");
}

std::string extensions_observed_text() {
  return item(
      "STARTTLS and AUTH are shown as the mailers offer them: a session that uses one is passed on "
      "unread from there.");
}

std::string given_up_text(const Config& config) {
  std::string out = config.policy->observe ? extensions_observed_text() : extensions_hidden_text();
  for (const rules::Mailer& mailer : config.policy->mailers()) {
    if (mailer.allow_routing_characters) {
      out +=
          item(fmt::format("{} takes '%' and '!' from strangers: make sure that it does not "
                           "reroute by them.",
                           mailer.name));
    }
    if (mailer.allow_address_literals) {
      out += item(fmt::format("{} takes recipients at its own address in brackets from strangers.",
                              mailer.name));
    }
  }
  if (config.datapath.on_failure == nfq::OnFailure::open && !config.policy->observe) {
    out += item(
        "on_failure = \"open\": where posternd died, the mailers' own relay rules are the "
        "only ones.");
  }
  return out;
}

}  // namespace

std::string policy_text(const Config& config, const Style& style) {
  return observe_text(config, style) +
         section(style, "Who is internal", internal_text(*config.policy)) +
         section(style, "What stands behind this router", mailers_text(config)) +
         section(style, "What happens to everything else", everything_else_text(config)) +
         section(style, "What is given up", given_up_text(config));
}

}  // namespace postern::gateway::cli
