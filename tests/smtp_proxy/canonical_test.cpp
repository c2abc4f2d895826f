// What goes on is written anew, in one form: read and written again it is the same. So the server
// behind reads what was judged.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "tests/support/smtp_session.hpp"
#include "tests/support/transcript.hpp"

namespace postern::testing_support {
namespace {

constexpr std::string_view kEverything =
    "250-mx.in.example\r\n250-PIPELINING\r\n250-SIZE "
    "100000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"
    "250-CHUNKING\r\n250-BINARYMIME\r\n250-MT-PRIORITY\r\n250-RRVS\r\n250-DELIVERBY 10\r\n"
    "250 FUTURERELEASE 100 2030-01-01T00:00:00Z\r\n";

// What the server is told of one command of an internal client, who may write to everybody.
std::string forwarded(const std::string& mail, const std::string& command) {
  SmtpSession session({.zone = rules::Zone::internal, .allow_address_literals = true});
  session.server("220 mx\r\n");
  session.client("EHLO c\r\n");
  session.server(kEverything);
  if (!mail.empty()) {
    session.client(mail);
    session.server("250 ok\r\n");
    if (smtp_proxy::equals_ignoring_case(command.substr(0, 4), "BDAT")) {
      session.client("RCPT TO:<b@in.example>\r\n");
      session.server("250 ok\r\n");
    }
  }
  static_cast<void>(session.take());
  session.client(command);
  return session.take().to_server;
}

rc::Gen<std::string> any_of_these(std::vector<std::string> words) {
  return rc::gen::elementOf(std::move(words));
}

std::string some_blanks() {
  return std::string(*rc::gen::weightedElement<std::size_t>({{4, 1}, {1, 2}, {1, 5}}), ' ');
}

// Letters in any case; the rest as it is.
std::string in_any_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) && *rc::gen::arbitrary<bool>()) {
      c = static_cast<char>(c ^ 0x20);
    }
  }
  return result;
}

std::string a_path() {
  const std::string local = *any_of_these(
      {"a", "a.b", "\"a b\"", "\"a\\\"b\"", "\"\"", "x+y", "o'brien", "ü", "postmaster", "A/B=c"});
  const std::string domain = *any_of_these(
      {"in.example", "IN.Example", "in.example.", "x_y.example", "[192.0.2.1]",
       "[IPv6:2001:db8::1]", "bücher.example", "BÜCHER。example", "xn--bcher-kva.example"});
  const std::string route = *rc::gen::weightedElement<std::string>({{6, ""}, {1, "@r.example:"}});
  return *rc::gen::weightedElement<std::string>({{8, "<" + route + local + "@" + domain + ">"},
                                                 {1, local + "@" + domain},
                                                 {1, "<postmaster>"}});
}

std::string some_parameters(const std::vector<std::string>& known) {
  std::string text;
  const int count = *rc::gen::inRange(0, 4);
  for (int i = 0; i < count; ++i) {
    const std::string parameter = *rc::gen::elementOf(known);
    const std::size_t equals = parameter.find('=');
    text += some_blanks() + in_any_case(parameter.substr(0, equals));
    text += equals == std::string::npos ? "" : parameter.substr(equals);
  }
  return text + *rc::gen::element<std::string>("", "", " ");
}

const std::vector<std::string> kMailParameters{"SIZE=1000",
                                               "SIZE=00012",
                                               "BODY=7bit",
                                               "BODY=8BITMIME",
                                               "BODY=binarymime",
                                               "SMTPUTF8",
                                               "SMTPUTF8",
                                               "RET=full",
                                               "ENVID=a+2Bb",
                                               "MT-PRIORITY=-3",
                                               "BY=120;rt",
                                               "HOLDFOR=60",
                                               "HOLDUNTIL=2030-01-01T00:00:00Z"};
const std::vector<std::string> kRcptParameters{"NOTIFY=never", "NOTIFY=SUCCESS,failure",
                                               "ORCPT=rfc822;a+2Bb@c", "ORCPT=utf-8;ü@far.example",
                                               "RRVS=2014-04-03T23:01:00Z;c"};

std::string a_mail() {
  return in_any_case("MAIL") + some_blanks() + in_any_case("FROM:") +
         *any_of_these({"", "", " ", "   "}) +
         *rc::gen::weightedOneOf<std::string>(
             {{4, rc::gen::exec(a_path)}, {1, rc::gen::just<std::string>("<>")}}) +
         some_parameters(kMailParameters) + "\r\n";
}

