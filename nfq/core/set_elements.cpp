#include "nfq/core/set_elements.hpp"

#include <algorithm>
#include <iterator>

namespace postern::nfq {
namespace {

using Elements = std::vector<std::string>;

// Without those that lie within another one: the kernel takes no two ranges that overlap.
std::vector<rules::Prefix> outermost(std::vector<rules::Prefix> prefixes) {
  std::ranges::sort(prefixes);  // what contains another one comes before it
  std::vector<rules::Prefix> found;
  for (const rules::Prefix& prefix : prefixes) {
    if (found.empty() || !found.back().contains(prefix.address())) {
      found.push_back(prefix);
    }
  }
  return found;
}

std::string joined(const Elements& elements) {
  std::string text;
  for (const auto& element : elements) {
    text += (text.empty() ? "" : ", ") + element;
  }
  return text;
}

std::string change(std::string_view action, const std::string& set, const Elements& elements) {
  return elements.empty() ? ""
                          : std::string(action) + " element inet postern " + set + " { " +
                                joined(elements) + " }\n";
}

Elements without(const Elements& elements, const Elements& others) {
  Elements left;
  std::ranges::set_difference(elements, others, std::back_inserter(left));
  return left;
}

}  // namespace

SetElements set_elements(const rules::Policy& policy) {
  SetElements sets;
  for (const char* name : {"external_interfaces", "internal4", "internal6", "mailers4", "mailers6",
                           "published4", "published6", "reachable4", "reachable6"}) {
    sets[name];
  }
  for (const auto& interface : policy.external_interfaces) {
    sets["external_interfaces"].push_back('"' + interface + '"');
  }
  for (const auto& prefix : outermost(policy.internal_networks.prefixes())) {
    sets[prefix.address().is_v4() ? "internal4" : "internal6"].push_back(prefix.to_string());
  }
  const auto add = [&](const std::string& name, const rules::IpAddress& address) {
    sets[name + (address.is_v4() ? "4" : "6")].push_back(address.to_string());
  };
  for (const auto& mailer : policy.mailers()) {
    for (const auto& address : mailer.addresses) {
      add("mailers", address);
      add("reachable", address);
    }
    for (const auto& address : mailer.published_as) {
      add("published", address);
      add("reachable", address);
    }
  }
  for (auto& [name, elements] : sets) {
    std::ranges::sort(elements);
    const auto doubles = std::ranges::unique(elements);
    elements.erase(doubles.begin(), doubles.end());
  }
  return sets;
}

std::string elements_line(const Elements& elements) {
  return elements.empty() ? "" : "\t\telements = { " + joined(elements) + " }\n";
}

std::string set_changes(const std::optional<SetElements>& before, const SetElements& now) {
  std::string text;
  for (const auto& [set, elements] : now) {
    const Elements& old = before ? before->at(set) : Elements();
    text += before ? change("delete", set, without(old, elements))
                   : "flush set inet postern " + set + "\n";
    text += change("add", set, without(elements, old));
  }
  return text;
}

}  // namespace postern::nfq
