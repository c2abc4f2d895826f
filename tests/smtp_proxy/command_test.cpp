#include "smtp_proxy/core/command.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {
namespace {

using std::string_view_literals::operator""sv;

struct CommandRow {
  std::string_view name;
  std::string_view line;
  Verb verb;
  std::string_view argument;
};

void PrintTo(const CommandRow& row, std::ostream* out) {
  *out << row.name;
}

class CommandTable : public testing::TestWithParam<CommandRow> {};

TEST_P(CommandTable, SplitsVerbAndArgument) {
  const Command command = parse_command(GetParam().line);
  EXPECT_EQ(command.spec.verb, GetParam().verb);
  EXPECT_EQ(command.argument, GetParam().argument);
}

INSTANTIATE_TEST_SUITE_P(
    Command, CommandTable,
    testing::Values(
        CommandRow{"Helo", "HELO a.example", Verb::helo, "a.example"},
        CommandRow{"Ehlo", "ehlo a.example", Verb::ehlo, "a.example"},
        CommandRow{"Mail", "MaIl FROM:<a@b> SIZE=1", Verb::mail, "FROM:<a@b> SIZE=1"},
        CommandRow{"Rcpt", "RCPT TO:<a@b>", Verb::rcpt, "TO:<a@b>"},
        CommandRow{"SpacesAround", "RCPT   TO: <a@b>  ", Verb::rcpt, "TO: <a@b>"},
        CommandRow{"Data", "data", Verb::data, ""},
        CommandRow{"DataAndSpaces", "DATA   ", Verb::data, ""},
        CommandRow{"DataAndMore", "DATA x", Verb::data, "x"},
        CommandRow{"Rset", "RSET", Verb::rset, ""}, CommandRow{"Noop", "NOOP x", Verb::noop, "x"},
        CommandRow{"Quit", "QUIT", Verb::quit, ""}, CommandRow{"Vrfy", "VRFY a", Verb::vrfy, "a"},
        CommandRow{"Help", "HELP", Verb::help, ""},
        CommandRow{"Expn", "EXPN a", Verb::forbidden, "a"},
        CommandRow{"Bdat", "BDAT 3 LAST", Verb::bdat, "3 LAST"},
        CommandRow{"Starttls", "STARTTLS", Verb::starttls, ""},
        CommandRow{"Auth", "auth PLAIN", Verb::auth, "PLAIN"},
        CommandRow{"Burl", "BURL imap://a", Verb::forbidden, "imap://a"},
        CommandRow{"Etrn", "ETRN a", Verb::forbidden, "a"},
        CommandRow{"Atrn", "ATRN", Verb::forbidden, ""},
        CommandRow{"Turn", "TURN", Verb::forbidden, ""},
        CommandRow{"Send", "SEND FROM:<a@b>", Verb::forbidden, "FROM:<a@b>"},
        CommandRow{"Soml", "SOML FROM:<a@b>", Verb::forbidden, "FROM:<a@b>"},
        CommandRow{"Saml", "SAML FROM:<a@b>", Verb::forbidden, "FROM:<a@b>"},
        CommandRow{"Xclient", "XCLIENT ADDR=1.2.3.4", Verb::forbidden, "ADDR=1.2.3.4"},
        CommandRow{"Xforward", "XFORWARD ADDR=1.2.3.4", Verb::forbidden, "ADDR=1.2.3.4"},
        CommandRow{"HttpGet", "GET / HTTP/1.1", Verb::foreign, "/ HTTP/1.1"},
        CommandRow{"HttpConnect", "CONNECT a:25 HTTP/1.1", Verb::foreign, "a:25 HTTP/1.1"},
        CommandRow{"Http2", "PRI * HTTP/2.0", Verb::foreign, "* HTTP/2.0"},
        CommandRow{"Empty", "", Verb::unknown, ""}, CommandRow{"Spaces", "   ", Verb::unknown, ""},
        CommandRow{"LeadingSpace", " QUIT", Verb::unknown, "QUIT"},
        CommandRow{"Longer", "RCPTT TO:<a@b>", Verb::unknown, "TO:<a@b>"},
        CommandRow{"Shorter", "RCP TO:<a@b>", Verb::unknown, "TO:<a@b>"},
        CommandRow{"TabIsNoSpace", "RCPT\tTO:<a@b>", Verb::unknown, ""},
        CommandRow{"NoSpace", "RCPTTO:<a@b>", Verb::unknown, ""},
        CommandRow{"NulIsNoSpace", "QUIT\0"sv, Verb::unknown, ""}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Command, KnowsControlCharacters) {
  for (int octet = 0; octet < 256; ++octet) {
    const std::string text = std::string("ab") + static_cast<char>(octet);
    EXPECT_EQ(has_control_character(text), octet < 0x20 || octet == 0x7f) << octet;
    EXPECT_EQ(has_8bit_character(text), octet >= 0x80) << octet;
  }
}

TEST(Command, ComparesAsciiCaseOnly) {
  EXPECT_TRUE(equals_ignoring_case("Rcpt", "rCPT"));
  EXPECT_FALSE(equals_ignoring_case("rcpt", "rcp"));
  EXPECT_FALSE(equals_ignoring_case("rcpt", "rcpu"));
  EXPECT_FALSE(equals_ignoring_case("[", "{"));
  EXPECT_FALSE(equals_ignoring_case("\xe4", "\xc4"));
}

}  // namespace
}  // namespace postern::smtp_proxy
