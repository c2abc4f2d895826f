#include "rules/path.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <ostream>

namespace postern::rules {

void PrintTo(PathError error, std::ostream* out) {
  *out << (error == PathError::malformed ? "malformed" : "needs_smtputf8");
}

namespace {

const std::string kLocal256(256, 'l');
const std::string kLabel63(63, 'a');
const std::string kName253 =
    kLabel63 + '.' + kLabel63 + '.' + kLabel63 + '.' + std::string(61, 'b');

// What is wanted of a path in one word each; letters in `flags`: s source route, q quoted local
// part, r routing character, a quoted at sign.
struct Accepted {
  std::string text;
  std::string printed;
  std::string domain;  // normalised, or the literal
  std::string flags;
  std::string rest;
};

std::string flags_of(const ForwardPath& path) {
  std::string flags;
  flags += path.has_source_route ? "s" : "";
  flags += path.mailbox.local_part_is_quoted ? "q" : "";
  flags += path.mailbox.has_routing_character ? "r" : "";
  flags += path.mailbox.has_quoted_at_sign ? "a" : "";
  return flags;
}

std::string domain_of(const Mailbox& mailbox) {
  switch (mailbox.domain_form) {
    case DomainForm::none:
      return "";
    case DomainForm::name:
      return mailbox.normalised_domain;
    case DomainForm::literal:
      return mailbox.domain;
  }
  return "?";
}

void expect_accepted(const Accepted& row, bool allow_utf8) {
  SCOPED_TRACE(row.text);
  const auto parsed = parse_forward_path(row.text, allow_utf8);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->path.to_string(), row.printed);
  EXPECT_EQ(domain_of(parsed->path.mailbox), row.domain);
  EXPECT_EQ(flags_of(parsed->path), row.flags);
  EXPECT_EQ(parsed->rest, row.rest);
  // A reverse-path is the same, and may also be empty.
  const auto reverse = parse_reverse_path(row.text, allow_utf8);
  ASSERT_TRUE(reverse);
  EXPECT_EQ(reverse->path.mailbox, parsed->path.mailbox);
  EXPECT_EQ(reverse->path.has_source_route, parsed->path.has_source_route);
  EXPECT_EQ(reverse->path.to_string(), row.printed);
  EXPECT_EQ(reverse->rest, row.rest);
}

TEST(ParsePath, TakesMailboxesApart) {
  const Accepted rows[] = {
      {"<user@example.org>", "<user@example.org>", "example.org", "", ""},
      {"<User@EXAMPLE.Org>", "<User@EXAMPLE.Org>", "example.org", "", ""},
      {"<user@example.org.>", "<user@example.org>", "example.org", "", ""},
      {"<user@localhost>", "<user@localhost>", "localhost", "", ""},
      {"<user@my_host.example>", "<user@my_host.example>", "my_host.example", "", ""},
      {"<a.b.c@example.org>", "<a.b.c@example.org>", "example.org", "", ""},
      {"<#$&'*+-/=?^_`{|}~@example.org>", "<#$&'*+-/=?^_`{|}~@example.org>", "example.org", "", ""},
      {"<user+tag@example.org>", "<user+tag@example.org>", "example.org", "", ""},
      {"<0@example.org>", "<0@example.org>", "example.org", "", ""},
      {"<user@example.org> SIZE=1 BODY=8BITMIME", "<user@example.org>", "example.org", "",
       " SIZE=1 BODY=8BITMIME"},
      {"<user@example.org> ", "<user@example.org>", "example.org", "", " "},
      {"<" + kLocal256 + "@example.org>", "<" + kLocal256 + "@example.org>", "example.org", "", ""},
      {"<u@" + kName253 + ">", "<u@" + kName253 + ">", kName253, "", ""},
      {"<u@" + kName253 + ".>", "<u@" + kName253 + ">", kName253, "", ""},
      // without brackets
      {"user@example.org", "<user@example.org>", "example.org", "", ""},
      {"user@example.org SIZE=1", "<user@example.org>", "example.org", "", " SIZE=1"},
      {"\"a b\"@example.org X", "<\"a b\"@example.org>", "example.org", "q", " X"},
      {"user@[192.0.2.1] X", "<user@[192.0.2.1]>", "[192.0.2.1]", "", " X"},
      {"postmaster", "<postmaster>", "", "", ""},
      {"User <u@example.org>", "<User>", "", "",
       " <u@example.org>"},  // no parameter: refused there
      // without domain
      {"<postmaster>", "<postmaster>", "", "", ""},
      {"<Postmaster> X", "<Postmaster>", "", "", " X"},
      {"<\"a b\">", "<\"a b\">", "", "q", ""},
      {"<user%foreign.test>", "<user%foreign.test>", "", "r", ""},
      // quoted strings
      {"<\"\"@example.org>", "<\"\"@example.org>", "example.org", "q", ""},
      {"<\"user\"@example.org>", "<\"user\"@example.org>", "example.org", "q", ""},
      {"<\"a>b\"@example.org>", "<\"a>b\"@example.org>", "example.org", "q", ""},
      {"<\"a\\\"b\"@example.org>", "<\"a\\\"b\"@example.org>", "example.org", "q", ""},
      {"<\"a\\\\\"@example.org>", "<\"a\\\\\"@example.org>", "example.org", "q", ""},
      {"<\"\\ \\a\"@example.org>", "<\"\\ \\a\"@example.org>", "example.org", "q", ""},
      {"<\"<a>,(b);[c]\"@example.org>", "<\"<a>,(b);[c]\"@example.org>", "example.org", "q", ""},
      // what is rerouted
      {"<user%foreign.test@example.org>", "<user%foreign.test@example.org>", "example.org", "r",
       ""},
      {"<foreign.test!user@example.org>", "<foreign.test!user@example.org>", "example.org", "r",
       ""},
      {"<\"user%foreign.test\"@example.org>", "<\"user%foreign.test\"@example.org>", "example.org",
       "qr", ""},
      {"<\"user\\%foreign.test\"@example.org>", "<\"user\\%foreign.test\"@example.org>",
       "example.org", "qr", ""},
      {"<\"foreign.test\\!user\"@example.org>", "<\"foreign.test\\!user\"@example.org>",
       "example.org", "qr", ""},
      {"<\"node::user\"@example.org>", "<\"node::user\"@example.org>", "example.org", "qr", ""},
      {"<\"user@foreign.test\"@example.org>", "<\"user@foreign.test\"@example.org>", "example.org",
       "qa", ""},
      {"<\"user\\@foreign.test\"@example.org>", "<\"user\\@foreign.test\"@example.org>",
       "example.org", "qa", ""},
      {"<\"@foreign.test:user\"@example.org>", "<\"@foreign.test:user\"@example.org>",
       "example.org", "qra", ""},
      {"<\"user@foreign.test\">", "<\"user@foreign.test\">", "", "qa", ""},
      // source routes
      {"<@a.example:user@example.org>", "<user@example.org>", "example.org", "s", ""},
      {"<@a.example,@b.example:user@example.org> X", "<user@example.org>", "example.org", "s",
       " X"},
      {"<@example.org:user@foreign.test>", "<user@foreign.test>", "foreign.test", "s", ""},
      {"<@a.example.:\"b@c\"@example.org>", "<\"b@c\"@example.org>", "example.org", "sqa", ""},
      {"<@a.example:user@[192.0.2.1]>", "<user@[192.0.2.1]>", "[192.0.2.1]", "s", ""},
      // address literals
      {"<user@[192.0.2.1]>", "<user@[192.0.2.1]>", "[192.0.2.1]", "", ""},
      {"<user@[IPv6:2001:db8::1]>", "<user@[IPv6:2001:db8::1]>", "[IPv6:2001:db8::1]", "", ""},
      {"<user@[ipv6:2001:DB8::1]>", "<user@[ipv6:2001:DB8::1]>", "[ipv6:2001:DB8::1]", "", ""},
      {"<user@[IPv6:::ffff:192.0.2.1]>", "<user@[IPv6:::ffff:192.0.2.1]>",
       "[IPv6:::ffff:192.0.2.1]", "", ""},
      {"<user@[x-tag:any!thing@here]>", "<user@[x-tag:any!thing@here]>", "[x-tag:any!thing@here]",
       "", ""},
  };
  for (const Accepted& row : rows) {
    expect_accepted(row, false);
    expect_accepted(row, true);
  }
}

TEST(ParsePath, TakesUtf8WhereAgreed) {
  const Accepted rows[] = {
      {"<мир@example.org>", "<мир@example.org>", "example.org", "", ""},
      {"<\"я б\"@example.org> SMTPUTF8", "<\"я б\"@example.org>", "example.org", "q", " SMTPUTF8"},
      {"<u@bücher.example>", "<u@bücher.example>", "xn--bcher-kva.example", "", ""},
      {"<u@BÜCHER.example.>", "<u@bücher.example>", "xn--bcher-kva.example", "", ""},
      {"<u@bücher。example>", "<u@bücher.example>", "xn--bcher-kva.example", "", ""},
      {"<u@ｅｘａｍｐｌｅ.org>", "<u@example.org>", "example.org", "", ""},
      {"<u@faß.example>", "<u@xn--fa-hia.example>", "xn--fa-hia.example", "", ""},
      {"<@bücher.example:u@example.org>", "<u@example.org>", "example.org", "s", ""},
      {"<\U0001f4ee@example.org>", "<\U0001f4ee@example.org>", "example.org", "", ""},
      {"\U0001f4ee", "<\U0001f4ee>", "", "", ""},
      // full-width routing
      {"<u％foreign.test@example.org>", "<u％foreign.test@example.org>", "example.org", "r", ""},
      {"<u＠foreign.test@example.org>", "<u＠foreign.test@example.org>", "example.org", "r", ""},
      {"<foreign.test！u@example.org>", "<foreign.test！u@example.org>", "example.org", "r", ""},
      // every other character that NFKC (Unicode 14) turns into one with %, !, @ or : in it
      {"<x\u203cu@example.org>", "<x\u203cu@example.org>", "example.org", "r", ""},
      {"<x\u2048u@example.org>", "<x\u2048u@example.org>", "example.org", "r", ""},
      {"<x\u2049u@example.org>", "<x\u2049u@example.org>", "example.org", "r", ""},
      {"<x\u2a74u@example.org>", "<x\u2a74u@example.org>", "example.org", "r", ""},
      {"<x\ufe13u@example.org>", "<x\ufe13u@example.org>", "example.org", "r", ""},
      {"<x\ufe15u@example.org>", "<x\ufe15u@example.org>", "example.org", "r", ""},
      {"<x\ufe55u@example.org>", "<x\ufe55u@example.org>", "example.org", "r", ""},
      {"<x\ufe57u@example.org>", "<x\ufe57u@example.org>", "example.org", "r", ""},
      {"<x\ufe6au@example.org>", "<x\ufe6au@example.org>", "example.org", "r", ""},
      {"<x\ufe6bu@example.org>", "<x\ufe6bu@example.org>", "example.org", "r", ""},
      {"<x\uff1au@example.org>", "<x\uff1au@example.org>", "example.org", "r", ""},
  };
  for (const Accepted& row : rows) {
    expect_accepted(row, true);
    EXPECT_EQ(parse_forward_path(row.text, false).error(), PathError::needs_smtputf8) << row.text;
    EXPECT_EQ(parse_reverse_path(row.text, false).error(), PathError::needs_smtputf8) << row.text;
  }
}

TEST(ParsePath, LooksAtTheEightBitBytesOfThePathOnly) {
  const auto parsed = parse_forward_path("<u@example.org> X=\xff", false);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->rest, " X=\xff");
}

