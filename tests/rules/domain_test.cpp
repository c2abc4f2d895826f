#include "rules/domain.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <set>

namespace postern::rules {
namespace {

const std::string kLabel63(63, 'a');
// Four labels and their dots: 253 characters, the longest there are.
const std::string kName253 =
    kLabel63 + '.' + kLabel63 + '.' + kLabel63 + '.' + std::string(61, 'b');

TEST(NormaliseDomain, HasOneFormForEachName) {
  struct Row {
    std::string text;
    std::string want;  // empty: no domain
  };
  const Row rows[] = {
      {"example.org", "example.org"},
      {"EXAMPLE.Org", "example.org"},
      {"example.org.", "example.org"},
      {"localhost", "localhost"},
      {"_dmarc.my_host.example", "_dmarc.my_host.example"},
      {"r3---sn-a.example", "r3---sn-a.example"},
      {"3com.example", "3com.example"},
      {"1.2.3.4.example", "1.2.3.4.example"},
      {"a.b.c.d.e.f.g", "a.b.c.d.e.f.g"},
      {kLabel63 + ".org", kLabel63 + ".org"},
      {kName253, kName253},
      {kName253 + '.', kName253},
      {"bücher.example", "xn--bcher-kva.example"},
      {"BÜCHER.EXAMPLE", "xn--bcher-kva.example"},
      {"bu\u0308cher.example", "xn--bcher-kva.example"},  // decomposed
      {"xn--bcher-kva.example", "xn--bcher-kva.example"},
      {"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
      {"bücher.example.", "xn--bcher-kva.example"},
      {"bücher。example", "xn--bcher-kva.example"},  // U+3002, a full stop
      {"ｅｘａｍｐｌｅ．ｏｒｇ", "example.org"},
      {"faß.example", "xn--fa-hia.example"},
      {"παράδειγμα.example", "xn--hxajbheg2az3al.example"},
      {"", ""},
      {".", ""},
      {"..", ""},
      {".example.org", ""},
      {"example..org", ""},
      {"example.org..", ""},
      {"-a.example", ""},
      {"a-.example", ""},
      {"example.org-", ""},
      {"exa mple.org", ""},
      {" example.org", ""},
      {"example.org ", ""},
      {"example.org\n", ""},
      {"*.example.org", ""},
      {"exam%ple.org", ""},
      {"a@example.org", ""},
      {"example.org:25", ""},
      {"[192.0.2.1]", ""},
      {"192.0.2.1", ""},
      {"1", ""},
      {"example.123", ""},
      {kLabel63 + "a.org", ""},
      {kName253 + "b", ""},
      {std::string("example.org\0", 12), ""},
      {std::string("b\xc3\xbc\0cher.example", 16), ""},
      {"\xff.example", ""},
      {"b\xc3.example", ""},
      {"\xc0\xaf.example", ""},  // overlong
      {"＠.example", ""},        // maps to an at sign
      {"a％b.example", ""},      // maps to a percent sign
      {"ａ ｂ.example", ""},     // a space beside full-width letters
      {"\u2488.example", ""},    // "1." in one character
      {"-ü.example", ""},
      {"１９２．０．２．１", ""},  // full-width digits are digits
      {"a\u200db.example", ""},    // a joiner that may not stand there
      {std::string(300, 'a') + "ü.example", ""},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(normalise_domain(row.text).value_or(""), row.want) << row.text;
  }
}

TEST(ToULabels, AreGivenWhereEveryReaderReadsThemAlike) {
  struct Row {
    std::string_view normalised;
    std::string_view want;
  };
  constexpr Row kRows[] = {
      {"example.org", "example.org"},
      {"xn--bcher-kva.example", "bücher.example"},
      {"xn--fa-hia.example", "xn--fa-hia.example"},  // faß: fass to IDNA 2003
      {"xn--hxajbheg2az3al.example", "παράδειγμα.example"},
      {"xn--3xa.example", "xn--3xa.example"},  // final sigma
      {"xn--a.example", "xn--a.example"},      // not punycode of anything
      {"xn--example-.example", "xn--example-.example"},
  };
  for (const Row& row : kRows) {
    EXPECT_EQ(to_u_labels(row.normalised), row.want) << row.normalised;
  }
}

TEST(DomainTable, HoldsEachNameOnce) {
  DomainTable table;
  EXPECT_FALSE(table.contains("example.org"));
  EXPECT_TRUE(table.insert("example.org"));
  EXPECT_FALSE(table.insert("example.org"));
  EXPECT_TRUE(table.contains("example.org"));
  EXPECT_FALSE(table.contains("example.or"));
  EXPECT_FALSE(table.contains("xample.org"));
  EXPECT_FALSE(table.contains(""));
  EXPECT_EQ(table.size(), 1U);
}

TEST(DomainTable, RefusesWhatIsNoNormalisedDomain) {
  DomainTable table;
  EXPECT_THROW(table.insert(std::string(254, 'a')), std::length_error);
}

std::string nth_domain(std::size_t n) {
  return "customer-" + std::to_string(n) + ".hosting.example";
}

TEST(DomainSet, HoldsAMillionDomainsInTensOfMegabytes) {
  constexpr std::size_t kCount = 1'000'000;
  DomainSet set;
  for (std::size_t n = 0; n < kCount; ++n) {
    ASSERT_EQ(set.add(nth_domain(n)), DomainSet::Added::added);
  }
  EXPECT_EQ(set.size(), kCount);
  for (std::size_t n = 0; n < kCount; ++n) {
    ASSERT_TRUE(set.matches(nth_domain(n)));
    ASSERT_FALSE(set.matches(nth_domain(kCount + n)));
  }
  // 31 octets of text and 8 of slot, each at most doubled by growth (and a quarter of slots free).
  EXPECT_LT(set.allocated_octets() / kCount, 2 * (31 + 11));
}

TEST(DomainSet, MatchesExactDomainsAndNothingNearThem) {
  DomainSet set;
  EXPECT_EQ(set.add("Example.ORG."), DomainSet::Added::added);
  EXPECT_TRUE(set.matches("example.org"));
  for (const char* near :
       {"notexample.org", "example.org.evil.test", "mail.example.org", "org", "xample.org",
        "example.or", "example.orga", "", "example-org", "example.com"}) {
    EXPECT_FALSE(set.matches(near)) << near;
  }
}

TEST(DomainSet, MatchesAnyDepthOfSubdomain) {
  DomainSet set;
  EXPECT_EQ(set.add("*.Example.org"), DomainSet::Added::added);
  for (const char* below : {"a.example.org", "a.b.example.org", "a.b.c.d.example.org"}) {
    EXPECT_TRUE(set.matches(below)) << below;
  }
  for (const char* other :
       {"example.org", "notexample.org", "a.notexample.org", "a.example.org.evil.test", "org",
        "example.org.example.com", "a.example.orga", ""}) {
    EXPECT_FALSE(set.matches(other)) << other;
  }
}

TEST(DomainSet, TellsDuplicatesAndWhatIsNoPattern) {
  DomainSet set;
  EXPECT_EQ(set.add("bücher.example"), DomainSet::Added::added);
  EXPECT_EQ(set.add("XN--bcher-kva.example."), DomainSet::Added::duplicate);
  EXPECT_EQ(set.add("*.bücher.example"), DomainSet::Added::added);
  EXPECT_EQ(set.add("*.xn--bcher-kva.example"), DomainSet::Added::duplicate);
  for (const char* malformed : {"", "*", "*.", "*.*.example", "**.example", "a.*.example",
                                "*example.org", ".example.org", "*..example.org", "@example.org"}) {
    EXPECT_EQ(set.add(malformed), DomainSet::Added::malformed) << malformed;
  }
  EXPECT_EQ(set.size(), 2U);
}

// Few labels, so that names meet often.
rc::Gen<std::string> any_domain() {
  const auto label = rc::gen::element<std::string>("a", "b", "aa", "ab", "a-b");
  return rc::gen::map(rc::gen::nonEmpty(rc::gen::container<std::vector<std::string>>(label)),
                      [](const std::vector<std::string>& labels) {
                        std::string name;
                        for (std::size_t i = 0; i < std::min<std::size_t>(labels.size(), 5); ++i) {
                          name += (i == 0 ? "" : ".") + labels[i];
                        }
                        return name;
                      });
}

TEST(DomainSet, AgreesWithASetOfPatterns) {
  EXPECT_TRUE(rc::check([] {
    std::set<std::string> patterns;
    DomainSet set;
    for (const auto& [domain, is_parent] :
         *rc::gen::container<std::vector<std::pair<std::string, bool>>>(
             rc::gen::pair(any_domain(), rc::gen::arbitrary<bool>()))) {
      const std::string pattern = (is_parent ? "*." : "") + domain;
      const bool is_new = patterns.insert(pattern).second;
      RC_ASSERT((set.add(pattern) == DomainSet::Added::added) == is_new);
    }
    RC_ASSERT(set.size() == patterns.size());
    for (const auto& name : *rc::gen::container<std::vector<std::string>>(any_domain())) {
      const bool want = std::ranges::any_of(patterns, [&](const std::string& pattern) {
        return pattern.starts_with('*') ? name.ends_with(pattern.substr(1)) : name == pattern;
      });
      RC_ASSERT(set.matches(name) == want);
    }
  }));
}

TEST(NormaliseDomain, ChangesNothingTheSecondTime) {
  EXPECT_TRUE(rc::check([] {
    const auto character =
        rc::gen::element<std::string>("a", "Z", "0", "-", "_", ".", "ü", "ß", "。", "ａ", "例");
    std::string text;
    for (const auto& c : *rc::gen::container<std::vector<std::string>>(character)) {
      text += c;
    }
    const auto once = normalise_domain(text);
    RC_PRE(once.has_value());
    RC_ASSERT(normalise_domain(*once) == once);
    RC_ASSERT(normalise_domain(to_u_labels(*once)) == once);
  }));
}

}  // namespace
}  // namespace postern::rules
