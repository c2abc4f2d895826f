#include "gateway/doctor/filter_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace postern::gateway::doctor {
namespace {

constexpr std::array<std::pair<std::string_view, Hook>, 6> kHooks{
    {{"ingress", Hook::ingress},
     {"prerouting", Hook::prerouting},
     {"input", Hook::input},
     {"forward", Hook::forward},
     {"output", Hook::output},
     {"postrouting", Hook::postrouting}}};

const char* program_of(const Chain& chain, bool is_v4) {
  if (chain.owner == Chain::Owner::iptables_legacy) {
    return is_v4 ? "iptables-legacy" : "ip6tables-legacy";
  }
  return is_v4 ? "iptables" : "ip6tables";
}

}  // namespace

const char* to_label(Hook hook) {
  return std::ranges::find(kHooks, hook, &std::pair<std::string_view, Hook>::second)->first.data();
}

std::optional<Hook> hook_of(std::string_view name) {
  const auto* found = std::ranges::find(kHooks, name, &std::pair<std::string_view, Hook>::first);
  return found == kHooks.end() ? std::nullopt : std::optional(found->second);
}

rules::IpAddress last_address(const rules::Prefix& prefix) {
  const auto fill = [&](auto bytes) {
    std::ranges::copy(prefix.address().bytes(), bytes.begin());
    for (std::size_t bit = prefix.length(); bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] | (0x80U >> (bit % 8)));
    }
    return rules::IpAddress(bytes);
  };
  return prefix.address().is_v4() ? fill(rules::IpAddress::V4Bytes{})
                                  : fill(rules::IpAddress::V6Bytes{});
}

std::string Chain::to_string() const {
  if (owner == Owner::nft) {
    return fmt::format("chain {} of nft's table {} {}", name, family, table);
  }
  return fmt::format("chain {} of table {} of {}", name, table, program_of(*this, family == "ip"));
}

std::string Chain::insertion(const std::string& nft_rule, const std::string& iptables_rule,
                             bool is_v4) const {
  if (owner == Owner::nft) {
    return fmt::format("nft insert rule {} {} {} {}", family, table, name, nft_rule);
  }
  return fmt::format("{} -t {} -I {} {}", program_of(*this, is_v4), table, name, iptables_rule);
}

bool Chain::is_for(bool is_v4) const {
  return family == "inet" || family == (is_v4 ? "ip" : "ip6");
}

const Chain* Ruleset::chain_of(const Chain& caller, const std::string& name) const {
  const auto found = std::ranges::find_if(chains, [&](const Chain& chain) {
    return chain.name == name && chain.table == caller.table && chain.family == caller.family &&
           chain.owner == caller.owner;
  });
  return found == chains.end() ? nullptr : &*found;
}

}  // namespace postern::gateway::doctor
