// Who inside sends mail past the mailers, as `postern offenders` and the status tell it.
#include <boost/json.hpp>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

// On the office's side, behind it as behind another router.
constexpr const char* kBehindTheOffice = "203.0.113.240";

class OffendersTest : public EndToEnd {
 protected:
  void SetUp() override {
    elsewhere = std::make_unique<ScriptedServer>(
        lab, Side::outside, std::vector<std::string>{kIpv4.outside_server, kIpv6.outside_server});
  }

  [[nodiscard]] boost::json::object ask(std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {"offenders", "--json"});
    const Finished finished = posternd->postern(options);
    EXPECT_EQ(finished.status, 0) << finished.output;
    return boost::json::parse(finished.output).as_object();
  }
  [[nodiscard]] std::map<std::string, boost::json::object> by_address() const {
    std::map<std::string, boost::json::object> out;
    const boost::json::object answer = ask();
    for (const auto& offender : answer.at("offenders").as_array()) {
      const auto& object = offender.as_object();
      out[std::string(object.at("address").as_string())] = object;
    }
    return out;
  }
  int send_from(const char* from, const char* to) const {
    Route route = lab.route(Side::office, to);
    route.from = from;
    return Connection(route, kDropPatience).error();
  }
  [[nodiscard]] std::string link_address_of_the_office() const {
    std::string text = lab.run(Side::office, {"cat", "/sys/class/net/eth0/address"}).output;
    return text.substr(0, text.find('\n'));
  }

  std::unique_ptr<ScriptedServer> elsewhere;
};

TEST_F(OffendersTest, AreToldWithWhatBecameOfThem) {
  start_posternd();
  EXPECT_TRUE(posternd->postern({"offenders"}).output.contains("none since the start"));
  for (const Family& family : kFamilies) {
    EXPECT_EQ(send_from(family.office_client, family.outside_server), 0) << family.name;
  }
  EXPECT_EQ(send_from(kIpv4.office_client, kIpv4.stranger), ECONNREFUSED);
  posternd->write_config(ConfigText{.outbound = "unmanaged_sender = \"reject\"\n"}.to_toml(lab));
  ASSERT_EQ(posternd->postern({"reload"}).status, 0);
  EXPECT_EQ(send_from(kIpv4.office_client, kIpv4.outside_server), ECONNREFUSED);
  const auto found = by_address();
  ASSERT_EQ(found.size(), 2U);
  const auto& v4 = found.at(kIpv4.office_client);
  EXPECT_EQ(v4.at("attempts"), 3) << v4;
  EXPECT_EQ(v4.at("passed"), 2) << v4;
  EXPECT_EQ(v4.at("rejected"), 1) << v4;
  EXPECT_EQ(v4.at("destinations"), 2) << v4;
  EXPECT_EQ(found.at(kIpv6.office_client).at("attempts"), 1);
  EXPECT_EQ(ask({"--limit", "1"}).at("offenders").as_array().size(), 1U);
  EXPECT_EQ(ask({"--limit", "1"}).at("known"), 2);
  const std::string status = posternd->postern({"status"}).output;
  EXPECT_TRUE(status.contains("Inside hosts that send past the mailers")) << status;
  EXPECT_EQ(posternd->counter("postern_offenders"), 2);
}

TEST_F(OffendersTest, AreNoMailersAndNobodyWhoStaysInside) {
  start_scripted_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    Route route = lab.route(Side::inside, family.outside_server);
    route.from = family.mx1;
    EXPECT_EQ(Connection(route).error(), 0) << family.name;
    EXPECT_EQ(send_from(family.office_client, family.mx2), 0) << family.name;
  }
  EXPECT_TRUE(by_address().empty());
}

}  // namespace
}  // namespace postern::testing
