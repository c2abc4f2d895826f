// The limits on sessions, over all workers: how many in all, with a mailer, of a stranger.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

const std::string kWorkers = "workers = 4\n";

class SessionLimits : public EndToEnd {
 protected:
  void TearDown() override {
    clients.clear();  // else the daemon's stop waits for them
    EndToEnd::TearDown();
  }
  // The greeting: 220, or why not.
  [[nodiscard]] std::string open(Side side, const std::string& to, const std::string& from = {}) {
    Route route = lab.route(side, to);
    route.from = from;
    clients.emplace_back(route);
    return clients.back().read_reply().substr(0, 9);
  }
  [[nodiscard]] std::string open_as(const std::string& from) {
    return open(Side::outside, from.contains(':') ? kIpv6.mx2 : kIpv4.mx2, from);
  }
  void open_so_many(int count, const std::string& from) {
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(open_as(from).substr(0, 4), "220 ") << i << " of " << from;
    }
  }
  [[nodiscard]] std::int64_t refused(const char* reason) const {
    return posternd->counter("postern_connections_refused_total", {{"reason", reason}});
  }
  [[nodiscard]] ::testing::AssertionResult sessions_become(std::int64_t count) {
    return wait_until("so many sessions are open",
                      [&] { return posternd->counter("postern_sessions_open") == count; });
  }

  std::vector<Connection> clients;
};

TEST_F(SessionLimits, HoldForEachStrangerOverAllWorkers) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions_per_client = 8\n", .gateway = kWorkers});
  open_so_many(8, kIpv4.stranger);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(open_as(kIpv4.stranger), "421 4.7.0");
  }
  EXPECT_EQ(refused("too_many_client_sessions"), 4);
  EXPECT_EQ(scripted->peers().size(), 8U) << "the mailer hears of no refused one";
  EXPECT_EQ(open_as(kIpv4.outside_server).substr(0, 4), "220 ") << "another stranger";
  EXPECT_TRUE(posternd->postern({"blocked"}).output.contains("too_many_client_sessions"));

  clients.front().say("QUIT");
  clients.front().close();
  EXPECT_TRUE(sessions_become(8));
  EXPECT_EQ(open_as(kIpv4.stranger).substr(0, 4), "220 ") << "a place was given back";
  EXPECT_EQ(open_as(kIpv4.stranger), "421 4.7.0");
}

void begin_body(Connection& client) {
  for (const char* line :
       {"EHLO stranger.example", "MAIL FROM:<>", "RCPT TO:<user@script.example>", "DATA"}) {
    client.say(line);
  }
  client.send("part of a message\r\n");
}

TEST_F(SessionLimits, GiveTheirPlacesBackHoweverASessionEnds) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions_per_client = 1\nmax_sessions_per_mailer = 1\n"
                          "early_talker = \"refuse\"\nmax_errors = 1\n",
                  .gateway = kWorkers});
  struct Way {
    const char* name;
    void (*end)(Connection& client);
  };
  constexpr Way kWays[] = {
      {"QUIT", [](Connection& client) { client.say("QUIT"); }},
      {"the end of its stream", [](Connection& client) { client.shut_down_sending(); }},
      {"a reset", [](Connection& client) { client.reset(); }},
      {"the limit on errors", [](Connection& client) { client.say("FOO"); }},
      {"a bare newline", [](Connection& client) { client.say("NOOP\nNOOP"); }},
      {"the end of its stream inside a body",
       [](Connection& client) {
         begin_body(client);
         client.shut_down_sending();
       }},
      {"a reset inside a body",
       [](Connection& client) {
         begin_body(client);
         client.reset();
       }},
  };
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    ASSERT_EQ(open_as(kIpv4.stranger).substr(0, 4), "220 ");
    way.end(clients.back());
    clients.clear();
    ASSERT_TRUE(sessions_become(0));
  }
  // No server answers there; the second is one more of the same client, and of the same mailer.
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(open(Side::outside, kIpv4.mx1), "421 4.4.1");
    clients.clear();
    ASSERT_TRUE(sessions_become(0));
  }
  EXPECT_EQ(refused("too_many_client_sessions"), 0);
  EXPECT_EQ(refused("too_many_mailer_sessions"), 0);
  EXPECT_EQ(open_as(kIpv4.stranger).substr(0, 4), "220 ");
  EXPECT_EQ(open_as(kIpv4.stranger), "421 4.7.0");
}

