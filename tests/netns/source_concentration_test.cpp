// Strangers who all have one address: the sign of a box in front that translates addresses.
#include <boost/json.hpp>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

// Sources of 198.18.0.0/16 are all outside.
std::string stranger(int number) {
  return "198.18.1." + std::to_string(number);
}

class SourceConcentrationTest : public EndToEnd {
 protected:
  void visit(const std::string& from, int times) {
    for (int i = 0; i < times; ++i) {
      Route route = lab.route(Side::outside, kIpv4.mx2);
      route.from = from;
      Connection client(route);
      ASSERT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
      ASSERT_TRUE(client.say("QUIT").starts_with("221")) << client.transcript();
    }
  }
  [[nodiscard]] boost::json::object status() const {
    return boost::json::parse(posternd->postern({"status", "--json"}).output).as_object();
  }
  [[nodiscard]] bool is_raised() const { return status().at("source_concentration").is_object(); }
  [[nodiscard]] std::size_t lines_of_log(std::string_view words) const {
    std::size_t count = 0;
    const std::string log = posternd->log();
    for (std::size_t at = log.find(words); at != std::string::npos; at = log.find(words, at + 1)) {
      ++count;
    }
    return count;
  }
};

TEST_F(SourceConcentrationTest, IsWarnedOfOnceWithTheAddressAndItsShare) {
  start_scripted_server();
  start_posternd();
  visit("198.18.0.1", 98);
  visit(stranger(1), 1);
  visit(stranger(2), 1);
  ASSERT_TRUE(wait_until("the alarm is raised", [&] { return is_raised(); }));
  const auto answer = status();
  EXPECT_EQ(boost::json::serialize(answer.at("source_concentration")),
            R"({"source":"198.18.0.1","percent":98,"sessions":100})");
  const std::string text = posternd->postern({"status"}).output;
  EXPECT_TRUE(text.contains("source_concentration: at least 98 % of the strangers' 100 sessions"))
      << text;
  EXPECT_EQ(posternd->counter("postern_source_concentration"), 1);
  visit(stranger(3), 1);
  ASSERT_TRUE(wait_until("the numbers are those of now", [&] {
    return boost::json::serialize(status()).contains(R"("sessions":101)");
  }));
  EXPECT_EQ(lines_of_log("nearly all strangers come from one address"), 1U);

  posternd->write_config(
      ConfigText{.inbound = "expected_relays = [\"198.18.0.0/24\"]\n"}.to_toml(lab));
  ASSERT_EQ(posternd->postern({"reload"}).status, 0);
  ASSERT_TRUE(wait_until("it is expected", [&] { return !is_raised(); }));
  EXPECT_EQ(lines_of_log("source_concentration: no longer"), 1U);
}

TEST_F(SourceConcentrationTest, IsNoneOfInternalClients) {
  start_scripted_server();
  start_posternd();
  for (int i = 0; i < 110; ++i) {
    Connection client = greeted(Side::office, kIpv4.mx2);
    ASSERT_TRUE(client.say("QUIT").starts_with("221")) << client.transcript();
  }
  ASSERT_TRUE(wait_until("all are counted", [&] {
    return posternd->counter("postern_sessions_total", {{"zone", "internal"}}) == 110;
  }));
  EXPECT_FALSE(is_raised());
}

}  // namespace
}  // namespace postern::testing
