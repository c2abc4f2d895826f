#include "rules/ip.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <unordered_set>

namespace postern::rules {
namespace {

IpAddress address_of(std::string_view text) {
  const auto address = IpAddress::parse(text);
  EXPECT_TRUE(address) << text;
  return address.value_or(IpAddress{});
}

Prefix prefix_of(std::string_view text) {
  const auto prefix = Prefix::parse(text);
  EXPECT_TRUE(prefix) << text;
  return prefix.value_or(Prefix(IpAddress{}, 32));
}

struct Printed {
  std::string_view text;
  std::string_view want;  // empty: refused
};

TEST(IpAddress, IsParsedStrictlyAndPrintedInOneWay) {
  constexpr Printed kRows[] = {
      {"203.0.113.25", "203.0.113.25"},
      {"0.0.0.0", "0.0.0.0"},
      {"255.255.255.255", "255.255.255.255"},
      {"2001:DB8:0:0:0:0:0:25", "2001:db8::25"},
      {"::", "::"},
      {"::1", "::1"},
      {"2001:db8:0:0:1::", "2001:db8:0:0:1::"},
      {"::ffff:192.0.2.1", "192.0.2.1"},
      {"::FFFF:c000:201", "192.0.2.1"},
      {"0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"},
      {"::fffe:192.0.2.1", "::fffe:c000:201"},
      {"", ""},
      {" 192.0.2.1", ""},
      {"192.0.2.1 ", ""},
      {"192.0.2", ""},
      {"192.0.2.1.1", ""},
      {"192.0.2.256", ""},
      {"192.0.2.01", ""},
      {"0300.0.2.1", ""},
      {"0x7f.0.0.1", ""},
      {"3221225985", ""},
      {"192.0.2.1/32", ""},
      {"2001:db8::1%eth0", ""},
      {"[::1]", ""},
      {"1:2:3:4:5:6:7", ""},
      {"1::2::3", ""},
      {"::12345", ""},
      {"::ffff:192.0.2.256", ""},
      {"0000:0000:0000:0000:0000:ffff:255.255.255.2555555", ""},
      {std::string_view("192.0.2.1\0", 10), ""},
      {std::string_view("192.0.2.1\0x", 11), ""},
  };
  for (const Printed& row : kRows) {
    const auto address = IpAddress::parse(row.text);
    EXPECT_EQ(address ? address->to_string() : "", row.want) << row.text;
  }
}

TEST(IpAddress, GivesItsOctetsInNetworkOrder) {
  const IpAddress v4 = address_of("203.0.113.25");
  EXPECT_TRUE(v4.is_v4());
  EXPECT_TRUE(std::ranges::equal(v4.bytes(), IpAddress::V4Bytes{203, 0, 113, 25}));
  const IpAddress v6 = address_of("2001:db8::19");
  EXPECT_FALSE(v6.is_v4());
  EXPECT_EQ(v6.bytes().size(), 16U);
  EXPECT_EQ(v6.bytes()[1], 0x01);
  EXPECT_EQ(v6.bytes()[15], 0x19);
}

TEST(IpAddress, OfMappedOctetsIsTheIpv4Address) {
  const IpAddress::V6Bytes mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  EXPECT_EQ(IpAddress(mapped), address_of("192.0.2.1"));
  EXPECT_TRUE(IpAddress(mapped).is_v4());
}

TEST(IpAddress, OfFourOctetsDiffersFromTheIpv6AddressThatStartsLikeIt) {
  EXPECT_NE(address_of("1.2.3.4"), address_of("102:304::"));
  EXPECT_NE(std::hash<IpAddress>{}(address_of("1.2.3.4")),
            std::hash<IpAddress>{}(address_of("102:304::")));
}

// With a hash that kept the octets' order, neighbours would share the low bits that pick a bucket.
TEST(IpAddress, HashSpreadsNeighboursOverTheLowBits) {
  std::unordered_set<std::size_t> low_bits;
  for (int i = 0; i < 256; ++i) {
    const IpAddress::V4Bytes bytes{10, static_cast<std::uint8_t>(i), 0, 0};
    low_bits.insert(std::hash<IpAddress>{}(IpAddress(bytes)) % 256);
  }
  EXPECT_GT(low_bits.size(), 128U);  // 256 balls in 256 urns leave about 162 of them used
}

TEST(Prefix, IsParsedStrictlyAndPrintedInOneWay) {
  constexpr Printed kRows[] = {
      {"203.0.113.0/24", "203.0.113.0/24"},
      {"203.0.113.25/24", "203.0.113.0/24"},
      {"203.0.113.255/31", "203.0.113.254/31"},
      {"203.0.113.25", "203.0.113.25/32"},
      {"203.0.113.25/0", "0.0.0.0/0"},
      {"2001:db8:2:ff::1/48", "2001:db8:2::/48"},
      {"2001:db8::ffff/113", "2001:db8::8000/113"},
      {"2001:db8::1", "2001:db8::1/128"},
      {"::/0", "::/0"},
      {"::ffff:0:0/96", "0.0.0.0/0"},
      {"::ffff:192.0.2.77/120", "192.0.2.0/24"},
      {"::ffff:192.0.2.77", "192.0.2.77/32"},
      {"::ffff:192.0.2.77/128", "192.0.2.77/32"},
      {"::ffff:0:0/95", ""},
      {"::ffff:192.0.2.77/24", ""},
      {"203.0.113.0/33", ""},
      {"2001:db8::/129", ""},
      {"203.0.113.0/", ""},
      {"203.0.113.0/024", ""},
      {"203.0.113.0/00", ""},
      {"203.0.113.0/+8", ""},
      {"203.0.113.0/-1", ""},
      {"203.0.113.0/256", ""},
      {"203.0.113.0/ 8", ""},
      {"203.0.113.0/8 ", ""},
      {"203.0.113.0/8/8", ""},
      {"203.0.113.0/255.255.255.0", ""},
      {"203.0.113/24", ""},
      {"/24", ""},
      {"", ""},
  };
  for (const Printed& row : kRows) {
    const auto prefix = Prefix::parse(row.text);
    EXPECT_EQ(prefix ? prefix->to_string() : "", row.want) << row.text;
  }
}

TEST(Prefix, LongerThanTheAddressIsAHostPrefix) {
  EXPECT_EQ(Prefix(address_of("192.0.2.1"), 99), prefix_of("192.0.2.1/32"));
  EXPECT_EQ(Prefix(address_of("2001:db8::1"), 255), prefix_of("2001:db8::1/128"));
}

TEST(Prefix, ContainsAddressesOfItsOwnFamilyOnly) {
  struct Row {
    std::string_view prefix;
    std::string_view address;
    bool want;
  };
  constexpr Row kRows[] = {
      {"203.0.113.0/24", "203.0.113.0", true},
      {"203.0.113.0/24", "203.0.113.255", true},
      {"203.0.113.0/24", "203.0.114.0", false},
      {"203.0.113.128/25", "203.0.113.127", false},
      {"0.0.0.0/0", "255.1.2.3", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "192.0.2.1", false},
      {"::/0", "2001:db8::1", true},
      {"2001:db8:2::/47", "2001:db8:3::1", true},
      {"2001:db8:2::/47", "2001:db8:4::1", false},
      {"::ffff:0:0/96", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.2", false},
  };
  for (const Row& row : kRows) {
    EXPECT_EQ(prefix_of(row.prefix).contains(address_of(row.address)), row.want)
        << row.prefix << ' ' << row.address;
  }
}

TEST(PrefixSet, OfNothingContainsNothing) {
  const PrefixSet set;
  EXPECT_TRUE(set.empty());
  EXPECT_FALSE(set.contains(address_of("0.0.0.0")));
  EXPECT_FALSE(set.contains(address_of("::")));
}

TEST(PrefixSet, KeepsEachPrefixOnceInTheOrderAdded) {
  PrefixSet set;
  for (const char* text : {"203.0.113.0/24", "2001:db8::/32", "203.0.113.9/24", "10.0.0.0/8"}) {
    set.add(prefix_of(text));
  }
  EXPECT_EQ(set.prefixes(), (std::vector{prefix_of("203.0.113.0/24"), prefix_of("2001:db8::/32"),
                                         prefix_of("10.0.0.0/8")}));
}

// Few distinct bits, so that prefixes and addresses meet often.
rc::Gen<IpAddress> any_address() {
  const auto octet = rc::gen::element<std::uint8_t>(0, 1, 127, 128, 255);
  const auto v4 = rc::gen::map(rc::gen::container<IpAddress::V4Bytes>(octet),
                               [](const IpAddress::V4Bytes& bytes) { return IpAddress(bytes); });
  const auto v6 = rc::gen::map(rc::gen::container<IpAddress::V6Bytes>(octet),
                               [](const IpAddress::V6Bytes& bytes) { return IpAddress(bytes); });
  return rc::gen::oneOf(v4, v6);
}

rc::Gen<Prefix> any_prefix() {
  return rc::gen::map(
      rc::gen::pair(any_address(), rc::gen::inRange<std::uint8_t>(0, 129)),
      [](const std::pair<IpAddress, std::uint8_t>& p) { return Prefix(p.first, p.second); });
}

TEST(IpAddress, ReadsBackWhatItPrints) {
  EXPECT_TRUE(rc::check([] {
    const IpAddress address = *any_address();
    RC_ASSERT(IpAddress::parse(address.to_string()) == address);
  }));
}

TEST(Prefix, ReadsBackWhatItPrints) {
  EXPECT_TRUE(rc::check([] {
    const Prefix prefix = *any_prefix();
    RC_ASSERT(Prefix::parse(prefix.to_string()) == prefix);
  }));
}

// Bit by bit, without masks.
bool contains_by_bits(const Prefix& prefix, const IpAddress& address) {
  if (prefix.address().is_v4() != address.is_v4()) {
    return false;
  }
  for (std::size_t bit = 0; bit < prefix.length(); ++bit) {
    const auto at = [&](const IpAddress& a) { return (a.bytes()[bit / 8] >> (7 - bit % 8)) & 1; };
    if (at(prefix.address()) != at(address)) {
      return false;
    }
  }
  return true;
}

TEST(PrefixSet, AgreesWithAScanOfItsPrefixes) {
  EXPECT_TRUE(rc::check([] {
    const auto prefixes = *rc::gen::container<std::vector<Prefix>>(any_prefix());
    PrefixSet set;
    for (const Prefix& prefix : prefixes) {
      set.add(prefix);
    }
    for (const IpAddress& address : *rc::gen::container<std::vector<IpAddress>>(any_address())) {
      const bool want = std::ranges::any_of(
          prefixes, [&](const Prefix& prefix) { return contains_by_bits(prefix, address); });
      RC_ASSERT(set.contains(address) == want);
    }
    for (const Prefix& prefix : prefixes) {
      RC_ASSERT(set.contains(prefix.address()));
    }
  }));
}

}  // namespace
}  // namespace postern::rules
