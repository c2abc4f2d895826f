#include "smtp_proxy/core/extension.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

Extensions offering(std::initializer_list<Extension> extensions) {
  Extensions offered;
  for (const Extension extension : extensions) {
    offered.add(extension);
  }
  return offered;
}

Extensions everything() {
  Extensions offered;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Extension::count_); ++i) {
    offered.add(static_cast<Extension>(i));
  }
  return offered;
}

// STARTTLS and AUTH are shown only where the dialogue says so.
Extensions everything_followed_by_itself() {
  Extensions offered = everything();
  offered.remove(Extension::starttls);
  offered.remove(Extension::auth);
  return offered;
}

struct EhloRow {
  std::string_view name;
  std::string_view reply;
  std::string_view shown;
  Extensions offered;
};

void PrintTo(const EhloRow& row, std::ostream* out) {
  *out << row.name;
}

class EhloTable : public testing::TestWithParam<EhloRow> {};

TEST_P(EhloTable, ShowsWhatIsUnderstood) {
  const FilteredEhlo filtered = filter_ehlo(GetParam().reply);
  EXPECT_EQ(filtered.text, GetParam().shown);
  EXPECT_EQ(filtered.offered, GetParam().offered);
}

INSTANTIATE_TEST_SUITE_P(
    Ehlo, EhloTable,
    testing::Values(
        EhloRow{"GreetingAlone", "250 mx.example\r\n", "250 mx.example\r\n", {}},
        EhloRow{"ThreeCharacters", "250\r\n", "250\r\n", {}},
        EhloRow{"Everything",
                "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-8BITMIME\r\n"
                "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-LIMITS RCPTMAX=9\r\n"
                "250-MT-PRIORITY MIXER\r\n250-RRVS\r\n250-DELIVERBY 240\r\n250-BINARYMIME\r\n"
                "250-CHUNKING\r\n250 FUTURERELEASE 1000 2030-01-01T00:00:00Z\r\n",
                "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-8BITMIME\r\n"
                "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-LIMITS RCPTMAX=9\r\n"
                "250-MT-PRIORITY MIXER\r\n250-RRVS\r\n250-DELIVERBY 240\r\n250-BINARYMIME\r\n"
                "250-CHUNKING\r\n250 FUTURERELEASE 1000 2030-01-01T00:00:00Z\r\n",
                everything_followed_by_itself()},
        EhloRow{"LastLineHidden", "250-mx.example\r\n250-SIZE 1\r\n250 STARTTLS\r\n",
                "250-mx.example\r\n250 SIZE 1\r\n", offering({Extension::size})},
        EhloRow{"MiddleLineHidden", "250-mx.example\r\n250-STARTTLS\r\n250 SIZE 1\r\n",
                "250-mx.example\r\n250 SIZE 1\r\n", offering({Extension::size})},
        EhloRow{"OnlyTheGreetingLeft",
                "250-mx.example hello\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-AUTH=PLAIN\r\n"
                "250-VRFY\r\n250-ETRN\r\n250-XCLIENT ADDR\r\n"
                "250 HELP\r\n",
                "250 mx.example hello\r\n",
                {}},
        EhloRow{"BinaryWithoutChunking", "250-mx\r\n250-BINARYMIME\r\n250 DSN\r\n",
                "250-mx\r\n250 DSN\r\n", offering({Extension::dsn})},
        EhloRow{"GreetingThatLooksLikeAKeyword",
                "250-PIPELINING\r\n250 HELP\r\n",
                "250 PIPELINING\r\n",
                {}},
        EhloRow{"LowerCase", "250-mx\r\n250 pipelining\r\n", "250-mx\r\n250 pipelining\r\n",
                offering({Extension::pipelining})},
        EhloRow{"LongerKeyword", "250-mx\r\n250 PIPELININGS\r\n", "250 mx\r\n", {}},
        EhloRow{"KeywordWithEquals", "250-mx\r\n250 SIZE=10\r\n", "250 mx\r\n", {}},
        EhloRow{"SpaceBeforeTheKeyword", "250-mx\r\n250- SIZE\r\n250 DSN\r\n",
                "250-mx\r\n250 DSN\r\n", offering({Extension::dsn})},
        EhloRow{"TabBehindTheKeyword", "250-mx\r\n250 SIZE\t10\r\n", "250 mx\r\n", {}},
        EhloRow{"EmptyLines", "250-mx\r\n250-\r\n250-SIZE\r\n250\r\n", "250-mx\r\n250 SIZE\r\n",
                offering({Extension::size})},
        EhloRow{"Twice", "250-mx\r\n250-DSN\r\n250 DSN\r\n", "250-mx\r\n250-DSN\r\n250 DSN\r\n",
                offering({Extension::dsn})}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Ehlo, TellsTheSizeThatTheServerTakes) {
  const auto limit_of = [](const std::string& line) {
    return filter_ehlo("250-mx\r\n250 " + line + "\r\n").size_limit;
  };
  EXPECT_EQ(limit_of("SIZE 1000"), 1000U);
  EXPECT_EQ(limit_of("size 1000"), 1000U);
  EXPECT_EQ(limit_of("SIZE 99999999999999999999"), std::numeric_limits<std::uint64_t>::max());
  for (const char* without :
       {"SIZE", "SIZE ", "SIZE 0", "SIZE x", "SIZE 10 20", "SIZE -1", "DSN"}) {
    EXPECT_EQ(limit_of(without), 0U) << without;
  }
}

struct ViewRow {
  std::string_view name;
  std::string_view reply;
  EhloView view;
  std::string_view shown;
};

void PrintTo(const ViewRow& row, std::ostream* out) {
  *out << row.name;
}

class EhloViewTable : public testing::TestWithParam<ViewRow> {};

TEST_P(EhloViewTable, ShowsWhatTheDialogueSays) {
  const FilteredEhlo filtered = filter_ehlo(GetParam().reply, GetParam().view);
  EXPECT_EQ(filtered.text, GetParam().shown);
  EXPECT_EQ(filtered.offered.has(Extension::starttls), filtered.text.contains("STARTTLS"));
  EXPECT_EQ(filtered.offered.has(Extension::auth), filtered.text.contains("AUTH"));
}

constexpr EhloView kBoth{.starttls = StarttlsView::as_server_says, .auth = true};
constexpr EhloView kAdded{.starttls = StarttlsView::added};
constexpr std::string_view kSecure = "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN EXTERNAL\r\n";

INSTANTIATE_TEST_SUITE_P(
    Ehlo, EhloViewTable,
    testing::Values(
        ViewRow{"Hidden", kSecure, {}, "250 mx\r\n"},
        ViewRow{"AsTheServerSays", kSecure, kBoth, "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"},
        ViewRow{"AuthAlone", kSecure, {.auth = true}, "250-mx\r\n250 AUTH PLAIN\r\n"},
        ViewRow{"Added", "250-mx\r\n250 DSN\r\n", kAdded, "250-mx\r\n250-DSN\r\n250 STARTTLS\r\n"},
        ViewRow{"AddedOnce", kSecure, kAdded, "250-mx\r\n250 STARTTLS\r\n"},
        ViewRow{"AddedToAnotherCode", "251 mx\r\n", kAdded, "251-mx\r\n251 STARTTLS\r\n"},
        ViewRow{"AddedToACodeAlone", "250\r\n", kAdded, "250-\r\n250 STARTTLS\r\n"},
        ViewRow{"NotWhatTheServerDoesNotSay", "250 mx\r\n", kBoth, "250 mx\r\n"},
        ViewRow{"NoMechanismThatWorksHere", "250-mx\r\n250 AUTH EXTERNAL SCRAM-SHA-1-PLUS\r\n",
                kBoth, "250 mx\r\n"},
        ViewRow{"TheOldFormOfAuth", "250-mx\r\n250 AUTH=PLAIN\r\n", kBoth, "250 mx\r\n"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Ehlo, TellsWhatTheServerItselfOffers) {
  const Extensions offered = extensions_of(kSecure);
  EXPECT_TRUE(offered.has(Extension::starttls));
  EXPECT_TRUE(offered.has(Extension::auth));
  EXPECT_FALSE(offered.has(Extension::dsn));
}

struct ParameterRow {
  std::string_view name;
  EnvelopeCommand command;
  std::string_view rest;
  Reason reason = Reason::none;
  std::string_view text = {};
};

void PrintTo(const ParameterRow& row, std::ostream* out) {
  *out << row.name;
}

class ParameterTable : public testing::TestWithParam<ParameterRow> {};

TEST_P(ParameterTable, JudgesAndRewrites) {
  const ParameterRow& row = GetParam();
  const auto parameters = parse_parameters(row.command, row.rest, everything());
  ASSERT_EQ(parameters ? Reason::none : parameters.error(), row.reason);
  if (parameters) {
    EXPECT_EQ(parameters->text, row.text);
  }
}

constexpr auto kMail = EnvelopeCommand::mail;
constexpr auto kRcpt = EnvelopeCommand::rcpt;
constexpr auto kSyntax = Reason::syntax_error;
constexpr auto kNotOffered = Reason::parameter_not_offered;

const std::string kHundred(100, 'e');
const std::string kEnvid = " ENVID=" + kHundred;
const std::string kLongEnvid = kEnvid + "e";
const std::string kOrcpt = " ORCPT=rfc822;" + std::string(493, 'a');
const std::string kLongOrcpt = kOrcpt + "a";

INSTANTIATE_TEST_SUITE_P(
    Mail, ParameterTable,
    testing::Values(
        ParameterRow{"None", kMail, ""}, ParameterRow{"Spaces", kMail, "   "},
        ParameterRow{"Size", kMail, " SIZE=1000", Reason::none, " SIZE=1000"},
        ParameterRow{"Case", kMail, " size=1 bOdY=8bitmime", Reason::none, " SIZE=1 BODY=8bitmime"},
        ParameterRow{"Spacing", kMail, "   SIZE=1   RET=FULL  ", Reason::none, " SIZE=1 RET=FULL"},
        ParameterRow{"SizeOfTwentyDigits", kMail, " SIZE=12345678901234567890", Reason::none,
                     " SIZE=12345678901234567890"},
        ParameterRow{"SizeTooLong", kMail, " SIZE=123456789012345678901", kSyntax},
        ParameterRow{"SizeOfNothing", kMail, " SIZE=", kSyntax},
        ParameterRow{"SizeWithoutValue", kMail, " SIZE", kSyntax},
        ParameterRow{"SizeNegative", kMail, " SIZE=-1", kSyntax},
        ParameterRow{"SizeTwice", kMail, " SIZE=1 size=1", kSyntax},
        ParameterRow{"Body7bit", kMail, " BODY=7BIT", Reason::none, " BODY=7BIT"},
        ParameterRow{"BodyBinary", kMail, " BODY=binarymime", Reason::none, " BODY=binarymime"},
        ParameterRow{"BodyOfTwoExtensions", kMail, " BODY=BINARYMIME BODY=7BIT", kSyntax},
        ParameterRow{"BodyTwice", kMail, " BODY=7BIT BODY=8BITMIME", kSyntax},
        ParameterRow{"Smtputf8", kMail, " smtputf8", Reason::none, " SMTPUTF8"},
        ParameterRow{"Smtputf8WithValue", kMail, " SMTPUTF8=x", kSyntax},
        ParameterRow{"Smtputf8WithEmptyValue", kMail, " SMTPUTF8=", kSyntax},
        ParameterRow{"RetFull", kMail, " RET=FULL", Reason::none, " RET=FULL"},
        ParameterRow{"RetHdrs", kMail, " RET=hdrs", Reason::none, " RET=hdrs"},
        ParameterRow{"RetOther", kMail, " RET=HALF", kSyntax},
        ParameterRow{"Envid", kMail, " ENVID=a+2Bb", Reason::none, " ENVID=a+2Bb"},
        ParameterRow{"EnvidNoXtext", kMail, " ENVID=a+2", kSyntax},
        ParameterRow{"EnvidLowerHex", kMail, " ENVID=a+2b", kSyntax},
        ParameterRow{"EnvidEquals", kMail, " ENVID=a=b", kSyntax},
        ParameterRow{"EnvidEightBit", kMail, " ENVID=\xc3\xa4", kSyntax},
        ParameterRow{"EnvidLongest", kMail, kEnvid, Reason::none, kEnvid},
        ParameterRow{"EnvidTooLong", kMail, kLongEnvid, kSyntax},
        ParameterRow{"Priority", kMail, " MT-PRIORITY=-9", Reason::none, " MT-PRIORITY=-9"},
        ParameterRow{"PriorityTen", kMail, " MT-PRIORITY=10", kSyntax},
        ParameterRow{"PriorityZero", kMail, " MT-PRIORITY=0", Reason::none, " MT-PRIORITY=0"},
        ParameterRow{"PriorityMinusZero", kMail, " MT-PRIORITY=-0", kSyntax},
        ParameterRow{"HoldForLeadingZero", kMail, " HOLDFOR=01", kSyntax},
        ParameterRow{"HoldUntilInWords", kMail, " HOLDUNTIL=T-:.Z", kSyntax},
        ParameterRow{"HoldUntilWithoutZone", kMail, " HOLDUNTIL=2030-01-01T00:00:00", kSyntax},
        ParameterRow{"HoldUntilFraction", kMail, " HOLDUNTIL=2030-01-01t00:00:00.25z", Reason::none,
                     " HOLDUNTIL=2030-01-01t00:00:00.25z"},
        ParameterRow{"HoldUntilEmptyFraction", kMail, " HOLDUNTIL=2030-01-01T00:00:00.Z", kSyntax},
        ParameterRow{"HoldUntilOffset", kMail, " HOLDUNTIL=2030-01-01T00:00:00-01:30", Reason::none,
                     " HOLDUNTIL=2030-01-01T00:00:00-01:30"},
        ParameterRow{"PrioritySignAlone", kMail, " MT-PRIORITY=-", kSyntax},
        ParameterRow{"By", kMail, " BY=120;R", Reason::none, " BY=120;R"},
        ParameterRow{"ByTrace", kMail, " BY=-120;nt", Reason::none, " BY=-120;nt"},
        ParameterRow{"ByWithoutMode", kMail, " BY=120", kSyntax},
        ParameterRow{"ByOtherMode", kMail, " BY=120;X", kSyntax},
        ParameterRow{"ByTenDigits", kMail, " BY=1234567890;R", kSyntax},
        ParameterRow{"ByWithoutDigits", kMail, " BY=;R", kSyntax},
        ParameterRow{"Holdfor", kMail, " HOLDFOR=86400", Reason::none, " HOLDFOR=86400"},
        ParameterRow{"HoldforWord", kMail, " HOLDFOR=day", kSyntax},
        ParameterRow{"Holduntil", kMail, " HOLDUNTIL=2030-01-01T00:00:00Z", Reason::none,
                     " HOLDUNTIL=2030-01-01T00:00:00Z"},
        ParameterRow{"HolduntilWord", kMail, " HOLDUNTIL=tomorrow", kSyntax},
        ParameterRow{"Auth", kMail, " AUTH=<>", Reason::none, " AUTH=<>"},
        ParameterRow{"AuthXtext", kMail, " auth=a+40in.example", Reason::none,
                     " AUTH=a+40in.example"},
        ParameterRow{"AuthNothing", kMail, " AUTH=", kSyntax},
        ParameterRow{"AuthNoXtext", kMail, " AUTH=a+4", kSyntax},
        ParameterRow{"AuthOfRcpt", kRcpt, " AUTH=<>", kNotOffered},
        ParameterRow{"Xtension", kMail, " X-FOO=1", kNotOffered},
        ParameterRow{"OfTheOtherCommand", kMail, " NOTIFY=NEVER", kNotOffered},
        ParameterRow{"GoodThenBad", kMail, " SIZE=1 X=1", kNotOffered},
        ParameterRow{"EqualsAlone", kMail, " =", kNotOffered}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Rcpt, ParameterTable,
    testing::Values(
        ParameterRow{"NotifyNever", kRcpt, " NOTIFY=NEVER", Reason::none, " NOTIFY=NEVER"},
        ParameterRow{"NotifyList", kRcpt, " notify=SUCCESS,failure,DELAY", Reason::none,
                     " NOTIFY=SUCCESS,failure,DELAY"},
        ParameterRow{"NotifyNeverInAList", kRcpt, " NOTIFY=SUCCESS,NEVER", kSyntax},
        ParameterRow{"NotifyEmptyItem", kRcpt, " NOTIFY=SUCCESS,", kSyntax},
        ParameterRow{"NotifyOther", kRcpt, " NOTIFY=ALWAYS", kSyntax},
        ParameterRow{"NotifyTwice", kRcpt, " NOTIFY=NEVER NOTIFY=NEVER", kSyntax},
        ParameterRow{"Orcpt", kRcpt, " ORCPT=rfc822;a+2Bb@c", Reason::none,
                     " ORCPT=rfc822;a+2Bb@c"},
        ParameterRow{"OrcptWithoutType", kRcpt, " ORCPT=;a@c", kSyntax},
        ParameterRow{"OrcptWithoutSemicolon", kRcpt, " ORCPT=a@c", kSyntax},
        ParameterRow{"OrcptNoXtext", kRcpt, " ORCPT=rfc822;a+b@c", kSyntax},
        ParameterRow{"OrcptCrlfEscaped", kRcpt, " ORCPT=rfc822;a+0D+0A", Reason::none,
                     " ORCPT=rfc822;a+0D+0A"},
        ParameterRow{"OrcptUtf8", kRcpt, " ORCPT=UTF-8;\xc3\xb6\\x{2B}@in.example", Reason::none,
                     " ORCPT=UTF-8;\xc3\xb6\\x{2B}@in.example"},
        ParameterRow{"OrcptUtf8Unembedded", kRcpt, " ORCPT=utf-8;\\x{zz@c", kSyntax},
        ParameterRow{"OrcptUtf8XtextIsNoneThere", kRcpt, " ORCPT=utf-8;a+2Bb", kSyntax},
        ParameterRow{"OrcptBrokenUtf8", kRcpt, " ORCPT=utf-8;\xc3@in.example", kSyntax},
        ParameterRow{"OrcptUtf8OfOtherType", kRcpt, " ORCPT=rfc822;\xc3\xb6@c", kSyntax},
        ParameterRow{"OrcptLongest", kRcpt, kOrcpt, Reason::none, kOrcpt},
        ParameterRow{"OrcptTooLong", kRcpt, kLongOrcpt, kSyntax},
        ParameterRow{"Rrvs", kRcpt, " RRVS=2014-04-03T23:01:00Z", Reason::none,
                     " RRVS=2014-04-03T23:01:00Z"},
        ParameterRow{"RrvsWithAction", kRcpt, " RRVS=2014-04-03T23:01:00Z;C", Reason::none,
                     " RRVS=2014-04-03T23:01:00Z;C"},
        ParameterRow{"RrvsOtherAction", kRcpt, " RRVS=2014-04-03T23:01:00Z;X", kSyntax},
        ParameterRow{"RrvsEmpty", kRcpt, " RRVS=", kSyntax},
        ParameterRow{"OfTheOtherCommand", kRcpt, " SIZE=1", kNotOffered}),
    [](const auto& row) { return std::string(row.param.name); });

struct OfferRow {
  EnvelopeCommand command;
  std::string_view rest;
  Extension extension;
};

// What is good where everything is offered is refused where only its own extension is missing.
TEST(Parameters, AreRefusedWhenTheirExtensionWasNotOffered) {
  for (const OfferRow& row :
       {OfferRow{kMail, " SIZE=1", Extension::size},
        OfferRow{kMail, " BODY=8BITMIME", Extension::eightbitmime},
        OfferRow{kMail, " SMTPUTF8", Extension::smtputf8},
        OfferRow{kMail, " RET=FULL", Extension::dsn}, OfferRow{kMail, " ENVID=1", Extension::dsn},
        OfferRow{kMail, " MT-PRIORITY=1", Extension::mt_priority},
        OfferRow{kMail, " BY=1;R", Extension::deliverby},
        OfferRow{kMail, " HOLDFOR=1", Extension::futurerelease},
        OfferRow{kMail, " HOLDUNTIL=2030-01-01T00:00:00Z", Extension::futurerelease},
        OfferRow{kRcpt, " NOTIFY=NEVER", Extension::dsn},
        OfferRow{kRcpt, " ORCPT=rfc822;a@b", Extension::dsn},
        OfferRow{kRcpt, " RRVS=2014-04-03T23:01:00Z", Extension::rrvs}}) {
    Extensions others;
    for (std::size_t i = 0; i < static_cast<std::size_t>(Extension::count_); ++i) {
      if (static_cast<Extension>(i) != row.extension) {
        others.add(static_cast<Extension>(i));
      }
    }
    EXPECT_TRUE(parse_parameters(row.command, row.rest, offering({row.extension})).has_value())
        << row.rest;
    const auto refused = parse_parameters(row.command, row.rest, others);
    ASSERT_FALSE(refused.has_value()) << row.rest;
    EXPECT_EQ(refused.error(), kNotOffered) << row.rest;
  }
}

TEST(Parameters, TellOfSmtputf8) {
  EXPECT_TRUE(parse_parameters(kMail, " SIZE=1 SMTPUTF8", everything())->smtputf8);
  EXPECT_FALSE(parse_parameters(kMail, " SIZE=1", everything())->smtputf8);
}

TEST(CommandLimit, GrowsWithWhatIsOffered) {
  EXPECT_EQ(command_limit_octets(kMail, {}), 512U);
  EXPECT_EQ(command_limit_octets(kRcpt, {}), 512U);
  EXPECT_EQ(command_limit_octets(kMail, offering({Extension::size})), 538U);
  EXPECT_EQ(command_limit_octets(kRcpt, offering({Extension::size})), 512U);
  EXPECT_EQ(command_limit_octets(kRcpt, offering({Extension::dsn})), 1040U);
  EXPECT_LE(command_limit_octets(kMail, everything()), kLongestCommandOctets);
  EXPECT_LE(command_limit_octets(kRcpt, everything()), kLongestCommandOctets);
}

TEST(Parameters, TellsWhatTheDialogueMustKnow) {
  const auto parsed = [](std::string_view rest) {
    return *parse_parameters(kMail, rest, everything());
  };
  EXPECT_EQ(parsed(" SIZE=1000").octets, 1000U);
  EXPECT_EQ(parsed(" SIZE=99999999999999999999").octets, std::numeric_limits<std::uint64_t>::max());
  EXPECT_TRUE(parsed(" BODY=BinaryMime").is_binary);
  EXPECT_FALSE(parsed(" BODY=8BITMIME").is_binary);
  EXPECT_TRUE(parsed(" SMTPUTF8").smtputf8);
}

TEST(Parameters, AskForTheExtensionOfTheBodyTheyName) {
  const auto reason = [](std::string_view rest, std::initializer_list<Extension> extensions) {
    const auto parameters = parse_parameters(kMail, rest, offering(extensions));
    return parameters ? Reason::none : parameters.error();
  };
  EXPECT_EQ(reason(" BODY=BINARYMIME", {Extension::eightbitmime}), kNotOffered);
  EXPECT_EQ(reason(" BODY=8BITMIME", {Extension::binarymime}), kNotOffered);
  EXPECT_EQ(reason(" BODY=9BIT", {Extension::eightbitmime, Extension::binarymime}), kSyntax);
}

}  // namespace
}  // namespace postern::smtp_proxy
