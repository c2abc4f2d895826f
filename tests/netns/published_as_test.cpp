// The site with one public address, the router's: it stands for a mailer that has a private one.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

struct Site {
  const char* mailer;     // private, nobody outside has a route to it
  const char* gateway;    // the router's address on the mailer's link
  const char* published;  // the router's outer address
  const char* prefix_length;
};

constexpr Site kSiteV4{"192.168.7.25", "192.168.7.1", "198.51.100.1", "/24"};
constexpr Site kSiteV6{"fd00:7::25", "fd00:7::1", "2001:db8:1::1", "/64"};

const Site& site_of(const Family& family) {
  return family.is_v4() ? kSiteV4 : kSiteV6;
}

class PublishedAs : public EndToEnd {
 protected:
  void SetUp() override {
    for (const Site& site : {kSiteV4, kSiteV6}) {
      add_address(Side::router, "lan0", site.gateway, site.prefix_length);
      add_address(Side::inside, "eth0", site.mailer, site.prefix_length);
    }
    mailer = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kSiteV4.mailer, kSiteV6.mailer});
  }

  void add_address(Side side, const char* link, const std::string& address,
                   const std::string& length) {
    const Finished done =
        lab.run(side, {"ip", "addr", "add", address + length, "dev", link, "nodad"});
    ASSERT_EQ(done.status, 0) << done.output;
  }

  void start(const std::string& more = {}) {
    start_posternd({.gateway = more,
                    .more_networks = R"(, "192.168.7.0/24", "fd00:7::/64")",
                    .more_mailers = R"([[mailer]]
name = "small"
addresses = ["192.168.7.25", "fd00:7::25"]
published_as = ["198.51.100.1", "2001:db8:1::1"]
domains = ["small.example"]
)"});
  }

  std::unique_ptr<ScriptedServer> mailer;
};

TEST_F(PublishedAs, BringsStrangersToTheMailerUnderTheirOwnAddressAndWithoutNat) {
  start();
  std::vector<std::string> strangers;
  for (const Family& family : kFamilies) {
    Route route = lab.route(Side::outside, site_of(family).published);
    route.from = family.stranger;
    Connection client(route);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "user@small.example").starts_with("250")) << client.transcript();
    Connection relay(route);
    EXPECT_TRUE(relay.read_reply().starts_with("220")) << relay.transcript();
    EXPECT_TRUE(deliver(relay, "victim@far.example").starts_with("550 5.7.1"))
        << relay.transcript();
    strangers.insert(strangers.end(), 2, family.stranger);
  }
  EXPECT_EQ(mailer->peers(), strangers);
  EXPECT_EQ(mailer->messages().size(), 2U) << mailer->log();
  const std::string blocked = posternd->postern({"blocked"}).output;
  for (const Family& family : kFamilies) {
    EXPECT_TRUE(blocked.contains(site_of(family).published)) << blocked;
    EXPECT_FALSE(blocked.contains(site_of(family).mailer)) << blocked;
  }
  const std::string rules = lab.run(Side::router, {"nft", "list", "ruleset"}).output;
  for (const char* word : {"type nat", "snat", "dnat", "masquerade", "redirect"}) {
    EXPECT_FALSE(rules.contains(word)) << rules;
  }
}

TEST_F(PublishedAs, BringsInternalClientsOfAnotherNetworkThereToo) {
  start();
  for (const Family& family : kFamilies) {
    Connection client = greeted(Side::office, site_of(family).published);
    EXPECT_TRUE(deliver(client, "anybody@far.example").starts_with("250")) << client.transcript();
  }
  EXPECT_EQ(mailer->peers(), (std::vector<std::string>{kIpv4.office_client, kIpv6.office_client}));
}

TEST_F(PublishedAs, IsShownWithTheMailersOwnAddressAskedForReachability) {
  start();
  const std::string status = posternd->postern({"status"}).output;
  EXPECT_TRUE(status.contains("192.168.7.25, fd00:7::25, published as 198.51.100.1, 2001:db8:1::1"))
      << status;
  EXPECT_FALSE(status.contains("mailer small does not answer")) << status;
  mailer.reset();
  const std::string later = posternd->postern({"status"}).output;
  EXPECT_TRUE(later.contains("mailer small does not answer at 192.168.7.25 port 25")) << later;
  EXPECT_TRUE(later.contains("mailer small does not answer at fd00:7::25 port 25")) << later;
}

// What is the router's own beside it stays so.
TEST_F(PublishedAs, IsNothingButPort25OfThatAddress) {
  const ScriptedServer of_router(lab, Side::router, {kIpv4.router, kIpv6.router}, {}, 2525);
  start();
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::outside, family.router, 2525), 0) << family.name;
    EXPECT_EQ(error_of_connecting(Side::router, family.router), ECONNREFUSED) << family.name;
  }
  EXPECT_TRUE(mailer->peers().empty()) << mailer->log();
}

TEST_F(PublishedAs, MayBeAnAddressThatTheRouterGetsLater) {
  start();
  posternd->write_config(ConfigText{.more_networks = R"(, "192.168.7.0/24", "fd00:7::/64")",
                                    .more_mailers = R"([[mailer]]
name = "small"
addresses = ["192.168.7.25", "fd00:7::25"]
published_as = ["198.51.100.7"]
domains = ["small.example"]
)"}
                             .to_toml(lab));
  ASSERT_EQ(posternd->postern({"reload"}).status, 0) << posternd->log();
  EXPECT_TRUE(posternd->log().contains("198.51.100.7 is no address of this router now"));
  add_address(Side::router, "wan0", "198.51.100.7", "/24");
  Connection client = greeted(Side::outside, "198.51.100.7");
  EXPECT_TRUE(deliver(client, "user@small.example").starts_with("250")) << client.transcript();
  EXPECT_EQ(error_of_connecting(Side::outside, kIpv4.router), ECONNREFUSED);
}

}  // namespace
}  // namespace postern::testing
