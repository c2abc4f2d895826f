#include "rules/policy.hpp"

#include <gtest/gtest.h>

namespace postern::rules {
namespace {

Mailer mailer(MailerId id, const char* name, std::initializer_list<const char*> addresses,
              std::initializer_list<const char*> domains) {
  Mailer result{.id = id, .name = name};
  for (const char* address : addresses) {
    result.addresses.push_back(*IpAddress::parse(address));
  }
  for (const char* domain : domains) {
    result.domains.add(domain);
  }
  return result;
}

Policy two_mailers() {
  Policy policy;
  policy.add_mailer(mailer(7, "mx1", {"203.0.113.25", "2001:db8:2::25"}, {"example.org"}));
  policy.add_mailer(mailer(9, "mx2", {"203.0.113.26"}, {"*.example.com"}));
  return policy;
}

TEST(Policy, FindsAMailerByEachOfItsAddresses) {
  const Policy policy = two_mailers();
  struct Row {
    const char* address;
    const char* want;  // nullptr: none
  };
  constexpr Row kRows[] = {{"203.0.113.25", "mx1"},   {"2001:db8:2::25", "mx1"},
                           {"203.0.113.26", "mx2"},   {"::ffff:203.0.113.26", "mx2"},
                           {"203.0.113.27", nullptr}, {"2001:db8:2::26", nullptr}};
  for (const Row& row : kRows) {
    const Mailer* found = policy.mailer_at(*IpAddress::parse(row.address));
    EXPECT_EQ(found == nullptr, row.want == nullptr) << row.address;
    if (found != nullptr && row.want != nullptr) {
      EXPECT_EQ(found->name, row.want) << row.address;
    }
  }
}

TEST(Mailer, IsConnectedToAtItsOwnAddressOfTheSameFamily) {
  Mailer mx = mailer(1, "mx", {"2001:db8:2::25", "203.0.113.25", "203.0.113.26"}, {});
  mx.published_as = {*IpAddress::parse("198.51.100.1"), *IpAddress::parse("2001:db8::1")};
  struct Row {
    const char* destination;
    const char* want;
  };
  constexpr Row kRows[] = {{"203.0.113.25", "203.0.113.25"},
                           {"203.0.113.26", "203.0.113.26"},
                           {"198.51.100.1", "203.0.113.25"},
                           {"2001:db8:2::25", "2001:db8:2::25"},
                           {"2001:db8::1", "2001:db8:2::25"}};
  for (const Row& row : kRows) {
    EXPECT_EQ(mx.own_address_for(*IpAddress::parse(row.destination)), IpAddress::parse(row.want))
        << row.destination;
  }
  EXPECT_EQ(
      mailer(2, "v4 only", {"203.0.113.27"}, {}).own_address_for(*IpAddress::parse("2001:db8::1")),
      std::nullopt);
}

TEST(Policy, StillFindsItsOwnMailersWhenCopied) {
  Policy copy;
  {
    const Policy policy = two_mailers();
    copy = policy;
  }
  EXPECT_EQ(copy.mailer_at(*IpAddress::parse("203.0.113.26")), &copy.mailers()[1]);
}

TEST(Policy, HasAsLocalTheDomainsOfAllMailers) {
  const Policy policy = two_mailers();
  EXPECT_TRUE(policy.is_local_domain("example.org"));
  EXPECT_TRUE(policy.is_local_domain("a.example.com"));
  EXPECT_FALSE(policy.is_local_domain("example.com"));
  EXPECT_FALSE(policy.is_local_domain("a.example.org"));
  EXPECT_FALSE(Policy{}.is_local_domain("example.org"));
}

}  // namespace
}  // namespace postern::rules
