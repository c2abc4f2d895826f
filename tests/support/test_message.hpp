// A message that no client may change on its way, and how to tell whether it did.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace postern::testing {

// Lines end in LF in the first two, as in a file.
[[nodiscard]] std::string message_header();  // with the empty line behind it
[[nodiscard]] std::string long_body();       // 400 KB of dots, blanks and UTF-8
[[nodiscard]] std::string with_crlf(const std::string& text);
// What follows the header, where lines end in CRLF.
[[nodiscard]] std::string body_of(const std::string& message);
// Not EXPECT_EQ of the two: 400 KB of text show nobody where the difference is.
[[nodiscard]] ::testing::AssertionResult is_same(const std::string& wanted, const std::string& got);

}  // namespace postern::testing