std::string a_rcpt() {
  return in_any_case("RCPT") + some_blanks() + in_any_case("TO:") +
         *any_of_these({"", "", " ", "   "}) + a_path() + some_parameters(kRcptParameters) + "\r\n";
}

std::string another_command() {
  const std::string line =
      *any_of_these({"EHLO client.example", "HELO [192.0.2.1]", "RSET", "NOOP", "NOOP x", "QUIT",
                     "BDAT 0", "BDAT 0 LAST", "BDAT  007   LAST"});
  return in_any_case(line.substr(0, 4)) + line.substr(4) + *any_of_these({"", " ", "    "}) +
         "\r\n";
}

void expect_the_same_again(const std::string& mail, const std::string& command) {
  const std::string once = forwarded(mail, command);
  RC_LOG() << escape(mail) << ' ' << escape(command);
  RC_CLASSIFY(!once.empty());
  if (once.empty()) {
    return;
  }
  RC_ASSERT(once.ends_with("\r\n"));
  RC_ASSERT(once.find("\r\n") == once.size() - 2);
  RC_ASSERT(forwarded(mail, once) == once);
}

RC_GTEST_PROP(Canonical, IsTheSenderWhenWrittenAgain, ()) {
  expect_the_same_again("", a_mail());
}

RC_GTEST_PROP(Canonical, IsTheRecipientWhenWrittenAgain, ()) {
  expect_the_same_again(*any_of_these({"MAIL FROM:<>\r\n", "MAIL FROM:<> SMTPUTF8\r\n"}), a_rcpt());
}

RC_GTEST_PROP(Canonical, IsEveryOtherCommandWhenWrittenAgain, ()) {
  expect_the_same_again("MAIL FROM:<> BODY=BINARYMIME\r\n", another_command());
}

// That the properties above are not about nothing.
TEST(Canonical, IsOneFormOfMany) {
  EXPECT_EQ(forwarded("", "mail   from:   a@in.example   size=7   body=8bitmime  \r\n"),
            "MAIL FROM:<a@in.example> SIZE=7 BODY=8bitmime\r\n");
  EXPECT_EQ(forwarded("MAIL FROM:<>\r\n", "Rcpt To: <b@IN.example.> notify=NEVER\r\n"),
            "RCPT TO:<b@IN.example> NOTIFY=NEVER\r\n");
  EXPECT_EQ(forwarded("MAIL FROM:<>\r\n", "bdat   007   last\r\n"), "BDAT 7 LAST\r\n");
}

std::string an_ehlo_reply() {
  std::vector<std::string> lines = *rc::gen::container<std::vector<std::string>>(rc::gen::oneOf(
      any_of_these({"PIPELINING", "pipelining", "SIZE",       "SIZE 10",    "SIZE 0",
                    "SIZE x",     "SIZE 5 6",   "8BITMIME",   "CHUNKING",   "chunking",
                    "BINARYMIME", "STARTTLS",   "AUTH PLAIN", "AUTH=PLAIN", "LIMITS RCPTMAX=9",
                    "DSN",        "DSN ",       "",           " DSN",       "XCLIENT NAME",
                    "HELP",       "SMTPUTF8"}),
      rc::gen::container<std::string>(rc::gen::inRange<char>(' ', '~'))));
  lines.insert(lines.begin(), "mx.in.example");
  std::string reply;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    reply += "250" + std::string(i + 1 == lines.size() ? " " : "-") + lines[i] + "\r\n";
  }
  return reply;
}

RC_GTEST_PROP(FilteredEhlo, IsTheSameWhenFilteredAgain, ()) {
  const std::string reply = an_ehlo_reply();
  const smtp_proxy::FilteredEhlo once = smtp_proxy::filter_ehlo(reply);
  const smtp_proxy::FilteredEhlo twice = smtp_proxy::filter_ehlo(once.text);
  RC_ASSERT(smtp_proxy::take_reply(once.text).text == once.text);
  RC_ASSERT(twice.text == once.text);
  RC_ASSERT(twice.offered == once.offered);
  RC_ASSERT(twice.size_limit == once.size_limit);
}

}  // namespace
}  // namespace postern::testing_support
