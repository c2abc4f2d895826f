// Which connections reach whom: the packet policy on a real kernel.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

constexpr std::int64_t kEachWay = kWaysIn.size();

class PacketPath : public EndToEnd {
 protected:
  // A server on port 25 of a host that is no mailer, so that being refused means something.
  void start_unmanaged_server() {
    unmanaged = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.unmanaged, kIpv6.unmanaged});
  }
  // By each way out a mail server of somebody else's.
  void start_outside_servers() {
    for (const Family& family : kWaysIn) {
      elsewhere[family.name] = std::make_unique<ScriptedServer>(
          lab, family.outside, std::vector<std::string>{family.outside_server});
    }
  }
  [[nodiscard]] std::int64_t leaked() const {
    return posternd->counter("postern_kernel_packets_total", {{"counter", "leaked"}});
  }
  [[nodiscard]] bool is_greeted_from(Side side, const char* from, const char* to) const {
    Route route = lab.route(side, to);
    route.from = from;
    return Connection(route, kDropPatience).read_reply().starts_with("220");
  }

  [[nodiscard]] Connection greeted_on(Side side, const char* to, std::uint16_t port) const {
    Connection client(lab.route(side, to, port));
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    return client;
  }

  std::unique_ptr<ScriptedServer> unmanaged;
  std::map<std::string, std::unique_ptr<ScriptedServer>> elsewhere;
};

TEST_F(PacketPath, ResetsConnectionsToAHostThatIsNoMailer) {
  start_unmanaged_server();
  start_posternd();
  for (const Family& family : kWaysIn) {
    EXPECT_EQ(error_of_connecting(family.outside, family.unmanaged), ECONNREFUSED) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_destination"), kEachWay);
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
}

TEST_F(PacketPath, DropsConnectionsToAHostThatIsNoMailerOnRequest) {
  start_unmanaged_server();
  start_posternd({.inbound = "unmanaged_destination = \"drop\"\n"});
  for (const Family& family : kWaysIn) {
    EXPECT_EQ(error_of_connecting(family.outside, family.unmanaged), ETIMEDOUT) << family.name;
  }
  EXPECT_GE(flows("unmanaged_destination"), kEachWay);
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
}

TEST_F(PacketPath, LetsInternalClientsReachAHostThatIsNoMailer) {
  start_unmanaged_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_TRUE(is_greeted_from(Side::office, family.office_client, family.unmanaged))
        << family.name;
  }
}

TEST_F(PacketPath, ReadsPastIpOptionsAndExtensionHeaders) {
  start_scripted_server();
  start_unmanaged_server();
  start_posternd();
  for (const Family& family : kWaysIn) {
    Route to_mailer = lab.route(family.outside, family.mx2);
    to_mailer.with_ip_options = true;
    Connection client(to_mailer);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
    Connection second(to_mailer);
    EXPECT_TRUE(second.read_reply().starts_with("220")) << second.transcript();
    EXPECT_TRUE(deliver(second, "victim@far.example").starts_with("550 5.7.1"))
        << second.transcript();

    Route to_unmanaged = lab.route(family.outside, family.unmanaged);
    to_unmanaged.with_ip_options = true;
    EXPECT_EQ(Connection(to_unmanaged, kDropPatience).error(), ECONNREFUSED) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_destination"), kEachWay);
  EXPECT_EQ(scripted->messages().size(), kWaysIn.size()) << scripted->log();
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
}

TEST_F(PacketPath, HasNoWayToTheProxyPorts) {
  start_posternd();
  for (const Family& family : kFamilies) {
    for (const std::uint16_t port : {std::uint16_t{10025}, std::uint16_t{10026}}) {
      EXPECT_NE(error_of_connecting(family.outside, family.router, port), 0)
          << family.name << " port " << port;
      EXPECT_NE(error_of_connecting(family.outside, family.mx2, port), 0)
          << family.name << " port " << port;
      Connection local(lab.route(Side::router, family.router, port), kDropPatience);
      EXPECT_EQ(local.read_to_end(kDropPatience), "") << local.transcript();
    }
  }
}

TEST_F(PacketPath, ResetsAndCountsAnInternalAddressOnAnExternalInterface) {
  start_scripted_server();
  start_posternd();
  for (const Family& family : kWaysIn) {
    EXPECT_EQ(error_of_connecting(family.outside, family.mx2, 25, family.misplaced), ECONNREFUSED)
        << family.name;
  }
  EXPECT_EQ(flows("translated_source"), kEachWay);
  EXPECT_TRUE(scripted->peers().empty()) << scripted->log();
}

TEST_F(PacketPath, DropsAnInternalAddressOnAnExternalInterfaceOnRequest) {
  start_scripted_server();
  start_posternd({.inbound = "translated_source = \"drop\"\n"});
  EXPECT_EQ(error_of_connecting(Side::outside, kIpv4.mx2, 25, kIpv4.misplaced), ETIMEDOUT);
  EXPECT_GE(flows("translated_source"), 1);
  EXPECT_TRUE(scripted->peers().empty()) << scripted->log();
}

TEST_F(PacketPath, GivesAnInternalAddressOnAnExternalInterfaceNoRightsWhenItIsOnlyCounted) {
  start_scripted_server();
  start_posternd({.inbound = "translated_source = \"count\"\n"});
  for (const Family& family : kWaysIn) {
    Route route = lab.route(family.outside, family.mx2);
    route.from = family.misplaced;
    Connection client(route);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "victim@far.example").starts_with("550 5.7.1"))
        << client.transcript();
  }
  EXPECT_EQ(flows("translated_source"), kEachWay);
}

