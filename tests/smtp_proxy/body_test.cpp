#include "smtp_proxy/core/body.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "smtp_proxy/core/output.hpp"
#include "tests/support/body_model.hpp"

namespace postern::smtp_proxy {
namespace {

using namespace testing_support;
using std::string_literals::operator""s;

struct Passed {
  std::string text;          // to the server
  std::size_t consumed = 0;  // of the input
  bool ended = false;
  bool saw_bare_newline = false;
  std::uint64_t octets = 0;
  bool operator==(const Passed&) const = default;
};

void PrintTo(const Passed& passed, std::ostream* out) {
  *out << testing::PrintToString(passed.text) << ", consumed " << passed.consumed
       << (passed.ended ? ", ended" : "") << (passed.saw_bare_newline ? ", bare newline" : "");
}

// `cuts`: sizes of the pieces, the last of which repeats.
Passed pass(std::string_view input, const std::vector<std::size_t>& cuts,
            BareNewline mode = BareNewline::normalize) {
  Body body(mode);
  Passed passed;
  std::size_t cut = 0;
  while (passed.consumed < input.size() && !passed.ended) {
    const std::string piece(input.substr(passed.consumed, cuts[std::min(cut, cuts.size() - 1)]));
    ++cut;
    Output out;
    const Body::Progress progress = body.read(piece, out);
    for (std::size_t i = 0; i < out.server_piece_count(); ++i) {
      passed.text += out.server_piece(i);
    }
    passed.consumed += progress.consumed;
    passed.ended = progress.ended;
    EXPECT_TRUE(progress.ended || progress.consumed == piece.size());
  }
  passed.saw_bare_newline = body.saw_bare_newline();
  passed.octets = body.octets();
  return passed;
}

Passed pass_whole(std::string_view input) {
  return pass(input, {std::max<std::size_t>(input.size(), 1)});
}

struct BodyRow {
  std::string_view name;
  std::string input;  // the client's; what stands behind the end of data are commands
  std::string text;   // the server's, without the dot that ends it
  bool ended = false;
  std::size_t behind = 0;  // octets that are not of the body
};

void PrintTo(const BodyRow& row, std::ostream* out) {
  *out << row.name;
}

class BodyTable : public testing::TestWithParam<BodyRow> {};

TEST_P(BodyTable, PassesAsWritten) {
  const BodyRow& row = GetParam();
  const Passed passed = pass_whole(row.input);
  EXPECT_EQ(passed.text, row.text);
  EXPECT_EQ(passed.ended, row.ended);
  EXPECT_EQ(passed.consumed, row.input.size() - row.behind);
  EXPECT_EQ(passed.octets, passed.consumed);
}

TEST_P(BodyTable, PassesTheSameHoweverItIsCut) {
  const std::string& input = GetParam().input;
  const Passed whole = pass_whole(input);
  EXPECT_EQ(pass(input, {1}), whole);
  for (std::size_t cut = 1; cut < input.size(); ++cut) {
    EXPECT_EQ(pass(input, {cut, input.size()}), whole) << "cut at " << cut;
  }
}

// With a CRLF in front the same bytes stand behind a line of text, and mean the same.
TEST_P(BodyTable, MeansTheSameBehindALine) {
  const BodyRow& row = GetParam();
  const Passed passed = pass_whole("text\r\n" + row.input);
  EXPECT_EQ(passed.text, "text\r\n" + row.text);
  EXPECT_EQ(passed.ended, row.ended);
}

TEST_P(BodyTable, HoldsNoEndThatALaxServerWouldSee) {
  const Passed passed = pass_whole(GetParam().input);
  EXPECT_TRUE(lax_ends(passed.text).empty()) << testing::PrintToString(passed.text);
}

const std::string kBlock(64, 'x');

INSTANTIATE_TEST_SUITE_P(
    Ends, BodyTable,
    testing::Values(BodyRow{"EmptyBody", ".\r\n", "", true},
                    BodyRow{"Line", "a\r\n.\r\n", "a\r\n", true},
                    BodyRow{"CommandsBehind", "a\r\n.\r\nQUIT\r\n", "a\r\n", true, 6},
                    BodyRow{"EmptyLines", "\r\n\r\n.\r\n", "\r\n\r\n", true},
                    BodyRow{"SecondEndIsNotOfTheBody", "a\r\n.\r\n.\r\n", "a\r\n", true, 3},
                    BodyRow{"BehindABlock", kBlock + "\r\n.\r\n", kBlock + "\r\n", true},
                    BodyRow{"EndOverABlocksEdge", kBlock.substr(3) + "\r\n.\r\n",
                            kBlock.substr(3) + "\r\n", true}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Content, BodyTable,
    testing::Values(BodyRow{"LfDotLf", "a\n.\nb", "a\r\n..\r\nb"},
                    BodyRow{"LfDotCrlf", "a\n.\r\nb", "a\r\n..\r\nb"},
                    BodyRow{"CrDotCr", "a\r.\rb", "a\r\n..\r\nb"},
                    BodyRow{"CrDotCrlf", "a\r.\r\nb", "a\r\n..\r\nb"},
                    BodyRow{"CrDotLf", "a\r.\nb", "a\r\n..\r\nb"},
                    BodyRow{"LfDotCr", "a\n.\rb", "a\r\n..\r\nb"},
                    // The client's dot is transparency here: what it means is an empty line.
                    BodyRow{"CrlfDotLf", "a\r\n.\nb", "a\r\n\r\nb"},
                    BodyRow{"CrlfDotCr", "a\r\n.\rb", "a\r\n\r\nb"},
                    BodyRow{"CrlfDotCrCrlf", "a\r\n.\r\r\nb", "a\r\n\r\n\r\nb"},
                    BodyRow{"CrlfDotCrLfLf", "a\r\n.\r\r\n\nb", "a\r\n\r\n\r\n\r\nb"},
                    BodyRow{"CrlfNulDotCrlf", "a\r\n\0.\r\nb"s, "a\r\n\0.\r\nb"s},
                    BodyRow{"CrlfDotNulCrlf", "a\r\n.\0\r\nb"s, "a\r\n.\0\r\nb"s},
                    BodyRow{"CrNulLfDotCrlf", "a\r\0\n.\r\nb"s, "a\r\n\0\r\n..\r\nb"s},
                    BodyRow{"CrCrLfDotCrCrLf", "a\r\r\n.\r\r\nb", "a\r\n\r\n\r\n\r\nb"},
                    BodyRow{"LfCrDotLfCr", "a\n\r.\n\rb", "a\r\n\r\n..\r\n\r\nb"},
                    BodyRow{"CrlfSpaceDotCrlf", "a\r\n .\r\nb", "a\r\n .\r\nb"},
                    BodyRow{"CrlfDotSpaceCrlf", "a\r\n. \r\nb", "a\r\n. \r\nb"},
                    BodyRow{"CrlfDotTabCrlf", "a\r\n.\t\r\nb", "a\r\n.\t\r\nb"},
                    BodyRow{"CrlfTwoDotsCrlf", "a\r\n..\r\nb", "a\r\n..\r\nb"},
                    BodyRow{"CrlfTwoDotsLf", "a\r\n..\nb", "a\r\n..\r\nb"},
                    BodyRow{"LfTwoDotsLf", "a\n..\nb", "a\r\n...\r\nb"},
                    BodyRow{"VerticalTab", "a\v.\v", "a\v.\v"},
                    BodyRow{"FormFeed", "a\f.\f", "a\f.\f"},
                    BodyRow{"NextLine", "a\x85.\x85", "a\x85.\x85"},
                    BodyRow{"LineSeparator", "a\xe2\x80\xa8.\xe2\x80\xa8",
                            "a\xe2\x80\xa8.\xe2\x80\xa8"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(Untouched, BodyTable,
                         testing::Values(BodyRow{"StuffedDot", "..a\r\n", "..a\r\n"},
                                         BodyRow{"UnstuffedDot", ".a\r\n", ".a\r\n"},
                                         BodyRow{"DotInside", "a.b\r\n", "a.b\r\n"},
                                         BodyRow{"DotAtTheEndOfALine", "a.\r\n", "a.\r\n"},
                                         BodyRow{"EightBit", "\xff\x80\r\n", "\xff\x80\r\n"},
                                         BodyRow{"Nul", "\0\r\n"s, "\0\r\n"s},
                                         BodyRow{"LongLine", kBlock + kBlock + kBlock,
                                                 kBlock + kBlock + kBlock},
                                         BodyRow{"DotHeldBack", "a\r\n.", "a\r\n"},
                                         BodyRow{"DotAndCrHeldBack", "a\r\n.\r", "a\r\n"}),
                         [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Repaired, BodyTable,
    testing::Values(BodyRow{"Lf", "a\nb", "a\r\nb"}, BodyRow{"Cr", "a\rb", "a\r\nb"},
                    BodyRow{"LfLf", "\n\n", "\r\n\r\n"}, BodyRow{"CrCr", "a\r\rb", "a\r\n\r\nb"},
                    BodyRow{"LfCrlf", "a\n\r\nb", "a\r\n\r\nb"},
                    BodyRow{"CrCrlf", "a\r\r\nb", "a\r\n\r\nb"},
                    BodyRow{"CrlfLf", "a\r\n\nb", "a\r\n\r\nb"}, BodyRow{"LfFirst", "\na", "\r\na"},
                    BodyRow{"LfDotText", "a\n.b", "a\r\n..b"},
                    BodyRow{"LfBeforeTheEnd", "a\n\r\n.\r\n", "a\r\n\r\n", true},
                    BodyRow{"CrBeforeTheEnd", "a\r\r\n.\r\n", "a\r\n\r\n", true},
                    BodyRow{"LfAtABlocksEdge", kBlock + "\n.\n", kBlock + "\r\n..\r\n"},
                    BodyRow{"CrAtABlocksEdge", kBlock.substr(1) + "\r.\n",
                            kBlock.substr(1) + "\r\n..\r\n"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Body, TellsOfBareNewlines) {
  EXPECT_FALSE(pass_whole("a\r\n..b\r\n.\r\n").saw_bare_newline);
  EXPECT_TRUE(pass_whole("a\nb").saw_bare_newline);
  EXPECT_TRUE(pass_whole("a\rb").saw_bare_newline);
  EXPECT_TRUE(pass_whole(".\n").saw_bare_newline);
  EXPECT_TRUE(pass_whole(".\r.").saw_bare_newline);
}

TEST(Body, ForwardsNothingFromTheFirstBareNewlineOnWhenItRejects) {
  const std::string input = "good\r\nba\nd\r\n.x\n.\n.\r\nc\r\n.\r\n";
  const Passed whole = pass(input, {input.size()}, BareNewline::reject);
  EXPECT_EQ(whole.text, "good\r\nba");
  EXPECT_TRUE(whole.ended);
  EXPECT_TRUE(whole.saw_bare_newline);
  for (std::size_t cut = 1; cut < input.size(); ++cut) {
    EXPECT_EQ(pass(input, {cut, input.size()}, BareNewline::reject), whole) << "cut at " << cut;
  }
  EXPECT_EQ(pass(input, {1}, BareNewline::reject), whole);
}

TEST(Body, CopiesNothingOfALargePiece) {
  Body body(BareNewline::normalize);
  Output out;
  const std::string piece = std::string(4096, 'x') + "\r\n";
  body.read(piece, out);
  ASSERT_EQ(out.server_piece_count(), 1U);
  EXPECT_EQ(out.server_piece(0).data(), piece.data());
}

// --- properties ---------------------------------------------------------------------------------

std::string hostile_text() {
  const auto piece = rc::gen::element<std::string>(
      "\r", "\n", "\r\n", ".", "..", "\r\n.\r\n", "\n.\n", "a", "b c", "\0"s, "\xff",
      std::string(15, 'x'), std::string(63, 'y'), std::string(64, 'z'), std::string(600, 'w'));
  std::string text;
  for (const std::string& part : *rc::gen::container<std::vector<std::string>>(piece)) {
    text += part;
  }
  return text;
}

std::size_t regular_prefix_by_octets(std::string_view input, bool after_cr, bool at_line_start) {
  for (std::size_t i = 0; i < input.size(); ++i) {
    if (after_cr != (input[i] == '\n') || (at_line_start && input[i] == '.')) {
      return i;
    }
    after_cr = input[i] == '\r';
    at_line_start = input[i] == '\n';
  }
  return input.size();
}

RC_GTEST_PROP(RegularPrefix, EqualsTheNaiveOne, (bool after_cr, bool at_line_start)) {
  // Mostly regular, so that the whole blocks are walked through too.
  std::string text;
  const int lines = *rc::gen::inRange(0, 16);
  for (int i = 0; i < lines; ++i) {
    text +=
        std::string(
            *rc::gen::weightedOneOf<std::size_t>({{6, rc::gen::inRange<std::size_t>(0, 200)},
                                                  {1, rc::gen::inRange<std::size_t>(200, 1200)}}),
            'x') +
        "\r\n";
  }
  text += hostile_text();
  const std::string_view input = std::string_view(text).substr(
      *rc::gen::inRange<std::size_t>(0, std::min<std::size_t>(text.size(), 70) + 1));
  RC_ASSERT(regular_prefix(input, after_cr, at_line_start) ==
            regular_prefix_by_octets(input, after_cr, at_line_start));
}

TEST(RegularPrefix, FindsOneIrregularOctetAnywhere) {
  for (std::size_t size : {63U, 64U, 65U, 127U, 128U, 200U}) {
    for (std::size_t at = 0; at < size; ++at) {
      for (const char octet : {'\n', '\r'}) {
        std::string text(size, 'x');
        text[at] = octet;
        EXPECT_EQ(regular_prefix(text, false, false), regular_prefix_by_octets(text, false, false));
      }
      std::string text(size, 'x');
      text[at] = '.';
      EXPECT_EQ(regular_prefix(text, false, true), regular_prefix_by_octets(text, false, true));
    }
  }
}

// Long enough for whole strides, with lines and without; broken at every octet in every way.
TEST(RegularPrefix, FindsOneBrokenOctetAnywhereInALongText) {
  std::string lines;
  while (lines.size() < 900) {
    lines += std::string(lines.size() % 97, 'x') + "\r\n";
  }
  for (const std::string& regular : {std::string(900, 'x'), lines}) {
    ASSERT_EQ(regular_prefix(regular, false, true), regular.size());
    for (std::size_t at = 0; at < regular.size(); ++at) {
      for (const char octet : {'\n', '\r', '.', 'x'}) {
        std::string text = regular;
        text[at] = octet;
        ASSERT_EQ(regular_prefix(text, false, true), regular_prefix_by_octets(text, false, true))
            << at << ' ' << static_cast<int>(octet);
      }
    }
  }
}

RC_GTEST_PROP(BodyProperty, MeansWhatTheModelSays, ()) {
  const std::string input = hostile_text() + "\r\n.\r\n" + hostile_text();
  const auto cuts = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 90)));
  const Passed passed = pass(input, cuts);
  const auto model = take_strict_body(input);
  RC_ASSERT(model.has_value());
  RC_ASSERT(passed.ended);
  RC_ASSERT(passed.consumed == model->consumed);
  RC_ASSERT(passed.saw_bare_newline == has_bare_newline(model->text));
  RC_ASSERT(!has_bare_newline(passed.text));
  RC_ASSERT(unstuff_strictly(passed.text) == normalise(unstuff_strictly(model->text)));
  RC_ASSERT(lax_ends(passed.text + ".\r\n") == std::vector<std::size_t>{passed.text.size() + 3});
  if (!passed.saw_bare_newline) {
    RC_ASSERT(passed.text == model->text);
  }
}

}  // namespace
}  // namespace postern::smtp_proxy
