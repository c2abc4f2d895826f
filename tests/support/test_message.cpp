#include "tests/support/test_message.hpp"

#include <algorithm>

namespace postern::testing {

std::string message_header() {
  return "From: Someone <someone@stranger.example>\n"
         "To: user@script.example\n"
         "Subject: a real client\n"
         "Date: Tue, 4 Nov 2025 10:00:00 +0000\n"
         "Message-ID: <1@stranger.example>\n"
         "MIME-Version: 1.0\n"
         "Content-Type: text/plain; charset=utf-8\n"
         "Content-Transfer-Encoding: 8bit\n\n";
}

// Its longest line has 900 octets.
std::string long_body() {
  std::string body = "Hello,\n.\n..\n.dot\n...\n\nGr\u00fc\u00dfe \u4f60\u597d\ntrailing \t\n \n";
  for (std::size_t number = 0; number < 900; ++number) {
    body += std::string(number % 4, '.') + std::string(number, "abc .\xc2\xb5"[number % 5]) + "\n";
  }
  return body + ".\n\nend\n";
}

std::string with_crlf(const std::string& text) {
  std::string result;
  for (const char octet : text) {
    result += octet == '\n' ? "\r\n" : std::string(1, octet);
  }
  return result;
}

std::string body_of(const std::string& message) {
  const auto end = message.find("\r\n\r\n");
  return end == std::string::npos ? "" : message.substr(end + 4);
}

::testing::AssertionResult is_same(const std::string& wanted, const std::string& got) {
  if (wanted == got) {
    return ::testing::AssertionSuccess();
  }
  const auto at = static_cast<std::size_t>(std::ranges::mismatch(wanted, got).in1 - wanted.begin());
  const auto begin = at < 40 ? 0 : at - 40;
  return ::testing::AssertionFailure()
         << wanted.size() << " octets wanted, " << got.size() << " got, first difference at " << at
         << ":\nwanted " << ::testing::PrintToString(wanted.substr(begin, 80)) << "\ngot    "
         << ::testing::PrintToString(begin < got.size() ? got.substr(begin, 80) : "");
}

}  // namespace postern::testing
