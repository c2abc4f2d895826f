#include "rules/ip.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace postern::rules {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedStart{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::uint8_t kMappedBits = 8 * kMappedStart.size();

std::uint8_t max_length(const IpAddress& address) {
  return address.is_v4() ? 32 : 128;
}

std::uint8_t mask_of_octet(std::size_t index, std::uint8_t prefix_length) {
  const auto bits = std::clamp(static_cast<int>(prefix_length) - static_cast<int>(8 * index), 0, 8);
  return static_cast<std::uint8_t>(0xff00U >> bits);
}

template <typename Bytes>
Bytes masked(std::span<const std::uint8_t> from, std::uint8_t length) {
  Bytes bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(from[i] & mask_of_octet(i, length));
  }
  return bytes;
}

IpAddress without_host_bits(const IpAddress& address, std::uint8_t length) {
  if (address.is_v4()) {
    return IpAddress(masked<IpAddress::V4Bytes>(address.bytes(), length));
  }
  return IpAddress(masked<IpAddress::V6Bytes>(address.bytes(), length));
}

// Decimal without sign or leading zeros, as it is printed.
std::optional<std::uint8_t> parse_length(std::string_view text) {
  std::uint8_t length = 0;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [stop, error] = std::from_chars(begin, end, length);
  if (error != std::errc{} || stop != end || (text.size() > 1 && text.front() == '0')) {
    return std::nullopt;
  }
  return length;
}

// The finaliser of splitmix64: each bit of the input changes half of the output's.
std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

std::uint64_t hash_of(const IpAddress& address) {
  const auto bytes = address.bytes();
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), bytes.data(), bytes.size());
  // The size keeps 1.2.3.4 apart from 102:304::.
  return mix(mix(words[0] + bytes.size()) + words[1]);
}

}  // namespace

IpAddress::IpAddress(const V4Bytes& bytes) {
  std::ranges::copy(bytes, bytes_.begin());
}

IpAddress::IpAddress(const V6Bytes& bytes) {
  if (std::equal(kMappedStart.begin(), kMappedStart.end(), bytes.begin())) {
    std::copy(bytes.begin() + kMappedStart.size(), bytes.end(), bytes_.begin());
    return;
  }
  is_v4_ = false;
  bytes_ = bytes;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  // inet_pton would stop at a NUL and take what stands before it for the whole.
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  std::ranges::copy(text, terminated.begin());
  if (V4Bytes v4{}; inet_pton(AF_INET, terminated.data(), v4.data()) == 1) {
    return IpAddress(v4);
  }
  if (V6Bytes v6{}; inet_pton(AF_INET6, terminated.data(), v6.data()) == 1) {
    return IpAddress(v6);
  }
  return std::nullopt;
}

std::span<const std::uint8_t> IpAddress::bytes() const {
  return std::span(bytes_).first(is_v4_ ? V4Bytes{}.size() : V6Bytes{}.size());
}

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_v4_ ? AF_INET : AF_INET6, bytes_.data(), text.data(), text.size());
  return text.data();
}

Prefix::Prefix(const IpAddress& address, std::uint8_t length)
    : length_(std::min(length, max_length(address))) {
  address_ = without_host_bits(address, length_);
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) {
    return std::nullopt;
  }
  if (slash == std::string_view::npos) {
    return Prefix(*address, max_length(*address));
  }
  auto length = parse_length(text.substr(slash + 1));
  const bool mapped = address->is_v4() && text.substr(0, slash).contains(':');
  if (length && mapped) {
    // ::ffff:0:0/90 also holds addresses that are not mapped: no one prefix of ours is that.
    if (*length < kMappedBits) {
      return std::nullopt;
    }
    *length = static_cast<std::uint8_t>(*length - kMappedBits);
  }
  if (!length || *length > max_length(*address)) {
    return std::nullopt;
  }
  return Prefix(*address, *length);
}

bool Prefix::contains(const IpAddress& address) const {
  return without_host_bits(address, length_) == address_;  // never equal across families
}

std::string Prefix::to_string() const {
  return address_.to_string() + '/' + std::to_string(length_);
}

void PrefixSet::add(const Prefix& prefix) {
  if (!index_.insert(prefix).second) {
    return;
  }
  prefixes_.push_back(prefix);
  auto& lengths = prefix.address().is_v4() ? v4_lengths_ : v6_lengths_;
  if (std::ranges::find(lengths, prefix.length()) == lengths.end()) {
    lengths.push_back(prefix.length());
  }
}

bool PrefixSet::contains(const IpAddress& address) const {
  return std::ranges::any_of(address.is_v4() ? v4_lengths_ : v6_lengths_, [&](std::uint8_t length) {
    return index_.contains(Prefix(address, length));
  });
}

}  // namespace postern::rules

std::size_t std::hash<postern::rules::IpAddress>::operator()(
    const postern::rules::IpAddress& address) const noexcept {
  return postern::rules::hash_of(address);
}

std::size_t std::hash<postern::rules::Prefix>::operator()(
    const postern::rules::Prefix& prefix) const noexcept {
  return postern::rules::mix(postern::rules::hash_of(prefix.address()) + prefix.length());
}
