// The lab itself, with nothing on the router but plain forwarding: if these fail, the other tests
// of this folder say nothing about Postern.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

TEST(Lab, CarriesMailToPostfixWithTheClientsAddressInItsLog) {
  const Lab lab;
  const Postfix postfix(lab);
  for (const Family& family : kFamilies) {
    const Finished swaks = lab.run(Side::outside, {"swaks", "--server", family.mx1, "--from",
                                                   "a@stranger.example", "--to", "b@example.org"});
    EXPECT_EQ(swaks.status, 0) << swaks.output;
    EXPECT_EQ(postfix.count_log({std::string("client=unknown[") + family.stranger + "]"}), 1U)
        << postfix.log();
  }
  EXPECT_TRUE(wait_until("both are stored", [&] { return postfix.messages().size() == 2; }))
      << postfix.log();
  EXPECT_TRUE(postfix.heard_recipient("b@example.org"));
  EXPECT_FALSE(postfix.heard_recipient("c@example.org"));
}

TEST(Lab, HasAnAdversaryThatRelaysForTheWholeWorld) {
  const Lab lab;
  const Postfix postfix(lab);
  const Finished swaks = lab.run(Side::outside, {"swaks", "--server", kIpv4.mx1, "--from",
                                                 "a@stranger.example", "--to", "b@far.example"});
  EXPECT_EQ(swaks.status, 0) << swaks.output;
  EXPECT_TRUE(postfix.heard_recipient("b@far.example")) << postfix.log();
  EXPECT_TRUE(wait_until("it is thrown away", [&] { return postfix.is_queue_empty(); }));
  EXPECT_TRUE(postfix.messages().empty());
}

TEST(Lab, HasAScriptedServerThatWritesDownWhatItHears) {
  const Lab lab;
  const ScriptedServer server(lab, Side::inside, {kIpv4.mx2, kIpv6.mx2});
  for (const Family& family : kFamilies) {
    Connection client(lab.route(Side::office, family.mx2));
    EXPECT_EQ(client.read_reply(), "220 inner.example ESMTP\r\n") << client.transcript();
    client.say("MAIL FROM:<a@example.org>");
    client.say("RCPT TO:<b@far.example>");
    client.say("DATA");
    EXPECT_EQ(client.say("one\r\n.\r\n."), "250 2.0.0 stored\r\n") << client.transcript();
    client.close();
  }
  ASSERT_EQ(server.messages().size(), 2U) << server.log();
  EXPECT_EQ(server.messages()[0].data, "one\r\n");
  EXPECT_EQ(server.messages()[0].recipients, std::vector<std::string>{"TO:<b@far.example>"});
  EXPECT_EQ(server.peers(), (std::vector<std::string>{kIpv4.office_client, kIpv6.office_client}));
  EXPECT_TRUE(wait_until("it saw both ends", [&] { return server.sessions_ended() == 2; }));
}

TEST(Lab, SendsIpOptionsAndExtensionHeaders) {
  const Lab lab;
  const ScriptedServer server(lab, Side::inside, {kIpv4.mx2, kIpv6.mx2});
  for (const Family& family : kFamilies) {
    Route route = lab.route(Side::outside, family.mx2);
    route.with_ip_options = true;
    Connection client(route);
    EXPECT_EQ(client.read_reply(), "220 inner.example ESMTP\r\n") << client.transcript();
  }
}

TEST(Lab, MayExistTwiceAndLeavesNothingBehind) {
  std::filesystem::path folder;
  std::string name;
  {
    const Lab first;
    const Lab second;
    const ScriptedServer one(first, Side::inside, {kIpv4.mx2});
    EXPECT_EQ(Connection(first.route(Side::outside, kIpv4.mx2)).error(), 0);
    EXPECT_EQ(Connection(second.route(Side::outside, kIpv4.mx2)).error(), ECONNREFUSED);
    folder = first.folder();
    name = first.network_namespace(Side::router);
    EXPECT_TRUE(std::filesystem::exists("/run/netns/" + name));
  }
  EXPECT_FALSE(std::filesystem::exists("/run/netns/" + name));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(Lab, RemovesWhatAKilledTestLeftBehind) {
  int names[2];
  ASSERT_EQ(::pipe(names), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const Lab abandoned;
    const std::string name = abandoned.network_namespace(Side::inside);
    [[maybe_unused]] const auto written = ::write(names[1], name.data(), name.size());
    ::raise(SIGKILL);
  }
  std::string name(200, '\0');
  name.resize(static_cast<std::size_t>(::read(names[0], name.data(), name.size())));
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(std::filesystem::exists("/run/netns/" + name));
  const Lab next;
  EXPECT_FALSE(std::filesystem::exists("/run/netns/" + name));
}

}  // namespace
}  // namespace postern::testing