TEST(ParsePath, RefusesWhatTheGrammarDoesNotHave) {
  const std::string rows[] = {
      "",
      " ",
      "<",
      ">",
      "<<>>",
      "< >",
      "@",
      "<@>",
      "u@",
      "<u@>",
      "@example.org",
      "<@example.org>",
      "<@example.org:>",
      "<@example.org:user>",
      "<@example.org,:u@example.org>",
      "<@a.example,b.example:u@example.org>",
      "<@a.example@b.example:u@example.org>",
      "<@a.example;u@example.org>",
      "<@:u@example.org>",
      "<@[192.0.2.1]:u@example.org>",
      "<@a.example: u@example.org>",
      "@a.example:u@example.org",
      "<a.example:u@example.org>",
      " <u@example.org>",
      "< u@example.org>",
      "<u@example.org >",
      "<u @example.org>",
      "<u@ example.org>",
      "<u@example.org",
      "u@example.org>",
      "<u@example.org>>",
      "<<u@example.org>>",
      "<u@example.org>X",
      "<u@example.org>\tX",
      "<u@example.org>,<v@example.org>",
      "<u@example.org,v@foreign.test>",
      "<u,v@example.org>",
      "u,v@example.org",
      "<u@foreign.test>@example.org",
      "<u@foreign.test@example.org>",
      "u@foreign.test@example.org",
      "<u@example.org@foreign.test>",
      "<u@example.org%foreign.test>",
      "<u@foreign.test!example.org>",
      "<u@example.org:25>",
      "<u@example.org/x>",
      "<u(comment)@example.org>",
      "<u@example.org(comment)>",
      "<User Name <u@example.org>>",
      "<mailto:u@example.org>",
      "<u;v@example.org>",
      "<u:v@example.org>",
      "<u\\@foreign.test@example.org>",
      "<u\\%x@example.org>",
      "<.u@example.org>",
      "<u.@example.org>",
      "<u..v@example.org>",
      "<u@.example.org>",
      "<u@example..org>",
      "<u@example.org..>",
      "<u@-example.org>",
      "<u@example.org->",
      "<u@1.2.3.4>",
      "<u@example.org\r\n>",
      "<u@example.org>\r",
      "<u@example.org>\r\nRCPT TO:<v@foreign.test>",
      "<u\n@example.org>",
      "<u\t@example.org>",
      "<\"u\tv\"@example.org>",
      "<\"u\x01v\"@example.org>",
      "<\"u\\\nv\"@example.org>",
      "<\"u\x7fv\"@example.org>",
      "<u\x7f@example.org>",
      std::string("<u\0@example.org>", 16),
      std::string("<\"u\0\"@example.org>", 18),
      std::string("<u@example.org\0.foreign.test>", 29),
      std::string("<u@example.org>\0", 16),
      "<\"u@example.org>",
      "<u\"@example.org>",
      "<\"u\\\"@example.org>",
      "<\"u\"v@example.org>",
      "<\"u\".v@example.org>",
      "<v.\"u\"@example.org>",
      "<\"u\"\"v\"@example.org>",
      "<\"u\"@foreign.test@example.org>",
      "<u@\"example.org\">",
      "<u@[]>",
      "<u@[192.0.2]>",
      "<u@[192.0.2.256]>",
      "<u@[192.0.2.01]>",
      "<u@[192.0.2.1]",
      "<u@192.0.2.1]>",
      "<u@[[192.0.2.1]]>",
      "<u@[192.0.2.1].example>",
      "<u@[192.0.2.1]:25>",
      "<u@[ 192.0.2.1]>",
      "<u@[2001:db8::1]>[",
      "<u@[IPv6:]>",
      "<u@[IPv6:192.0.2.1]>",
      "<u@[IPv6:2001:db8::zz]>",
      "<u@[IPv6:2001:db8::1%eth0]>",
      "<u@[IPv6:1:2:3:4:5:6:7:8:9]>",
      "<u@[example.org]>",
      "<u@[tag:]>",
      "<u@[:content]>",
      "<u@[tag-:content]>",
      "<u@[t_g:content]>",
      "<u@[tag:con tent]>",
      "<u@[tag:con\\tent]>",
      "<u@[tag:" + std::string(300, 'x') + "]>",
      "<" + kLocal256 + "l@example.org>",
      "<u@" + kLabel63 + "a.example>",
      "<u@" + kName253 + "b>",
      "<u@" + kName253 + "..>",
      // not UTF-8
      "<\xff@example.org>",
      "<\xc3@example.org>",
      "<\xc0\x80@example.org>",
      "<\xc1\x80@example.org>",
      "<\xe0\x80\x80@example.org>",
      "<\xe0\x9f\xbf@example.org>",
      "<\xed\xa0\x80@example.org>",
      "<\xf0\x80\x80\x80@example.org>",
      "<\xf0\x8f\xbf\xbf@example.org>",
      "<\xf4\x90\x80\x80@example.org>",
      "<\xf5\x80\x80\x80@example.org>",
      "<\x80@example.org>",
      "<\"\xe9\"@example.org>",
      "<u@b\xfc"
      "cher.example>",
      "\xf0\x9f\x93",
      // UTF-8 where it may not stand
      "<\"\\ü\"@example.org>",
      "<u@[tag:ü]>",
      "<u@＠.example>",
      "＜u@example.org＞",
      "<u＠example.org@>",
  };
  for (const std::string& text : rows) {
    for (const bool allow_utf8 : {false, true}) {
      const auto forward = parse_forward_path(text, allow_utf8);
      EXPECT_TRUE(!forward && forward.error() == PathError::malformed) << text;
      const auto reverse = parse_reverse_path(text, allow_utf8);
      EXPECT_TRUE(!reverse && reverse.error() == PathError::malformed) << text;
    }
  }
}