TEST_F(PacketPath, LetsInternalHostsSendOutAndCountsThoseThatAreNoMailers) {
  start_outside_servers();
  start_posternd();
  for (const Family& family : kWaysIn) {
    EXPECT_TRUE(is_greeted_from(Side::inside, family.mx1, family.outside_server)) << family.name;
    EXPECT_EQ(elsewhere[family.name]->peers().back(), family.mx1);
  }
  EXPECT_EQ(flows("unmanaged_sender"), 0);
  for (const Family& family : kWaysIn) {
    EXPECT_TRUE(is_greeted_from(Side::office, family.office_client, family.outside_server))
        << family.name;
    EXPECT_EQ(elsewhere[family.name]->peers().back(), family.office_client);
  }
  EXPECT_EQ(flows("unmanaged_sender"), kEachWay);
}

TEST_F(PacketPath, KeepsInternalHostsThatAreNoMailersFromSendingOutOnRequest) {
  start_outside_servers();
  start_posternd({.outbound = "unmanaged_sender = \"reject\"\n"});
  for (const Family& family : kWaysIn) {
    EXPECT_EQ(error_of_connecting(Side::office, family.outside_server), ECONNREFUSED)
        << family.name;
    EXPECT_TRUE(is_greeted_from(Side::inside, family.mx1, family.outside_server)) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_sender"), kEachWay);
}

// From one outside to the other, past everything that is inside.
TEST_F(PacketPath, ResetsTransitFromOneExternalInterfaceToAnother) {
  start_outside_servers();
  const std::array transits{std::pair{kIpv4, kIpv4ByDsl}, std::pair{kIpv6, kIpv6ByDsl},
                            std::pair{kIpv4ByDsl, kIpv4}, std::pair{kIpv6ByDsl, kIpv6}};
  for (const auto& [from, to] : transits) {
    Connection client = greeted(from.outside, to.outside_server);  // there is a way
  }
  start_posternd();
  for (const auto& [from, to] : transits) {
    EXPECT_EQ(error_of_connecting(from.outside, to.outside_server), ECONNREFUSED) << from.name;
    EXPECT_EQ(elsewhere[to.name]->peers(), std::vector<std::string>{from.stranger});
  }
  EXPECT_EQ(posternd->counter("postern_flows_total", {{"direction", "transit"},
                                                      {"verdict", "reject"},
                                                      {"reason", "unmanaged_destination"}}),
            kEachWay);
  EXPECT_EQ(posternd->counter("postern_flows_total"), kEachWay);
}

// The packet policy saw none of them: they were let through before it was there.
TEST_F(PacketPath, EndsConnectionsThatAreOlderThanTheDaemon) {
  start_unmanaged_server();
  std::vector<Connection> older;
  for (const Family& family : kWaysIn) {
    older.push_back(greeted(family.outside, family.unmanaged));
  }
  start_posternd();
  for (Connection& client : older) {
    const std::int64_t before = leaked();
    EXPECT_EQ(client.say("NOOP"), "") << client.transcript();
    EXPECT_TRUE(client.transcript().contains("Connection reset by peer")) << client.transcript();
    EXPECT_GT(leaked(), before) << client.transcript();
  }
  EXPECT_TRUE(unmanaged->commands().empty()) << unmanaged->log();
}

TEST_F(PacketPath, LeavesOtherPortsAlone) {
  const ScriptedServer submission(lab, Side::inside, {kIpv4.mx1, kIpv6.mx1}, {}, 587);
  const ScriptedServer smtps(lab, Side::inside, {kIpv4.unmanaged, kIpv6.unmanaged}, {}, 465);
  start_posternd();
  for (const Family& family : kWaysIn) {
    Connection to_submission = greeted_on(family.outside, family.mx1, 587);
    EXPECT_TRUE(to_submission.say("EHLO x").contains("XINNER")) << to_submission.transcript();
    Connection to_smtps = greeted_on(family.outside, family.unmanaged, 465);
  }
  EXPECT_EQ(submission.peers(),
            (std::vector<std::string>{kIpv4.stranger, kIpv6.stranger, kIpv4ByDsl.stranger,
                                      kIpv6ByDsl.stranger}));
  EXPECT_EQ(posternd->counter("postern_flows_total"), 0);
}

TEST_F(PacketPath, DoesNotLoopOnTheRoutersOwnAddresses) {
  start_posternd();
  for (const Family& family : kWaysIn) {
    EXPECT_EQ(error_of_connecting(family.outside, family.router), ECONNREFUSED) << family.name;
    EXPECT_EQ(error_of_connecting(Side::router, family.router), ECONNREFUSED) << family.name;
  }
}

}  // namespace
}  // namespace postern::testing
