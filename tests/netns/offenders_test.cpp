// Who inside sends mail past the mailers, as `postern offenders` and the status tell it.
#include <boost/json.hpp>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/wait.hpp"

namespace postern::testing {
namespace {

// Behind the office, as behind another router.
constexpr const char* kBehindTheOffice[] = {"10.9.0.1", "fd09::1"};

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
    const std::string text =
        lab.run(Side::office, {"ip", "-o", "link", "show", "dev", "eth0"}).output;
    constexpr std::string_view kBefore = "link/ether ";
    constexpr std::size_t kLength = std::string_view("52:54:00:0a:0b:0c").size();
    return text.substr(text.find(kBefore) + kBefore.size(), kLength);
  }

  // One host of each family, faster than its attempts are judged.
  void flood() const {
    const Finished flood = lab.run(
        Side::office, {"/usr/bin/python3", std::string(POSTERN_TEST_SUPPORT) + "/syn_flood.py",
                       "0.3", "outside", "1", kIpv4.stranger, kIpv6.stranger});
    EXPECT_EQ(flood.status, 0) << flood.output;
  }
  // On a busy machine a flood loses packets on its way to the router, and before anybody judges them.
  void count_arrivals() const {
    const Finished finished = lab.run(
        Side::router,
        {"nft",
         "add table inet arrivals; add counter inet arrivals syns;"
         " add chain inet arrivals seen { type filter hook prerouting priority -400; };"
         " add rule inet arrivals seen iifname lan1 tcp dport 25 tcp flags syn counter name syns"});
    ASSERT_EQ(finished.status, 0) << finished.output;
  }
  [[nodiscard]] std::int64_t arrived() const {
    const Finished finished =
        lab.run(Side::router, {"nft", "-j", "list", "counter", "inet", "arrivals", "syns"});
    return boost::json::parse(finished.output)
        .at("nftables")
        .at(1)
        .at("counter")
        .at("packets")
        .to_number<std::int64_t>();
  }
  [[nodiscard]] std::int64_t attempts() const {
    const boost::json::object answer = ask();
    std::int64_t sum = answer.at("unjudged").to_number<std::int64_t>();
    for (const auto& offender : answer.at("offenders").as_array()) {
      sum += offender.at("attempts").to_number<std::int64_t>();
    }
    return sum;
  }
  [[nodiscard]] std::int64_t kernel_counter(const char* name) const {
    return posternd->counter("postern_kernel_packets_total", {{"counter", name}});
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

TEST_F(OffendersTest, AreNamedByTheirLinkAddressUnlessARouterIsBetween) {
  for (const char* host : kBehindTheOffice) {
    const bool is_v6 = std::string_view(host).contains(':');
    const Finished added = lab.run(Side::office, {"ip", "addr", "add", host, "dev", "lo"});
    ASSERT_EQ(added.status, 0) << added.output;
    const Finished routed = lab.run(
        Side::router,
        {"ip", "route", "add", host, "via", is_v6 ? kIpv6.office_client : kIpv4.office_client});
    ASSERT_EQ(routed.status, 0) << routed.output;
  }
  start_posternd();
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    EXPECT_EQ(send_from(kFamilies[i].office_client, kFamilies[i].outside_server), 0);
    EXPECT_EQ(send_from(kBehindTheOffice[i], kFamilies[i].outside_server), 0);
  }
  const auto found = by_address();
  ASSERT_EQ(found.size(), 4U);
  const std::string link_address = link_address_of_the_office();
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    const auto& on_link = found.at(kFamilies[i].office_client);
    EXPECT_EQ(on_link.at("mac"), boost::json::value(link_address)) << on_link;
    EXPECT_TRUE(on_link.at("router_mac").is_null()) << on_link;
    const auto& behind = found.at(kBehindTheOffice[i]);
    EXPECT_TRUE(behind.at("mac").is_null()) << behind;
    EXPECT_EQ(behind.at("router_mac"), boost::json::value(link_address)) << behind;
  }
}

// Whatever becomes of them; only what the queue itself lost is in its own counter.
TEST_F(OffendersTest, AreCountedAlsoWhereTheyAreTooManyToBeJudged) {
  count_arrivals();
  start_posternd();
  for (const Family& family : kFamilies) {  // who have then found the router, too
    EXPECT_EQ(send_from(family.office_client, family.stranger), ECONNREFUSED);
  }
  for (const char* choice : {"count", "drop"}) {
    posternd->write_config(
        ConfigText{.outbound = "unmanaged_sender = \"" + std::string(choice) + "\"\n"}.to_toml(
            lab));
    ASSERT_EQ(posternd->postern({"reload"}).status, 0);
    const std::int64_t dropped_before = kernel_counter("excess_senders");
    const std::int64_t passed_before = kernel_counter("unqueued_senders");
    flood();
    const auto told = [&] {
      return attempts() + posternd->counter("postern_queue_packets_dropped_total");
    };
    EXPECT_TRUE(wait_until("all are told", [&] { return told() >= arrived(); }));
    EXPECT_EQ(told(), arrived()) << choice << "\n" << posternd->postern({"counters"}).output;
    const bool are_dropped = choice == std::string_view("drop");
    EXPECT_EQ(kernel_counter("excess_senders") > dropped_before, are_dropped);
    EXPECT_EQ(kernel_counter("unqueued_senders") > passed_before, !are_dropped);
  }
  const std::string told = posternd->postern({"offenders"}).output;
  EXPECT_TRUE(told.contains(" more came too fast to be judged")) << told;
}

// Beyond a burst there is no answer any more, but still an attempt.
TEST_F(OffendersTest, AreCountedAlsoWhereTheyAreRefusedTooOften) {
  count_arrivals();
  start_posternd(ConfigText{.outbound = "unmanaged_sender = \"reject\"\n"});
  const auto limited = [&] {
    return posternd->counter("postern_flows_total", {{"reason", "rate_limited"}});
  };
  EXPECT_TRUE(wait_until("there are too many", [&] {
    for (int i = 0; i < 16; ++i) {
      (void)send_from(kIpv4.office_client, kIpv4.outside_server);
    }
    return limited() > 0;
  }));
  const auto found = by_address();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.at(kIpv4.office_client).at("attempts"), arrived());
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