TEST(ParsePath, TakesTheNullPathForASenderOnly) {
  const auto sender = parse_reverse_path("<> SIZE=1", false);
  ASSERT_TRUE(sender);
  EXPECT_FALSE(sender->path.mailbox);
  EXPECT_EQ(sender->path.to_string(), "<>");
  EXPECT_EQ(sender->rest, " SIZE=1");
  EXPECT_EQ(parse_forward_path("<>", false).error(), PathError::malformed);
  EXPECT_EQ(parse_forward_path("<> SIZE=1", true).error(), PathError::malformed);
}

TEST(ParsePath, GivesTheRestAsAViewOfItsInput) {
  const std::string text = "<u@example.org> SIZE=1";
  const auto parsed = parse_forward_path(text, false);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->rest.data(), text.data() + 15);
}

TEST(Mailbox, KnowsTheAddressOfALiteral) {
  struct Row {
    const char* path;
    const char* want;  // nullptr: none
  };
  constexpr Row kRows[] = {{"<u@[192.0.2.1]>", "192.0.2.1"},
                           {"<u@[IPv6:2001:db8::1]>", "2001:db8::1"},
                           {"<u@[IPv6:::ffff:192.0.2.1]>", "192.0.2.1"},
                           {"<u@[tag:192.0.2.1]>", nullptr},
                           {"<u@example.org>", nullptr}};
  for (const Row& row : kRows) {
    const auto parsed = parse_forward_path(row.path, false);
    ASSERT_TRUE(parsed) << row.path;
    const auto want = row.want == nullptr ? std::nullopt : IpAddress::parse(row.want);
    EXPECT_EQ(parsed->path.mailbox.literal_address, want) << row.path;
  }
}

