#include "smtp_proxy/core/sasl.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace postern::smtp_proxy {
namespace {

using rules::Reason;
using Response = SaslExchange::Response;
using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Bit by bit, as RFC 4648 4 describes it.
std::string base64(std::string_view text) {
  std::string bits;
  for (const char c : text) {
    for (unsigned bit = 8; bit-- > 0;) {
      bits += (static_cast<unsigned char>(c) >> bit & 1U) != 0 ? '1' : '0';
    }
  }
  std::string encoded;
  for (std::size_t at = 0; at < bits.size(); at += 6) {
    std::string group = bits.substr(at, 6);
    group.resize(6, '0');
    encoded += kAlphabet[std::stoul(group, nullptr, 2)];
  }
  encoded.resize((encoded.size() + 3) / 4 * 4, '=');
  return encoded;
}

struct BeginRow {
  std::string_view name;
  std::string argument;
  std::string mechanism;  // empty: refused
  std::string user{};
};

void PrintTo(const BeginRow& row, std::ostream* out) {
  *out << "AUTH " << row.argument;
}

class SaslBegin : public testing::TestWithParam<BeginRow> {};

TEST_P(SaslBegin, TakesAMechanismAndAnInitialResponse) {
  const auto exchange = SaslExchange::begin(GetParam().argument);
  if (GetParam().mechanism.empty()) {
    ASSERT_FALSE(exchange.has_value()) << "taken for " << exchange->mechanism();
    EXPECT_EQ(exchange.error(), Reason::syntax_error);
    return;
  }
  ASSERT_TRUE(exchange.has_value()) << label(exchange.error());
  EXPECT_EQ(exchange->mechanism(), GetParam().mechanism);
  EXPECT_EQ(exchange->user(), GetParam().user);
}

INSTANTIATE_TEST_SUITE_P(
    Argument, SaslBegin,
    testing::Values(
        BeginRow{"Alone", "PLAIN", "PLAIN"}, BeginRow{"AnyCase", "ScRaM-sHa_1", "SCRAM-SHA_1"},
        BeginRow{"OneCharacter", "7", "7"},
        BeginRow{"Longest", std::string(20, 'X'), std::string(20, 'X')},
        BeginRow{"TooLong", std::string(21, 'X'), ""}, BeginRow{"Nothing", "", ""},
        BeginRow{"ResponseAlone", " AGEAYg==", ""}, BeginRow{"OtherCharacter", "PLAIN.", ""},
        BeginRow{"EightBit", "PL\xc3\x84IN", ""}, BeginRow{"Tab", "PLAIN\tAGEAYg==", ""},
        BeginRow{"Nul", "PLAIN\0"s, ""}, BeginRow{"List", "PLAIN,LOGIN", ""},
        BeginRow{"Empty", "PLAIN =", "PLAIN"}, BeginRow{"EmptyOfLogin", "LOGIN =", "LOGIN"},
        BeginRow{"Plain", "plain AGEAYg==", "PLAIN", "a"},
        BeginRow{"TwoSpaces", "PLAIN  AGEAYg==", ""},
        BeginRow{"SpaceBehind", "PLAIN AGEAYg== ", ""},
        BeginRow{"NothingBehindTheSpace", "PLAIN ", ""},
        BeginRow{"TwoResponses", "PLAIN AGEA Yg==", ""}, BeginRow{"Cancelled", "PLAIN *", ""},
        BeginRow{"OnePadding", "LOGIN YWI=", "LOGIN", "ab"},
        BeginRow{"NoPadding", "LOGIN YWJj", "LOGIN", "abc"},
        BeginRow{"PaddingMissing", "LOGIN YWI", ""}, BeginRow{"PaddingTwice", "LOGIN YQ==YQ==", ""},
        BeginRow{"PaddingOnly", "LOGIN ====", ""}, BeginRow{"ThreePaddings", "LOGIN Y===", ""},
        BeginRow{"PaddingInside", "LOGIN Y=I=", ""},
        BeginRow{"UnusedBitsOfOneOctet", "LOGIN YR==", ""},
        BeginRow{"UnusedBitsOfTwoOctets", "LOGIN YWJ=", ""},
        BeginRow{"UrlAlphabet", "LOGIN -_-_", ""},
        BeginRow{"WholeAlphabet", "LOGIN +/+/", "LOGIN", "\xfb\xff\xbf"}),
    [](const auto& row) { return std::string(row.param.name); });

struct UserRow {
  std::string_view name;
  std::string mechanism;
  std::string response;  // the first, decoded
  std::string user;      // empty: unknown
};

void PrintTo(const UserRow& row, std::ostream* out) {
  *out << row.mechanism << ' ' << testing::PrintToString(row.response);
}

class SaslUser : public testing::TestWithParam<UserRow> {};

TEST_P(SaslUser, IsReadOfTheFirstResponse) {
  const UserRow& row = GetParam();
  const auto at_once = SaslExchange::begin(row.mechanism + ' ' + base64(row.response));
  ASSERT_TRUE(at_once.has_value()) << label(at_once.error());
  EXPECT_EQ(at_once->user(), row.user);

  auto later = SaslExchange::begin(row.mechanism);
  ASSERT_TRUE(later.has_value()) << label(later.error());
  EXPECT_EQ(later->user(), "");
  EXPECT_EQ(later->on_response(base64(row.response)), Response::sent);
  EXPECT_EQ(later->user(), row.user);
}

const std::string kLongestUser(kLongestUserOctets, 'u');
const std::string kTooLongUser(kLongestUserOctets + 1, 'u');

std::string commas(std::size_t count) {
  std::string escaped;
  while (count-- > 0) {
    escaped += "=2C";
  }
  return escaped;
}

INSTANTIATE_TEST_SUITE_P(
    Mechanism, SaslUser,
    testing::Values(
        UserRow{"Plain", "PLAIN", "\0tim\0tanstaaftanstaaf"s, "tim"},
        UserRow{"PlainActsForAnother", "PLAIN", "Ursel\0Kurt\0xipj3plmq"s, "Kurt"},
        UserRow{"PlainEmptyPassword", "PLAIN", "\0tim\0"s, "tim"},
        UserRow{"PlainNulInThePassword", "PLAIN", "\0tim\0a\0b"s, "tim"},
        UserRow{"PlainOneNul", "PLAIN", "tim\0secret"s, ""},
        UserRow{"PlainNoNul", "PLAIN", "tim", ""},
        UserRow{"PlainNobody", "PLAIN", "\0\0secret"s, ""},
        UserRow{"PlainLongest", "PLAIN", "\0"s + kLongestUser + "\0p"s, kLongestUser},
        UserRow{"PlainTooLong", "PLAIN", "\0"s + kTooLongUser + "\0p"s, ""},
        UserRow{"PlainLongAuthzid", "PLAIN", std::string(4000, 'z') + "\0tim\0p"s, "tim"},
        UserRow{"Login", "LOGIN", "tim@in.example", "tim@in.example"},
        UserRow{"LoginUtf8", "LOGIN", "t\xc3\xafm", "t\xc3\xafm"},
        UserRow{"LoginLongest", "LOGIN", kLongestUser, kLongestUser},
        UserRow{"LoginTooLong", "LOGIN", kTooLongUser, ""},
        UserRow{"LoginVeryLong", "LOGIN", std::string(9000, 'u'), ""},
        UserRow{"CramMd5", "CRAM-MD5", "tim b913a602c7eda7a495b4e6e7334d3890", "tim"},
        UserRow{"CramMd5NameWithSpace", "CRAM-MD5", "tim t b913a602c7eda7a495b4e6e7334d3890",
                "tim t"},
        UserRow{"CramMd5NoDigest", "CRAM-MD5", "tim", ""},
        UserRow{"CramMd5Longest", "CRAM-MD5", kLongestUser + " b913a602c7eda7a495b4e6e7334d3890",
                kLongestUser},
        UserRow{"CramMd5TooLong", "CRAM-MD5", kTooLongUser + " b913a602c7eda7a495b4e6e7334d3890",
                ""},
        UserRow{"CramMd5EndlessDigest", "CRAM-MD5", "tim t " + std::string(9000, '0'), ""},
        UserRow{"Scram", "SCRAM-SHA-1", "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "user"},
        UserRow{"ScramOtherHash", "SCRAM-SHA-256", "y,,n=user,r=rOprNGfwEbeRWgbNEkqO", "user"},
        UserRow{"ScramActsForAnother", "SCRAM-SHA-256", "n,a=boss=2Cn=3Dx,n=user,r=r", "user"},
        UserRow{"ScramChannelBinding", "SCRAM-SHA-1-PLUS", "p=tls-unique,,n=user,r=r", "user"},
        UserRow{"ScramEscapes", "SCRAM-SHA-1", "n,,n=a=2Cb=3Dc,r=r", "a,b=c"},
        UserRow{"ScramLowerCaseEscape", "SCRAM-SHA-1", "n,,n=a=2cb,r=r", ""},
        UserRow{"ScramOtherEscape", "SCRAM-SHA-1", "n,,n=a=41b,r=r", ""},
        UserRow{"ScramCutEscape", "SCRAM-SHA-1", "n,,n=a=2,r=r", ""},
        UserRow{"ScramExtension", "SCRAM-SHA-1", "n,,m=x,n=user,r=r", ""},
        UserRow{"ScramWithoutNonce", "SCRAM-SHA-1", "n,,n=user", ""},
        UserRow{"ScramWithoutHeader", "SCRAM-SHA-1", "n=user,r=r", ""},
        UserRow{"ScramNobody", "SCRAM-SHA-1", "n,,n=,r=r", ""},
        UserRow{"ScramLongest", "SCRAM-SHA-1", "n,,n=" + kLongestUser + ",r=r", kLongestUser},
        UserRow{"ScramLongestEscaped", "SCRAM-SHA-1", "n,,n=" + commas(kLongestUserOctets) + ",r=r",
                std::string(kLongestUserOctets, ',')},
        UserRow{"ScramTooLongEscaped", "SCRAM-SHA-1",
                "n,,n=" + commas(kLongestUserOctets + 1) + ",r=r", ""},
        UserRow{"Xoauth2", "XOAUTH2", "user=tim\1auth=Bearer vF9dft4qmT\1\1", ""},
        UserRow{"Unknown", "DIGEST-MD5", "username=\"tim\"", ""},
        UserRow{"NearlyScram", "SCRAMBLED", "n,,n=user,r=r", ""}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(SaslExchange, NeverTakesAPasswordForAUser) {
  auto exchange = SaslExchange::begin("LOGIN");
  EXPECT_EQ(exchange->on_response(base64("tim")), Response::sent);
  EXPECT_EQ(exchange->on_response(base64("secret")), Response::sent);
  EXPECT_EQ(exchange->user(), "tim");

  auto at_once = SaslExchange::begin("LOGIN " + base64("tim"));
  EXPECT_EQ(at_once->on_response(base64("secret")), Response::sent);
  EXPECT_EQ(at_once->user(), "tim");

  for (const std::string_view argument : {"LOGIN ="sv, "LOGIN"sv}) {
    auto nobody = SaslExchange::begin(argument);
    if (argument == "LOGIN") {
      EXPECT_EQ(nobody->on_response(""), Response::sent);
    }
    EXPECT_EQ(nobody->on_response(base64("secret")), Response::sent);
    EXPECT_EQ(nobody->user(), "") << argument;
  }
}

TEST(SaslExchange, KnowsNobodyBehindAMalformedResponse) {
  auto exchange = SaslExchange::begin("LOGIN");
  EXPECT_EQ(exchange->on_response("dGlt="), Response::malformed);
  EXPECT_EQ(exchange->on_response("*"), Response::cancelled);
  EXPECT_EQ(exchange->user(), "");
}

struct ResponseRow {
  std::string line;
  Response response;
};

TEST(SaslExchange, TellsAResponseFromACancellationAndFromNeither) {
  for (const ResponseRow& row :
       std::vector<ResponseRow>{{"", Response::sent},
                                {"dGlt", Response::sent},
                                {"YQ==", Response::sent},
                                {base64(std::string(9'214, 'x')), Response::sent},
                                {"*", Response::cancelled},
                                {"**", Response::malformed},
                                {"* ", Response::malformed},
                                {" *", Response::malformed},
                                {"=", Response::malformed},
                                {"YQ", Response::malformed},
                                {"YQ=", Response::malformed},
                                {"YQ== ", Response::malformed},
                                {"YY==", Response::malformed},  // each bit that belongs to no octet
                                {"YU==", Response::malformed},
                                {"YS==", Response::malformed},
                                {"YR==", Response::malformed},
                                {"YWK=", Response::malformed},
                                {"YWJ=", Response::malformed},
                                {" YQ==", Response::malformed},
                                {"YQ==\r", Response::malformed},
                                {"YQ\0="s, Response::malformed},
                                {"Y\xc3\x84=", Response::malformed},
                                {"RCPT TO:<a@far.example>", Response::malformed},
                                {"QUIT", Response::sent}}) {  // it is base64
    auto exchange = SaslExchange::begin("X");
    EXPECT_EQ(exchange->on_response(row.line), row.response) << testing::PrintToString(row.line);
  }
}

struct MechanismsRow {
  std::string_view parameters;
  std::string_view shown;
};

TEST(RelayableMechanisms, LeavesOutWhatIsBoundToAConnection) {
  for (const MechanismsRow& row :
       {MechanismsRow{"PLAIN LOGIN", " PLAIN LOGIN"}, MechanismsRow{"", ""},
        MechanismsRow{"  PLAIN   LOGIN  ", " PLAIN LOGIN"},
        MechanismsRow{"plain Login", " PLAIN LOGIN"},
        MechanismsRow{"PLAIN LOGIN PLAIN plain", " PLAIN LOGIN"}, MechanismsRow{"EXTERNAL", ""},
        MechanismsRow{"external PLAIN", " PLAIN"},
        MechanismsRow{"EXTERNALS PLUS", " EXTERNALS PLUS"},
        MechanismsRow{"SCRAM-SHA-1-PLUS SCRAM-SHA-1 SCRAM-SHA-256-plus", " SCRAM-SHA-1"},
        MechanismsRow{"PLAIN, LOG=IN GSS\tAPI \xc3\x84 NTLM", " NTLM"},
        MechanismsRow{"ABCDEFGHIJKLMNOPQRSTU ABCDEFGHIJKLMNOPQRST", " ABCDEFGHIJKLMNOPQRST"}}) {
    EXPECT_EQ(relayable_mechanisms(row.parameters), row.shown) << row.parameters;
  }
}

// ---- for anything at all

// By another way than the code's: what decodes to something that is written the same.
bool is_model_base64(std::string_view text) {
  std::string bits;
  const std::size_t end = std::min(text.find('='), text.size());
  for (const char c : text.substr(0, end)) {
    const std::size_t sextet = kAlphabet.find(c);
    if (sextet == std::string_view::npos) {
      return false;
    }
    for (unsigned bit = 6; bit-- > 0;) {
      bits += (sextet >> bit & 1U) != 0 ? '1' : '0';
    }
  }
  std::string decoded;
  for (std::size_t at = 0; at + 8 <= bits.size(); at += 8) {
    decoded += static_cast<char>(std::stoul(bits.substr(at, 8), nullptr, 2));
  }
  return base64(decoded) == text;
}

// Nearly base64, so that both answers are met.
rc::Gen<std::string> any_response() {
  const auto character =
      rc::gen::weightedOneOf<char>({{20, rc::gen::elementOf(std::string(kAlphabet))},
                                    {3, rc::gen::element('=', '*', ' ', '\r', '\n', '\0', '-')},
                                    {1, rc::gen::arbitrary<char>()}});
  return rc::gen::oneOf(
      rc::gen::container<std::string>(character),
      rc::gen::map(rc::gen::arbitrary<std::string>(), [](const auto& s) { return base64(s); }),
      rc::gen::map(rc::gen::pair(rc::gen::arbitrary<std::string>(), character), [](const auto& p) {
        std::string text = base64(p.first);
        if (!text.empty()) {
          text.back() = p.second;
        }
        return text;
      }));
}

RC_GTEST_PROP(SaslProperty, NothingButBase64IsAResponse, ()) {
  const std::string text = *any_response();
  const bool is_good = is_model_base64(text);
  auto exchange = SaslExchange::begin("X");
  const Response expected = text == "*" ? Response::cancelled
                            : is_good   ? Response::sent
                                        : Response::malformed;
  RC_ASSERT(exchange->on_response(text) == expected);
  RC_ASSERT(SaslExchange::begin("X " + text).has_value() ==
            ((is_good && !text.empty()) || text == "="));
  RC_CLASSIFY(is_good);
}

RC_GTEST_PROP(SaslProperty, AnyUserComesThroughEachMechanism, ()) {
  auto user = *rc::gen::suchThat(rc::gen::arbitrary<std::string>(), [](const std::string& text) {
    return text.size() <= kLongestUserOctets && text.find('\0') == std::string::npos;
  });
  std::string saslname;
  for (const char c : user) {
    saslname += c == ',' ? "=2C" : c == '=' ? "=3D" : std::string(1, c);
  }
  const auto read = [](const std::string& mechanism, const std::string& response) {
    auto exchange = SaslExchange::begin(mechanism);
    RC_ASSERT(exchange->on_response(base64(response)) == Response::sent);
    return exchange->user();
  };
  const auto password = *rc::gen::arbitrary<std::string>();
  RC_ASSERT(read("PLAIN", "\0"s + user + '\0' + password) == user);
  RC_ASSERT(read("LOGIN", user) == user);
  RC_ASSERT(read("CRAM-MD5", user + " 0123456789abcdef0123456789abcdef") == user);
  RC_ASSERT(read("SCRAM-SHA-512", "n,a=x,n=" + saslname + ",r=" + password) == user);
}

RC_GTEST_PROP(SaslProperty, WhatIsShownIsShownAgainTheSame,
              (const std::vector<std::string>& words)) {
  std::string parameters;
  for (const std::string& word : words) {
    parameters += word + *rc::gen::element<std::string>(" ", " PLAIN ", " EXTERNAL X-PLUS ", "");
  }
  const std::string shown = relayable_mechanisms(parameters);
  RC_ASSERT(relayable_mechanisms(shown) == shown);
  RC_ASSERT(shown.find("EXTERNAL ") == std::string::npos);
}

}  // namespace
}  // namespace postern::smtp_proxy
