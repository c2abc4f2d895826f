#include "gateway/host.hpp"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_set>

namespace postern::gateway {
namespace {

template <typename Bytes>
Bytes copy_of(const void* bytes) {
  Bytes out;
  std::memcpy(out.data(), bytes, out.size());
  return out;
}

std::optional<rules::IpAddress> address_of(const sockaddr* address) {
  if (address == nullptr) {
    return std::nullopt;
  }
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    return rules::IpAddress(copy_of<rules::IpAddress::V4Bytes>(&v4.sin_addr));
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, address, sizeof v6);
    return rules::IpAddress(copy_of<rules::IpAddress::V6Bytes>(&v6.sin6_addr));
  }
  return std::nullopt;
}

template <typename Visit>
void for_each_interface_address(Visit visit) {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return;
  }
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(first, &freeifaddrs);
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    visit(*entry);
  }
}

}  // namespace

std::vector<rules::IpAddress> local_addresses() {
  std::vector<rules::IpAddress> out;
  for_each_interface_address([&out](const ifaddrs& entry) {
    if (const auto address = address_of(entry.ifa_addr)) {
      out.push_back(*address);
    }
  });
  return out;
}

std::vector<rules::Prefix> local_prefixes() {
  std::vector<rules::Prefix> out;
  for_each_interface_address([&out](const ifaddrs& entry) {
    const auto address = address_of(entry.ifa_addr);
    const auto mask = address_of(entry.ifa_netmask);
    if (address && mask) {
      int length = 0;
      for (const std::uint8_t octet : mask->bytes()) {
        length += std::popcount(octet);
      }
      out.emplace_back(*address, static_cast<std::uint8_t>(length));
    }
  });
  return out;
}

Diagnostics check_against_host(const Config& config,
                               const std::vector<rules::IpAddress>& local_addresses) {
  const std::unordered_set<rules::IpAddress> own(local_addresses.begin(), local_addresses.end());
  Diagnostics out;
  const auto& mailers = config.policy->mailers();
  for (std::size_t i = 0; i < mailers.size(); ++i) {
    for (std::size_t j = 0; j < mailers[i].addresses.size(); ++j) {
      const rules::IpAddress& address = mailers[i].addresses[j];
      if (!own.contains(address)) {
        continue;
      }
      const Place place = config.mailer_sources[i].address_places[j];
      out.push_back({Severity::error, config.file, place.line, place.column,
                     fmt::format("mailer[{}].addresses", i),
                     fmt::format("found {}, which is this router's own address; expected the mail "
                                 "server's, or the proxy would connect to itself; write that here, "
                                 "and the router's in `published_as` if it stands for this mailer",
                                 address.to_string())});
    }
  }
  return out;
}

Diagnostics warn_against_host(const Config& config,
                              const std::vector<rules::IpAddress>& local_addresses) {
  const std::unordered_set<rules::IpAddress> own(local_addresses.begin(), local_addresses.end());
  Diagnostics out;
  const auto& mailers = config.policy->mailers();
  for (std::size_t i = 0; i < mailers.size() && !own.empty(); ++i) {
    for (std::size_t j = 0; j < mailers[i].published_as.size(); ++j) {
      const rules::IpAddress& address = mailers[i].published_as[j];
      if (own.contains(address)) {
        continue;
      }
      const Place place = config.mailer_sources[i].published_places[j];
      out.push_back({Severity::warning, config.file, place.line, place.column,
                     fmt::format("mailer[{}].published_as", i),
                     fmt::format("{} is no address of this router now, so that nothing comes in "
                                 "for it; correct it, unless the router gets it later",
                                 address.to_string())});
    }
  }
  return out;
}

}  // namespace postern::gateway