TEST(ForwardPath, KnowsTheDomainlessPostmasterInAnyCase) {
  const auto is_postmaster = [](const char* text) {
    return parse_forward_path(text, false)->path.is_domainless_postmaster();
  };
  EXPECT_TRUE(is_postmaster("<postmaster>"));
  EXPECT_TRUE(is_postmaster("<PostMaster>"));
  EXPECT_TRUE(is_postmaster("POSTMASTER"));
  EXPECT_FALSE(is_postmaster("<postmaster@example.org>"));
  EXPECT_FALSE(is_postmaster("<postmasters>"));
  EXPECT_FALSE(is_postmaster("<postmaste>"));
  EXPECT_FALSE(is_postmaster("<postmaster%foreign.test>"));
}

// Pieces of the grammar, and pieces next to it.
rc::Gen<std::string> any_path() {
  const auto piece = rc::gen::weightedElement<std::string>(
      {{3, "<"},  {3, ">"},    {4, "@"},    {1, "\""},    {1, "\\"},       {2, "."},
       {1, ","},  {1, ":"},    {1, "["},    {1, "]"},     {1, "%"},        {1, " "},
       {1, "\""}, {2, "a"},    {2, "b1"},   {2, "x.org"}, {1, "-"},        {1, "ü"},
       {1, "ß"},  {1, "\x7f"}, {1, "\xff"}, {1, "。"},    {1, "IPv6:::1"}, {1, "192.0.2.1"}});
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece),
                      [](const std::vector<std::string>& pieces) {
                        std::string text;
                        for (const auto& part : pieces) {
                          text += part;
                        }
                        return text;
                      });
}

