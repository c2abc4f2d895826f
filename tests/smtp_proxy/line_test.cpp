#include "smtp_proxy/core/line.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {
namespace {

using std::string_literals::operator""s;

struct LineRow {
  std::string_view name;
  std::string input;
  LineStatus status;
  std::string text;
  std::size_t consumed = 0;
};

void PrintTo(const LineRow& row, std::ostream* out) {
  *out << row.name;
}

class LineTable : public testing::TestWithParam<LineRow> {};

constexpr std::size_t kLimit = 10;

TEST_P(LineTable, GivesTheFirstLine) {
  const LineRow& row = GetParam();
  const Line line = take_line(row.input, kLimit);
  EXPECT_EQ(line.status, row.status);
  EXPECT_EQ(line.text, row.text);
  EXPECT_EQ(line.consumed, row.consumed);
}

// What a line is must not hang on how much of the stream has come: short of the end, an input wants
// more or gives the same verdict.
TEST_P(LineTable, SaysTheSameOfEveryPrefixThatIsLongEnough) {
  const LineRow& row = GetParam();
  bool is_decided = false;
  for (std::size_t length = 0; length <= row.input.size(); ++length) {
    const Line line = take_line(std::string_view(row.input).substr(0, length), kLimit);
    is_decided |= line.status != LineStatus::need_more;
    EXPECT_EQ(line.status, is_decided ? row.status : LineStatus::need_more) << length;
    EXPECT_EQ(line.text, line.status == LineStatus::complete ? row.text : "") << length;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Line, LineTable,
    testing::Values(LineRow{"Nothing", "", LineStatus::need_more, "", 0},
                    LineRow{"Piece", "QUI", LineStatus::need_more, "", 0},
                    LineRow{"PieceWithCr", "QUIT\r", LineStatus::need_more, "", 0},
                    LineRow{"Whole", "QUIT\r\n", LineStatus::complete, "QUIT", 6},
                    LineRow{"FirstOfTwo", "A\r\nB\r\n", LineStatus::complete, "A", 3},
                    LineRow{"Empty", "\r\n", LineStatus::complete, "", 2},
                    LineRow{"NulIsText", "A\0B\r\n"s, LineStatus::complete, "A\0B"s, 5},
                    LineRow{"TabIsText", "A\tB\r\n", LineStatus::complete, "A\tB", 5},
                    LineRow{"EightBitIsText", "\xff\r\n", LineStatus::complete, "\xff", 3},
                    LineRow{"BareLf", "QUIT\n", LineStatus::bare_newline, "", 0},
                    LineRow{"BareLfFirst", "\nQUIT", LineStatus::bare_newline, "", 0},
                    LineRow{"BareLfInside", "A\nB\r\n", LineStatus::bare_newline, "", 0},
                    LineRow{"BareCr", "A\rB\r\n", LineStatus::bare_newline, "", 0},
                    LineRow{"TwoCrs", "A\r\r\n", LineStatus::bare_newline, "", 0},
                    LineRow{"LfCr", "A\n\r", LineStatus::bare_newline, "", 0},
                    LineRow{"LongestAllowed", "12345678\r\n", LineStatus::complete, "12345678", 10},
                    LineRow{"OneTooLong", "123456789\r\n", LineStatus::too_long, "", 0},
                    LineRow{"FullWithoutEnd", "1234567890", LineStatus::too_long, "", 0},
                    LineRow{"FullWithCr", "123456789\r", LineStatus::too_long, "", 0},
                    LineRow{"BareLfAtTheLimit", "123456789\n", LineStatus::bare_newline, "", 0},
                    LineRow{"BareLfBehindTheLimit", "1234567890\n", LineStatus::too_long, "", 0}),
    [](const auto& row) { return std::string(row.param.name); });

struct SkippedRow {
  std::string_view name;
  std::string_view input;
  SkippedLine::Status status;
  std::size_t consumed;
};

void PrintTo(const SkippedRow& row, std::ostream* out) {
  *out << row.name;
}

class SkippedLineTable : public testing::TestWithParam<SkippedRow> {};

TEST_P(SkippedLineTable, IsThrownAwayUpToItsEnd) {
  const SkippedLine skipped = skip_line(GetParam().input);
  EXPECT_EQ(skipped.status, GetParam().status);
  EXPECT_EQ(skipped.consumed, GetParam().consumed);
}

using enum SkippedLine::Status;

INSTANTIATE_TEST_SUITE_P(SkippedLine, SkippedLineTable,
                         testing::Values(SkippedRow{"Whole", "rest\r\nQUIT\r\n", ended, 6},
                                         SkippedRow{"WithoutEnd", "rest", need_more, 4},
                                         SkippedRow{"HalfOfTheEnd", "rest\r", need_more, 4},
                                         SkippedRow{"BareLf", "rest\nof it\r\n", bare_newline, 4},
                                         SkippedRow{"BareCr", "rest\rof it\r\n", bare_newline, 4}),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace postern::smtp_proxy
