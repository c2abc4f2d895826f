// Legitimate mail stays whole: what the inner server keeps is, octet for octet, what was sent.
// The messages are those of tests/support/mail_corpus.py and mail_signing.py.
#include <gtest/gtest.h>

#include <sstream>
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
  void expect_whole(int at_least, const std::vector<std::string>& ways,
                    const std::vector<std::string>& options) {
    start_posternd(settings);
    Process run = start_whole_mail(lab, keeper, GetParam().mx2, ways, options);
    const auto status = run.wait(kLongPatience);
    const std::string said = run.output();
    ASSERT_GE(said.size(), 2U);
    EXPECT_EQ(status, 0) << said;
    // Its last line: "N whole of M".
    int whole = 0;
    int sent = -1;
    std::string word;
    std::istringstream sum(said.substr(said.rfind('\n', said.size() - 2) + 1));
    ASSERT_TRUE(sum >> whole >> word >> word >> sent) << said;
    EXPECT_EQ(whole, sent) << said;
    EXPECT_GE(whole, at_least) << said;
    EXPECT_EQ(posternd->counter("postern_messages_total", {{"outcome", "accepted"}}), sent);
  }

  ConfigText settings;
  MailKeeper keeper{lab};
};

TEST_P(WholeMail, ArrivesAsItWasSent) {
  expect_whole(1000, kEveryWay, {"--corpus", "mixed", "--count", "300"});
}

TEST_P(WholeMail, ArrivesAsItWasSentWhereBareNewlinesAreRefused) {
  settings.smtp = "bare_newline = \"reject\"\n";
  expect_whole(300, kEveryWay, {"--corpus", "mixed", "--count", "30"});
}

TEST_P(WholeMail, KeepsSignaturesValid) {
  expect_whole(200, kEveryWay, {"--corpus", "signed"});
}

TEST_P(WholeMail, HasItsBareNewlinesMendedInDataAsDocumented) {
  expect_whole(800, kEveryWay, {"--corpus", "bare newlines", "--count", "200"});
}

TEST_P(WholeMail, KeepsItsBareNewlinesWhereAllIsOnlyObserved) {
  settings.gateway = "observe = true\n";
  expect_whole(800, kEveryWay,
               {"--corpus", "bare newlines", "--count", "200", "--bare-newlines", "kept"});
}

TEST_P(WholeMail, CarriesFiftyMebibytesOfText) {
  expect_whole(1, {"DATA"}, {"--corpus", "huge text"});
}

TEST_P(WholeMail, CarriesFiftyMebibytesOfOctets) {
  expect_whole(1, {"BDAT pipelined"}, {"--corpus", "huge binary"});
}

INSTANTIATE_TEST_SUITE_P(Over, WholeMail, ::testing::ValuesIn(kFamilies),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace postern::testing