rc::Gen<std::string> any_local_part() {
  const auto atom = rc::gen::element<std::string>("a", "b.c", "x%y", "x!y", "ü", "/|=", "+");
  const auto quoted =
      rc::gen::map(rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
                       "a", " ", "\\\"", "\\\\", "@", "\\@", "%", ":", ">", "<", "ü", "[", ",")),
                   [](const std::vector<std::string>& pieces) {
                     std::string text = "\"";
                     for (const auto& part : pieces) {
                       text += part;
                     }
                     return text + '"';
                   });
  return rc::gen::oneOf(atom, quoted);
}

rc::Gen<std::string> any_well_formed_path() {
  const auto route = rc::gen::element<std::string>("", "@a.example:", "@a.example,@b.example.:");
  const auto domain = rc::gen::element<std::string>(
      "@example.org", "@EXAMPLE.org.", "@[192.0.2.1]", "@[IPv6:2001:db8::1]", "@[x-a:b@c!d]",
      "@bücher.example", "@BÜCHER。example", "@faß.example", "@_a.b");
  return rc::gen::map(rc::gen::tuple(route, any_local_part(), domain), [](const auto& parts) {
    return '<' + std::get<0>(parts) + std::get<1>(parts) + std::get<2>(parts) + '>';
  });
}

