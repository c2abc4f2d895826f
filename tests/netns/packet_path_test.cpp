// Which connections reach whom: the packet policy on a real kernel.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

class PacketPath : public EndToEnd {
 protected:
  // A server on port 25 of a host that is no mailer, so that being refused means something.
  void start_unmanaged_server() {
    unmanaged = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.unmanaged, kIpv6.unmanaged});
  }
  void start_outside_server() {
    elsewhere = std::make_unique<ScriptedServer>(
        lab, Side::outside, std::vector<std::string>{kIpv4.outside_server, kIpv6.outside_server});
  }
  [[nodiscard]] bool is_greeted_from(Side side, const char* from, const char* to) const {
    Route route = lab.route(side, to);
    route.from = from;
    return Connection(route, kDropPatience).read_reply().starts_with("220");
  }

  [[nodiscard]] Connection greeted_on(const char* to, std::uint16_t port) const {
    Connection client(lab.route(Side::outside, to, port));
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    return client;
  }

  std::unique_ptr<ScriptedServer> unmanaged;
  std::unique_ptr<ScriptedServer> elsewhere;
};

TEST_F(PacketPath, ResetsConnectionsToAHostThatIsNoMailer) {
  start_unmanaged_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::outside, family.unmanaged), ECONNREFUSED) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_destination"), 2);
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
}

TEST_F(PacketPath, DropsConnectionsToAHostThatIsNoMailerOnRequest) {
  start_unmanaged_server();
  start_posternd({.inbound = "unmanaged_destination = \"drop\"\n"});
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::outside, family.unmanaged), ETIMEDOUT) << family.name;
  }
  EXPECT_GE(flows("unmanaged_destination"), 2);
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
  for (const Family& family : kFamilies) {
    Route to_mailer = lab.route(Side::outside, family.mx2);
    to_mailer.with_ip_options = true;
    Connection client(to_mailer);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
    Connection second(to_mailer);
    EXPECT_TRUE(second.read_reply().starts_with("220")) << second.transcript();
    EXPECT_TRUE(deliver(second, "victim@far.example").starts_with("550 5.7.1"))
        << second.transcript();

    Route to_unmanaged = lab.route(Side::outside, family.unmanaged);
    to_unmanaged.with_ip_options = true;
    EXPECT_EQ(Connection(to_unmanaged, kDropPatience).error(), ECONNREFUSED) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_destination"), 2);
  EXPECT_EQ(scripted->messages().size(), 2U) << scripted->log();
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
}

TEST_F(PacketPath, HasNoWayToTheProxyPorts) {
  start_posternd();
  for (const Family& family : kFamilies) {
    for (const std::uint16_t port : {std::uint16_t{10025}, std::uint16_t{10026}}) {
      EXPECT_NE(error_of_connecting(Side::outside, family.router, port), 0)
          << family.name << " port " << port;
      EXPECT_NE(error_of_connecting(Side::outside, family.mx2, port), 0)
          << family.name << " port " << port;
      Connection local(lab.route(Side::router, family.router, port), kDropPatience);
      EXPECT_EQ(local.read_to_end(kDropPatience), "") << local.transcript();
    }
  }
}

TEST_F(PacketPath, ResetsAndCountsAnInternalAddressOnAnExternalInterface) {
  start_scripted_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::outside, family.mx2, 25, family.misplaced), ECONNREFUSED)
        << family.name;
  }
  EXPECT_EQ(flows("translated_source"), 2);
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
  for (const Family& family : kFamilies) {
    Route route = lab.route(Side::outside, family.mx2);
    route.from = family.misplaced;
    Connection client(route);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "victim@far.example").starts_with("550 5.7.1"))
        << client.transcript();
  }
  EXPECT_EQ(flows("translated_source"), 2);
}

TEST_F(PacketPath, LetsInternalHostsSendOutAndCountsThoseThatAreNoMailers) {
  start_outside_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_TRUE(is_greeted_from(Side::inside, family.mx1, family.outside_server)) << family.name;
    EXPECT_EQ(elsewhere->peers().back(), family.mx1);
  }
  EXPECT_EQ(flows("unmanaged_sender"), 0);
  for (const Family& family : kFamilies) {
    EXPECT_TRUE(is_greeted_from(Side::office, family.office_client, family.outside_server))
        << family.name;
    EXPECT_EQ(elsewhere->peers().back(), family.office_client);
  }
  EXPECT_EQ(flows("unmanaged_sender"), 2);
}

TEST_F(PacketPath, KeepsInternalHostsThatAreNoMailersFromSendingOutOnRequest) {
  start_outside_server();
  start_posternd({.outbound = "unmanaged_sender = \"reject\"\n"});
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::office, family.outside_server), ECONNREFUSED)
        << family.name;
    EXPECT_TRUE(is_greeted_from(Side::inside, family.mx1, family.outside_server)) << family.name;
  }
  EXPECT_EQ(flows("unmanaged_sender"), 2);
}

TEST_F(PacketPath, LeavesOtherPortsAlone) {
  const ScriptedServer submission(lab, Side::inside, {kIpv4.mx1, kIpv6.mx1}, {}, 587);
  const ScriptedServer smtps(lab, Side::inside, {kIpv4.unmanaged, kIpv6.unmanaged}, {}, 465);
  start_posternd();
  for (const Family& family : kFamilies) {
    Connection to_submission = greeted_on(family.mx1, 587);
    EXPECT_TRUE(to_submission.say("EHLO x").contains("XINNER")) << to_submission.transcript();
    Connection to_smtps = greeted_on(family.unmanaged, 465);
  }
  EXPECT_EQ(submission.peers(), (std::vector<std::string>{kIpv4.stranger, kIpv6.stranger}));
  EXPECT_EQ(posternd->counter("postern_flows_total"), 0);
}

TEST_F(PacketPath, DoesNotLoopOnTheRoutersOwnAddresses) {
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_EQ(error_of_connecting(Side::outside, family.router), ECONNREFUSED) << family.name;
    EXPECT_EQ(error_of_connecting(Side::router, family.router), ECONNREFUSED) << family.name;
  }
}

}  // namespace
}  // namespace postern::testing
