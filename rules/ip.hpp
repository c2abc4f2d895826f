// IP addresses and prefixes as values. IPv4-mapped IPv6 (::ffff:a.b.c.d) is folded to IPv4 on every
// way in, so that one host has one name.
// Source:   RFC 4291 2.5.5.2, RFC 5952 (printing).
// Errors:   parsing returns nullopt; it never guesses (no octal, no missing octets).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace postern::rules {

class IpAddress {
 public:
  using V4Bytes = std::array<std::uint8_t, 4>;
  using V6Bytes = std::array<std::uint8_t, 16>;

  IpAddress() = default;  // 0.0.0.0
  explicit IpAddress(const V4Bytes& bytes);
  explicit IpAddress(const V6Bytes& bytes);
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);

  [[nodiscard]] bool is_v4() const { return is_v4_; }
  // Network byte order; 4 octets for IPv4, 16 for IPv6. Valid as long as the address is.
  [[nodiscard]] std::span<const std::uint8_t> bytes() const;
  [[nodiscard]] std::string to_string() const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  bool is_v4_ = true;
  V6Bytes bytes_{};  // an IPv4 address occupies the first four
};

class Prefix {
 public:
  Prefix(const IpAddress& address, std::uint8_t length);  // host bits are cleared
  // "203.0.113.0/24", "2001:db8::/32"; a bare address is a host prefix.
  [[nodiscard]] static std::optional<Prefix> parse(std::string_view text);

  [[nodiscard]] bool contains(const IpAddress& address) const;
  [[nodiscard]] const IpAddress& address() const { return address_; }
  [[nodiscard]] std::uint8_t length() const { return length_; }
  [[nodiscard]] std::string to_string() const;

  auto operator<=>(const Prefix&) const = default;

 private:
  IpAddress address_;
  std::uint8_t length_;
};

}  // namespace postern::rules

template <>
struct std::hash<postern::rules::IpAddress> {
  std::size_t operator()(const postern::rules::IpAddress& address) const noexcept;
};

template <>
struct std::hash<postern::rules::Prefix> {
  std::size_t operator()(const postern::rules::Prefix& prefix) const noexcept;
};

namespace postern::rules {

// "Does any of these prefixes contain this address?" One hash lookup per distinct prefix length.
class PrefixSet {
 public:
  void add(const Prefix& prefix);
  [[nodiscard]] bool contains(const IpAddress& address) const;
  [[nodiscard]] bool empty() const { return prefixes_.empty(); }
  [[nodiscard]] const std::vector<Prefix>& prefixes() const { return prefixes_; }

 private:
  std::vector<Prefix> prefixes_;
  std::vector<std::uint8_t> v4_lengths_;  // distinct
  std::vector<std::uint8_t> v6_lengths_;
  std::unordered_set<Prefix> index_;
};

}  // namespace postern::rules
