// Other people's NAT on the way of mail.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "gateway/doctor/judge.hpp"
#include "gateway/doctor/mail_packets.hpp"

namespace postern::gateway::doctor {
namespace {

constexpr std::uint16_t kSmtp = 25;

bool is_known(const std::vector<Finding>& findings, const Finding& finding) {
  return std::ranges::any_of(findings, [&](const Finding& known) {
    return known.id == finding.id && known.commands == finding.commands;
  });
}

// What of a NAT chain a packet meets; the first translation is the last rule of it that counts.
std::vector<Reached> translations(const Ruleset& ruleset, const Chain& chain,
                                  const Packet& packet) {
  std::vector<Reached> found;
  for (const Reached& reached : walk(ruleset, chain, packet, {}).reached) {
    if (reached.rule->verdict == Verdict::translate_destination ||
        reached.rule->verdict == Verdict::translate_source) {
      found.push_back(reached);
    }
  }
  return found;
}

Finding source_translated(const Config& config, const Station& station, const Reached& reached) {
  const bool is_v4 = station.packet.is_v4;
  return {.id = "source_translated",
          .what = fmt::format("rule `{}` in {} gives {} another source address", reached.rule->text,
                              reached.base->to_string(), station.what),
          .why =
              "the mailer sees this router's address in place of the client's: its own checks "
              "of who is calling are worth nothing, and it may take strangers for inside",
          .commands = {reached.base->insertion(
              fmt::format("{} daddr {{ {} }} tcp dport 25 accept", is_v4 ? "ip" : "ip6",
                          fmt::join(addresses_of_mailers(config, is_v4), ", ")),
              fmt::format("-d {} -p tcp --dport 25 -j ACCEPT",
                          fmt::join(addresses_of_mailers(config, is_v4), ",")),
              is_v4)}};
}

Finding destination_translated(const Station& station, const Reached& reached) {
  return {.id = "destination_translated",
          .what = fmt::format("rule `{}` in {} sends {} to another address", reached.rule->text,
                              reached.base->to_string(), station.what),
          .why = "it takes packets to port 25 away from where Postern and the mailers expect them",
          .commands = {reached.rule->removal}};
}

// Where a mailer's own mail goes is not known, so that any rule for one destination might match.
bool counts(const Reached& reached, const Station& station) {
  return reached.surely || station.packet.destination.has_value();
}

void judge_station(const Config& config, const Ruleset& ruleset, const Station& station,
                   std::vector<Finding>& findings) {
  for (const Chain* chain : base_chains(ruleset, station.hook, station.packet.is_v4)) {
    if (chain->type != "nat") {
      continue;
    }
    for (const Reached& reached : translations(ruleset, *chain, station.packet)) {
      if (!counts(reached, station)) {
        continue;
      }
      const bool is_source = reached.rule->verdict == Verdict::translate_source;
      Finding finding = is_source ? source_translated(config, station, reached)
                                  : destination_translated(station, reached);
      finding.weight = reached.surely ? Weight::problem : Weight::warning;
      if (!is_known(findings, finding)) {
        findings.push_back(std::move(finding));
      }
    }
  }
}

// Port 25 of the router's own addresses, sent on to somebody else.
class Forwards {
 public:
  Forwards(const Config& config, const Facts& facts) : config_(config), facts_(facts) {}

  void find(std::vector<Finding>& findings) {
    for (const std::string& external : config_.policy->external_interfaces) {
      for (const Interface& interface : *facts_.interfaces) {
        for (const rules::IpAddress& address : interface.addresses) {
          find_of(external, address, findings);
        }
      }
    }
    for (auto& [mailer, published] : published_) {
      tell(*mailer, published, findings);
    }
  }

 private:
  struct Published {
    std::set<rules::IpAddress> addresses;
    std::vector<std::string> rules;
    std::vector<std::string> removals;
  };

  void find_of(const std::string& external, const rules::IpAddress& address,
               std::vector<Finding>& findings) {
    const rules::Mailer* known = config_.policy->mailer_at(address);
    if (known != nullptr) {
      return;  // its packets are judged as a mailer's
    }
    const Packet packet{.is_v4 = address.is_v4(),
                        .input_interface = external,
                        .destination = address,
                        .destination_port = kSmtp,
                        .is_for_router = true};
    for (const Chain* chain : base_chains(*facts_.ruleset, Hook::prerouting, packet.is_v4)) {
      if (chain->type == "nat") {
        for (const Reached& reached : translations(*facts_.ruleset, *chain, packet)) {
          note(address, reached, findings);
        }
      }
    }
  }

  void note(const rules::IpAddress& address, const Reached& reached,
            std::vector<Finding>& findings) {
    const auto& to = reached.rule->translated;
    const rules::Mailer* mailer = to ? config_.policy->mailer_at(*to) : nullptr;
    if (mailer == nullptr) {
      Finding finding{
          .id = "port_forward",
          .weight = Weight::warning,
          .what = fmt::format("rule `{}` in {} sends port 25 of {} to {}, which is no mailer of "
                              "the configuration",
                              reached.rule->text, reached.base->to_string(), address.to_string(),
                              to ? to->to_string() : "a port of this machine"),
          .why =
              "Postern refuses these connections; name the host as a mailer that is "
              "published_as this address, or remove the rule",
          .commands = {reached.rule->removal}};
      if (!is_known(findings, finding)) {
        findings.push_back(std::move(finding));
      }
      return;
    }
    Published& published = published_[mailer];
    published.addresses.insert(address);
    if (std::ranges::find(published.removals, reached.rule->removal) == published.removals.end()) {
      published.removals.push_back(reached.rule->removal);
      published.rules.push_back(
          fmt::format("`{}` in {}", reached.rule->text, reached.base->to_string()));
    }
  }

  static void tell(const rules::Mailer& mailer, const Published& published,
                   std::vector<Finding>& findings) {
    std::set<rules::IpAddress> all = published.addresses;
    all.insert(mailer.published_as.begin(), mailer.published_as.end());
    std::vector<std::string> addresses;
    std::ranges::transform(all, std::back_inserter(addresses), &rules::IpAddress::to_string);
    Finding finding{
        .id = "port_forward",
        .what = fmt::format("port 25 of this router is forwarded to mailer {} by {}", mailer.name,
                            fmt::join(published.rules, " and ")),
        .why =
            "a forwarded connection goes past the proxy and is refused. With published_as "
            "Postern takes connections to the router's address itself, and hands them to the "
            "mailer with the client's own address; no NAT rule is needed, or may be there. "
            "Write the line below [[mailer]], reload, and remove the rule",
        .commands = published.removals,
        .config = fmt::format("published_as = [\"{}\"]", fmt::join(addresses, "\", \""))};
    finding.commands.insert(finding.commands.begin(), "postern check && postern reload");
    findings.push_back(std::move(finding));
  }

  const Config& config_;
  const Facts& facts_;
  std::map<const rules::Mailer*, Published> published_;
};

}  // namespace

void judge_translation(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.ruleset) {
    return;
  }
  for (const Station& station : stations_of(config, facts)) {
    if (station.packet.state == "new") {
      judge_station(config, *facts.ruleset, station, findings);
    }
  }
  if (facts.interfaces) {
    Forwards(config, facts).find(findings);
  }
}

}  // namespace postern::gateway::doctor
