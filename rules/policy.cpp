#include "rules/policy.hpp"

#include <algorithm>
#include <utility>

namespace postern::rules {

std::optional<IpAddress> Mailer::own_address_for(const IpAddress& destination) const {
  if (std::ranges::find(addresses, destination) != addresses.end()) {
    return destination;
  }
  const auto first = std::ranges::find(addresses, destination.is_v4(), &IpAddress::is_v4);
  return first == addresses.end() ? std::nullopt : std::optional(*first);
}

void Policy::add_mailer(Mailer mailer) {
  for (const IpAddress& address : mailer.addresses) {
    mailer_by_address_.emplace(address, mailers_.size());
  }
  for (const IpAddress& address : mailer.published_as) {
    mailer_by_address_.emplace(address, mailers_.size());
  }
  mailers_.push_back(std::move(mailer));
}

const Mailer* Policy::mailer_at(const IpAddress& address) const {
  const auto found = mailer_by_address_.find(address);
  return found == mailer_by_address_.end() ? nullptr : &mailers_[found->second];
}

bool Policy::is_local_domain(std::string_view normalised) const {
  return std::ranges::any_of(
      mailers_, [&](const Mailer& mailer) { return mailer.domains.matches(normalised); });
}

}  // namespace postern::rules