TEST_F(SessionLimits, CountAnIpv6NetworkOf64BitsAsOneStranger) {
  constexpr const char* kOtherNetwork = "2001:db8:1:5::2";
  ASSERT_EQ(lab.run(Side::outside, {"ip", "addr", "add", std::string(kOtherNetwork) + "/128", "dev",
                                    "eth0", "nodad"})
                .status,
            0);
  ASSERT_EQ(lab.run(Side::router,
                    {"ip", "route", "add", std::string(kOtherNetwork) + "/128", "dev", "wan0"})
                .status,
            0);
  start_scripted_server();
  start_posternd({.smtp = "max_sessions_per_client = 4\n", .gateway = kWorkers});
  open_so_many(2, kIpv6.stranger);
  open_so_many(2, kIpv6.outside_server);
  EXPECT_EQ(open_as(kIpv6.stranger), "421 4.7.0");
  EXPECT_EQ(open_as(kIpv6.outside_server), "421 4.7.0");
  EXPECT_EQ(open_as(kOtherNetwork).substr(0, 4), "220 ");
  EXPECT_EQ(refused("too_many_client_sessions"), 2);
}

TEST_F(SessionLimits, OfOneClientAreNotForInternalOnes) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions_per_client = 1\n", .gateway = kWorkers});
  for (const Family& family : kFamilies) {
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(open(Side::office, family.mx2).substr(0, 4), "220 ") << family.name;
    }
  }
  EXPECT_EQ(refused("too_many_client_sessions"), 0);
}

TEST_F(SessionLimits, HoldForEachMailer) {
  start_scripted_server();
  const ScriptedServer mx1(lab, Side::inside, {kIpv4.mx1, kIpv6.mx1});
  start_posternd({.smtp = "max_sessions_per_mailer = 3\n", .gateway = kWorkers});
  open_so_many(2, kIpv4.stranger);
  open_so_many(1, kIpv6.stranger);
  EXPECT_EQ(open_as(kIpv4.outside_server), "421 4.3.2");
  EXPECT_EQ(open(Side::office, kIpv6.mx2), "421 4.3.2");
  EXPECT_EQ(open(Side::outside, kIpv4.mx1).substr(0, 4), "220 ") << "another mailer";
  EXPECT_EQ(refused("too_many_mailer_sessions"), 2);
}

TEST_F(SessionLimits, HoldInAll) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions = 6\n", .gateway = kWorkers});
  open_so_many(6, kIpv4.stranger);
  EXPECT_EQ(open_as(kIpv6.stranger), "421 4.3.2");
  EXPECT_EQ(open(Side::office, kIpv4.mx2), "421 4.3.2");
  EXPECT_EQ(refused("too_many_sessions"), 2);
  const Finished status = posternd->postern({"status"});
  EXPECT_TRUE(status.output.contains("6 of at most 6;")) << status.output;
}

TEST_F(SessionLimits, ChangeAtReloadForNewSessions) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions_per_client = 4\n", .gateway = kWorkers});
  open_so_many(4, kIpv4.stranger);
  posternd->write_config(
      ConfigText{.smtp = "max_sessions_per_client = 2\n", .gateway = kWorkers}.to_toml(lab));
  ASSERT_EQ(posternd->postern({"reload"}).status, 0);
  for (Connection& client : clients) {
    EXPECT_TRUE(client.say("NOOP").starts_with("250")) << client.transcript();
  }
  EXPECT_EQ(open_as(kIpv4.stranger), "421 4.7.0");
  posternd->write_config(
      ConfigText{.smtp = "max_sessions_per_client = 5\n", .gateway = kWorkers}.to_toml(lab));
  ASSERT_EQ(posternd->postern({"reload"}).status, 0);
  // Workers take the new settings one after another, and any of them may be asked.
  EXPECT_TRUE(wait_until("there is room for one more",
                         [&] { return open_as(kIpv4.stranger).starts_with("220"); }));
  EXPECT_TRUE(
      wait_until("and for no other", [&] { return open_as(kIpv4.stranger).starts_with("421"); }));
  EXPECT_EQ(posternd->counter("postern_sessions_open"), 5);
}

}  // namespace
}  // namespace postern::testing
