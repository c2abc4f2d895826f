#include "smtp_proxy/core/chunk.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <string>
#include <string_view>

namespace postern::smtp_proxy {
namespace {

using std::string_view_literals::operator""sv;

struct ChunkRow {
  std::string_view name;
  std::string_view argument;
  std::optional<Chunk> chunk;
};

void PrintTo(const ChunkRow& row, std::ostream* out) {
  *out << row.name;
}

class ChunkTable : public testing::TestWithParam<ChunkRow> {};

TEST_P(ChunkTable, IsReadOrNotAtAll) {
  EXPECT_EQ(parse_chunk(GetParam().argument), GetParam().chunk);
}

INSTANTIATE_TEST_SUITE_P(
    Chunk, ChunkTable,
    testing::Values(
        ChunkRow{"Zero", "0", Chunk{0, false}}, ChunkRow{"Some", "86", Chunk{86, false}},
        ChunkRow{"Last", "86 LAST", Chunk{86, true}},
        ChunkRow{"LowerCase", "0 last", Chunk{0, true}},
        ChunkRow{"Spaces", "1   LAST", Chunk{1, true}},
        ChunkRow{"LeadingZeros", "0000000000000000010", Chunk{10, false}},
        ChunkRow{"Most", "9999999999999999999", Chunk{9'999'999'999'999'999'999U, false}},
        ChunkRow{"TwentyDigits", "00000000000000000010", {}},
        ChunkRow{"TooLarge", "18446744073709551616", {}}, ChunkRow{"Nothing", "", {}},
        ChunkRow{"Word", "x", {}}, ChunkRow{"LastAlone", "LAST", {}}, ChunkRow{"Minus", "-1", {}},
        ChunkRow{"Plus", "+1", {}}, ChunkRow{"Hexadecimal", "0x10", {}},
        ChunkRow{"Fraction", "1.0", {}}, ChunkRow{"Exponent", "1e3", {}},
        ChunkRow{"Glued", "5LAST", {}}, ChunkRow{"OtherWord", "5 FIRST", {}},
        ChunkRow{"Longer", "5 LASTT", {}}, ChunkRow{"Shorter", "5 LAS", {}},
        ChunkRow{"MoreBehind", "5 LAST LAST", {}}, ChunkRow{"TwoNumbers", "5 5", {}},
        ChunkRow{"Tab", "5\tLAST", {}}, ChunkRow{"Nul", "5\0"sv, {}}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace postern::smtp_proxy
