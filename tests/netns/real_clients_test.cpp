// The clients and mail servers that people have, sending from outside to a server that offers
// PIPELINING and CHUNKING: honest mail arrives whole, and they tell their user of a refusal.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/netns/mail_client.hpp"
#include "tests/support/mail_keeper.hpp"
#include "tests/support/test_message.hpp"

namespace postern::testing {
namespace {

struct Client {
  const char* name;
  const char* program;  // as tests/support/mail_client has it
  const char* way = "DATA";
  // Whether it sends to the recipients that were accepted when another was not.
  bool goes_on = true;
};

void PrintTo(const Client& client, std::ostream* out) {
  *out << client.name;
}

constexpr Client kClients[] = {{.name = "Swaks", .program = "swaks"},
                               {.name = "PipeliningSwaks", .program = "swaks-pipelining"},
                               {.name = "Curl", .program = "curl"},
                               {.name = "Msmtp", .program = "msmtp", .goes_on = false},
                               {.name = "Smtplib", .program = "smtplib"},
                               {.name = "Nodemailer", .program = "nodemailer"},
                               {.name = "Postfix", .program = "postfix"},
                               {.name = "Exim", .program = "exim", .way = "BDAT"}};

class RealClient : public EndToEnd,
                   public ::testing::WithParamInterface<std::tuple<Client, Family>> {
 protected:
  RealClient() {
    start_posternd();
    write_message(lab, body);
  }

  [[nodiscard]] Finished send(const std::vector<std::string>& recipients) const {
    return send_by(lab, client.program, family.mx2, recipients);
  }
  [[nodiscard]] std::int64_t recipients(const char* reason) const {
    return posternd->counter("postern_recipients_total",
                             {{"zone", "external"}, {"reason", reason}});
  }
  // What is kept is one message, whole, for the user alone.
  void expect_kept(const std::string& said) const {
    const auto kept = keeper.messages();
    ASSERT_EQ(kept.size(), 1U) << said;
    ASSERT_EQ(kept[0].recipients.size(), 1U) << said;
    EXPECT_TRUE(kept[0].recipients[0].starts_with("TO:<" + kUser + ">")) << said;
    EXPECT_EQ(kept[0].way, client.way) << said;
    EXPECT_EQ(kept[0].peer, family.stranger);
    EXPECT_TRUE(is_same(with_crlf(body), body_of(kept[0].content)));
  }

  const Client& client = std::get<0>(GetParam());
  const Family& family = std::get<1>(GetParam());
  const std::string body = long_body();
  MailKeeper keeper{lab};
};

TEST_P(RealClient, SendsAMessageThatArrivesWhole) {
  const Finished sent = send({kUser});
  EXPECT_EQ(sent.status, 0) << sent.output;
  expect_kept(sent.output);
  EXPECT_EQ(recipients("none"), 1);
}

TEST_P(RealClient, TellsOfARefusedForeignRecipient) {
  const Finished sent = send({kVictim});
  EXPECT_NE(sent.status, 0) << sent.output;
  EXPECT_TRUE(sent.output.contains("550 5.7.1")) << sent.output;
  EXPECT_TRUE(keeper.messages().empty()) << sent.output;
  EXPECT_EQ(recipients("relay_denied"), 1);
  EXPECT_EQ(recipients("none"), 0);
}

TEST_P(RealClient, SendsToTheGoodRecipientAlone) {
  const Finished sent = send({kUser, kVictim});
  EXPECT_TRUE(sent.output.contains("550 5.7.1")) << sent.output;
  EXPECT_EQ(recipients("relay_denied"), 1);
  if (client.goes_on) {
    expect_kept(sent.output);
  } else {
    EXPECT_TRUE(keeper.messages().empty()) << sent.output;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryClient, RealClient,
                         ::testing::Combine(::testing::ValuesIn(kClients),
                                            ::testing::ValuesIn(kFamilies)),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param).name) + "Over" +
                                  std::get<1>(row.param).name;
                         });

}  // namespace
}  // namespace postern::testing
