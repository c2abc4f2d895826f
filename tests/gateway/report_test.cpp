// What status says about certificates.
#include "gateway/report.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;

const std::chrono::system_clock::time_point kNow{1'800'000'000s};

StatusReport status_of(std::chrono::seconds since, std::chrono::seconds left) {
  StatusReport status;
  status.mailers.push_back({.name = "mx1"});
  status.mailers[0].certificates.push_back(
      describe({.files = {.certificate = "/mx1.pem", .private_key = "/mx1.key"},
                .names = {"mx1.example.org", "mx1.example.net"},
                .not_before = kNow - since,
                .not_after = kNow + left,
                .key_type = "ECDSA P-256",
                .issuer = "CN=An authority",
                .tlsa = "3 1 1 00ff"},
               kNow));
  judge_certificates(status, kNow);
  return status;
}

using Texts = std::vector<std::string>;

TEST(JudgeCertificates, WarnsOfWhatExpiresSoon) {
  EXPECT_EQ(status_of(24h, 14 * 24h).warnings, Texts());
  EXPECT_EQ(status_of(24h, 14 * 24h - 1s).warnings,
            Texts{"the certificate of mailer mx1, /mx1.pem, expires in 13 days; renew it"});
  EXPECT_EQ(status_of(24h, 47h).warnings,
            Texts{"the certificate of mailer mx1, /mx1.pem, expires in 1 day; renew it"});
  const StatusReport today = status_of(24h, 1h);
  EXPECT_EQ(today.warnings,
            Texts{"the certificate of mailer mx1, /mx1.pem, expires in less than a day; renew it"});
  EXPECT_EQ(today.problems, Texts());
}

TEST(JudgeCertificates, CallsWhatCannotBeVerifiedAProblem) {
  const StatusReport expired = status_of(24h, -1s);
  EXPECT_EQ(expired.mailers[0].certificates[0].days_left, -1);
  EXPECT_EQ(expired.warnings, Texts());
  EXPECT_EQ(expired.problems, Texts{"the certificate of mailer mx1, /mx1.pem, has expired, senders "
                                    "that verify it give up; renew it"});
  EXPECT_EQ(status_of(-1s, 999 * 24h).problems,
            Texts{"the certificate of mailer mx1, /mx1.pem, is not valid yet, senders that verify "
                  "it give up; is the clock right?"});
  EXPECT_EQ(status_of(24h, 999 * 24h).problems, Texts());
}

TEST(StatusReport, HasTheMailersTlsInJson) {
  StatusReport status = status_of(0s, 10 * 24h);
  status.mailers[0].starttls = "terminate";
  status.mailers[0].upstream_tls = "require";
  const std::string json = to_json(status);
  EXPECT_TRUE(json.contains(
      R"("starttls":"terminate","upstream_tls":"require","certificates":[{"file":"/mx1.pem",)"
      R"("names":["mx1.example.org","mx1.example.net"],"not_before":1800000000,)"
      R"("not_after":1800864000,"days_left":10,"key_type":"ECDSA P-256",)"
      R"("issuer":"CN=An authority","tlsa":"3 1 1 00ff"}])"))
      << json;
  EXPECT_TRUE(json.contains(R"("healthy":true,"problems":[],"warnings":["the certificate)"))
      << json;
}

}  // namespace
}  // namespace postern::gateway