template <typename Parse>
void expect_read_back(const std::string& text, Parse parse) {
  const auto first = parse(text, true);
  if (!first) {
    return;
  }
  const auto again = parse(first->path.to_string(), true);
  RC_ASSERT(again.has_value());
  RC_ASSERT(again->path.mailbox == first->path.mailbox);
  RC_ASSERT(again->path.to_string() == first->path.to_string());
  RC_ASSERT(!again->path.has_source_route);
  RC_ASSERT(again->rest.empty());
}

void expect_read_back(const std::string& text) {
  expect_read_back(text, parse_forward_path);
  expect_read_back(text, parse_reverse_path);
}

TEST(ParsePath, ReadsBackWhatItPrints) {
  EXPECT_TRUE(rc::check([] {
    const std::string text = *any_well_formed_path();
    RC_ASSERT(parse_forward_path(text, true).has_value());
    expect_read_back(text);
  }));
  EXPECT_TRUE(rc::check([] { expect_read_back(*any_path()); }));
  EXPECT_TRUE(rc::check([] { expect_read_back('<' + *any_path() + '>'); }));
}

TEST(ParsePath, NeverPrintsWhatItWasNotGiven) {
  EXPECT_TRUE(rc::check([] {
    const std::string text = *rc::gen::oneOf(any_path(), any_well_formed_path());
    const auto parsed = parse_forward_path(text, false);
    RC_PRE(parsed.has_value());
    // In 7 bits nothing is rewritten: what is printed is a piece of the input.
    const std::string printed = parsed->path.mailbox.to_string();
    RC_ASSERT(text.contains(printed));
  }));
}

}  // namespace
}  // namespace postern::rules
