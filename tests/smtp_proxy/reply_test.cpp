#include "smtp_proxy/core/reply.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {
namespace {

struct ReplyRow {
  std::string_view name;
  std::string input;
  ReplyStatus status;
  std::uint16_t code = 0;
  std::size_t length = 0;  // of the first reply
};

void PrintTo(const ReplyRow& row, std::ostream* out) {
  *out << row.name;
}

class ReplyTable : public testing::TestWithParam<ReplyRow> {};

TEST_P(ReplyTable, GivesTheFirstReply) {
  const ReplyRow& row = GetParam();
  const Reply reply = take_reply(row.input);
  EXPECT_EQ(reply.status, row.status);
  EXPECT_EQ(reply.code, row.code);
  EXPECT_EQ(reply.text, std::string_view(row.input).substr(0, row.length));
}

TEST_P(ReplyTable, SaysTheSameOfEveryPrefixThatIsLongEnough) {
  const ReplyRow& row = GetParam();
  bool is_decided = false;
  const std::size_t step = row.input.size() > 1000 ? 61 : 1;
  for (std::size_t length = 0; length < row.input.size(); length += step) {
    const Reply reply = take_reply(std::string_view(row.input).substr(0, length));
    is_decided |= reply.status != ReplyStatus::need_more;
    EXPECT_EQ(reply.status, is_decided ? row.status : ReplyStatus::need_more) << length;
    EXPECT_EQ(reply.text.size(), is_decided ? row.length : 0U) << length;
  }
}

// 16 KiB of lines, the last of which ends in `separator`.
std::string long_reply(std::size_t octets, char separator) {
  std::string reply;
  while (reply.size() + 200 < octets) {
    reply += "250-" + std::string(94, 'x') + "\r\n";
  }
  reply += std::string("250") + separator + std::string(octets - reply.size() - 6, 'x') + "\r\n";
  return reply;
}

INSTANTIATE_TEST_SUITE_P(
    Reply, ReplyTable,
    testing::Values(
        ReplyRow{"Nothing", "", ReplyStatus::need_more},
        ReplyRow{"Piece", "25", ReplyStatus::need_more},
        ReplyRow{"WithoutLf", "250 ok\r", ReplyStatus::need_more},
        ReplyRow{"OneLine", "250 ok\r\n", ReplyStatus::complete, 250, 8},
        ReplyRow{"FirstOfTwo", "250 ok\r\n550 no\r\n", ReplyStatus::complete, 250, 8},
        ReplyRow{"WithoutText", "354 \r\n", ReplyStatus::complete, 354, 6},
        ReplyRow{"ThreeCharacters", "250\r\n", ReplyStatus::complete, 250, 5},
        ReplyRow{"ManyLines", "250-a\r\n250-b\r\n250 c\r\n", ReplyStatus::complete, 250, 21},
        ReplyRow{"LastLineOfThreeCharacters", "250-a\r\n250\r\n", ReplyStatus::complete, 250, 12},
        ReplyRow{"LastLineMissing", "250-a\r\n250-b\r\n", ReplyStatus::need_more},
        ReplyRow{"Lowest", "200 ok\r\n", ReplyStatus::complete, 200, 8},
        ReplyRow{"Highest", "599 no\r\n", ReplyStatus::complete, 599, 8},
        ReplyRow{"OtherSecondDigit", "298 ok\r\n", ReplyStatus::complete, 298, 8},
        ReplyRow{"FirstDigitOne", "150 ok\r\n", ReplyStatus::malformed},
        ReplyRow{"FirstDigitSix", "650 ok\r\n", ReplyStatus::malformed},
        ReplyRow{"Letters", "2x0 ok\r\n", ReplyStatus::malformed},
        ReplyRow{"ThirdLetter", "25x ok\r\n", ReplyStatus::malformed},
        ReplyRow{"TwoCharacters", "25\r\n", ReplyStatus::malformed},
        ReplyRow{"EmptyLine", "\r\n", ReplyStatus::malformed},
        ReplyRow{"FourDigits", "2500 ok\r\n", ReplyStatus::malformed},
        ReplyRow{"TabBehindTheCode", "250\tok\r\n", ReplyStatus::malformed},
        ReplyRow{"LeadingSpace", " 250 ok\r\n", ReplyStatus::malformed},
        ReplyRow{"OtherCodeOnASecondLine", "250-a\r\n251 b\r\n", ReplyStatus::malformed},
        ReplyRow{"RefusalInsideASuccess", "250-a\r\n550-b\r\n250 c\r\n", ReplyStatus::malformed},
        ReplyRow{"SecondLineWithoutACode", "250-a\r\nb\r\n", ReplyStatus::malformed},
        ReplyRow{"EmptySecondLine", "250-a\r\n\r\n", ReplyStatus::malformed},
        ReplyRow{"BareLf", "250 ok\n", ReplyStatus::malformed},
        ReplyRow{"BareLfInside", "250 o\nk\r\n", ReplyStatus::malformed},
        ReplyRow{"BareLfBetweenLines", "250-a\n250 b\r\n", ReplyStatus::malformed},
        ReplyRow{"BareCr", "250 o\rk\r\n", ReplyStatus::malformed},
        ReplyRow{"TwoCrs", "250 ok\r\r\n", ReplyStatus::malformed},
        ReplyRow{"LongestAllowed", long_reply(kLongestReplyOctets, ' '), ReplyStatus::complete, 250,
                 kLongestReplyOctets},
        ReplyRow{"OneOctetTooLong", long_reply(kLongestReplyOctets + 1, ' '),
                 ReplyStatus::malformed},
        ReplyRow{"EndlessLines", long_reply(kLongestReplyOctets, '-'), ReplyStatus::malformed},
        ReplyRow{"EndlessLine", "250 " + std::string(kLongestReplyOctets, 'x'),
                 ReplyStatus::malformed}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Reply, IsPositiveOnlyWithATwo) {
  EXPECT_TRUE(take_reply("250 ok\r\n").is_positive());
  EXPECT_FALSE(take_reply("354 go\r\n").is_positive());
  EXPECT_FALSE(take_reply("450 later\r\n").is_positive());
  EXPECT_FALSE(take_reply("550 no\r\n").is_positive());
}

TEST(RenderedReply, SaysTheReason) {
  EXPECT_EQ(render_reply(rules::Reason::relay_denied), "550 5.7.1 relay access denied\r\n");
  EXPECT_EQ(render_reply(rules::Reason::relay_denied, "<a@b>"),
            "550 5.7.1 <a@b>: relay access denied\r\n");
}

TEST(RenderedReply, IsAReplyWhateverItsDetail) {
  for (int octet = 0; octet < 256; ++octet) {
    const std::string reply = render_reply(rules::Reason::relay_denied,
                                           std::string("<a") + static_cast<char>(octet) + "b>");
    const Reply parsed = take_reply(reply);
    EXPECT_EQ(parsed.status, ReplyStatus::complete) << octet;
    EXPECT_EQ(parsed.text, reply) << octet;
  }
}

// RFC 5321 4.5.3.1.5
TEST(RenderedReply, FitsIntoTheLongestReplyLine) {
  for (const char octet : {'x', '\xff', '\0'}) {
    for (const std::size_t length : {100U, 256U, 512U, 2048U}) {
      const std::string detail(length, octet);
      EXPECT_LE(render_reply(rules::Reason::sender_not_local, detail).size(), 512U) << length;
    }
  }
}

TEST(RenderedReply, ExistsForEveryReasonThatIsSaid) {
  for (const rules::ReasonInfo& info : rules::kReasons) {
    if (info.smtp_code != 0) {
      const std::string rendered = render_reply(info.reason);
      const Reply reply = take_reply(rendered);
      EXPECT_EQ(reply.status, ReplyStatus::complete) << info.label;
      EXPECT_EQ(reply.code, info.smtp_code) << info.label;
      EXPECT_EQ(info.enhanced.substr(0, 1), std::to_string(info.smtp_code / 100)) << info.label;
    }
  }
}

TEST(PrintableText, EscapesWhatIsNotPrintable) {
  EXPECT_EQ(make_printable("a b~"), "a b~");
  EXPECT_EQ(make_printable("\r\n\x7f\xc3"), "\\x0D\\x0A\\x7F\\xC3");
  EXPECT_EQ(make_printable(std::string_view("\0", 1)), "\\x00");
}

TEST(PrintableText, IsCutAtItsLimit) {
  EXPECT_EQ(make_printable("abcdef", 6), "abcdef");
  EXPECT_EQ(make_printable("abcdefg", 6), "abcdef...");
  EXPECT_EQ(make_printable("\n\n", 6), "\\x0A...");
}

}  // namespace
}  // namespace postern::smtp_proxy
