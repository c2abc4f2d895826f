// Legitimate mail stays whole: what the inner server keeps is, octet for octet, what was sent.
// The messages are those of tests/support/mail_corpus.py and mail_signing.py.
#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/mail_keeper.hpp"

namespace postern::testing {
namespace {

constexpr std::chrono::seconds kLongPatience{120};

const std::vector<std::string> kEveryWay{"DATA", "DATA pipelined", "BDAT", "BDAT pipelined"};

class WholeMail : public EndToEnd, public ::testing::WithParamInterface<Family> {
 protected:
  // Sends it all and expects every message to be whole, at least so many.
  void expect_whole(const std::string& corpus, const std::vector<std::string>& ways, int at_least,
                    int generated = 0) {
    start_posternd(settings);
    Process run = start_whole_mail(lab, keeper, GetParam().mx2, corpus, ways, generated);
    const auto status = run.wait(kLongPatience);
    const std::string said = run.output();
    EXPECT_EQ(status, 0) << said;
    std::smatch sum;
    ASSERT_TRUE(std::regex_search(said, sum, std::regex(R"((\d+) whole of (\d+)\n$)"))) << said;
    EXPECT_EQ(sum[1], sum[2]) << said;
    EXPECT_GE(std::stoi(sum[1]), at_least) << said;
    EXPECT_EQ(posternd->counter("postern_messages_total", {{"outcome", "accepted"}}),
              std::stoi(sum[2]));
  }

  ConfigText settings;
  MailKeeper keeper{lab};
};

TEST_P(WholeMail, ArrivesAsItWasSent) {
  expect_whole("mixed", kEveryWay, 1000, 300);
}

TEST_P(WholeMail, ArrivesAsItWasSentWhereBareNewlinesAreRefused) {
  settings.smtp = "bare_newline = \"reject\"\n";
  expect_whole("mixed", kEveryWay, 300, 30);
}

TEST_P(WholeMail, KeepsSignaturesValid) {
  expect_whole("signed", kEveryWay, 200);
}

TEST_P(WholeMail, HasItsBareNewlinesMendedInDataAsDocumented) {
  expect_whole("bare newlines", kEveryWay, 800, 200);
}

TEST_P(WholeMail, CarriesFiftyMebibytesOfText) {
  expect_whole("huge text", {"DATA"}, 1);
}

TEST_P(WholeMail, CarriesFiftyMebibytesOfOctets) {
  expect_whole("huge binary", {"BDAT pipelined"}, 1);
}

INSTANTIATE_TEST_SUITE_P(Over, WholeMail, ::testing::ValuesIn(kFamilies),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace postern::testing
