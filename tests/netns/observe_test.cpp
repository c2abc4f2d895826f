// [gateway] observe = true: everything is judged, counted and logged, and nothing is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

const std::string kObserve = "observe = true\n";

class Observe : public EndToEnd {
 protected:
  void start_unmanaged_server() {
    unmanaged = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.unmanaged, kIpv6.unmanaged});
  }
  [[nodiscard]] std::int64_t count(const char* name,
                                   const std::map<std::string, std::string>& labels) const {
    return posternd->counter(name, labels);
  }
  [[nodiscard]] bool server_heard(const std::string& command) const {
    return std::ranges::count(scripted->commands(), command) > 0;
  }
  // The log comes over a pipe, and may come late.
  [[nodiscard]] ::testing::AssertionResult log_says(std::string_view text) const {
    return wait_until(std::string("the log says: ").append(text),
                      [&] { return posternd->log().contains(text); });
  }
  void reload(const ConfigText& config) const {
    posternd->write_config(config.to_toml(lab));
    const Finished done = posternd->postern({"reload"});
    ASSERT_EQ(done.status, 0) << done.output;
  }

  std::unique_ptr<ScriptedServer> unmanaged;
};

TEST_F(Observe, LetsAnUnmanagedHostBeReachedAndCountsThatItWouldNotBe) {
  start_unmanaged_server();
  start_posternd({.gateway = kObserve});
  for (const Family& family : kFamilies) {
    Connection client = greeted(Side::outside, family.unmanaged);
    EXPECT_TRUE(deliver(client, "user@anywhere.example").starts_with("250")) << client.transcript();
    EXPECT_EQ(unmanaged->peers().back(), family.stranger);
  }
  EXPECT_EQ(unmanaged->messages().size(), 2U);
  EXPECT_EQ(
      count("postern_flows_total", {{"verdict", "observe"}, {"reason", "unmanaged_destination"}}),
      2);
  EXPECT_EQ(count("postern_flows_total", {{"verdict", "reject"}}), 0);
  EXPECT_EQ(count("postern_kernel_packets_total", {{"counter", "leaked"}}), 0) << "all were judged";
}

TEST_F(Observe, ForwardsWhatItWouldRefuseInTheDialogue) {
  start_scripted_server();
  start_posternd({.gateway = kObserve});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(deliver(client, "victim@far.example").starts_with("250")) << client.transcript();
  EXPECT_TRUE(server_heard("RCPT TO:<victim@far.example>")) << scripted->log();
  client.say("EXPN staff");
  EXPECT_TRUE(server_heard("EXPN staff")) << scripted->log();
  client.say("QUIT");
  EXPECT_EQ(count("postern_recipients_total", {{"zone", "external"},
                                               {"recipient", "foreign"},
                                               {"decision", "observed"},
                                               {"reason", "relay_denied"}}),
            1);
  EXPECT_EQ(count("postern_recipients_total", {{"decision", "refused"}}), 0);
  EXPECT_EQ(count("postern_commands_refused_total",
                  {{"decision", "observed"}, {"reason", "forbidden_command"}}),
            1);
  EXPECT_EQ(count("postern_commands_refused_total", {{"decision", "refused"}}), 0);
  const Finished blocked = posternd->postern({"blocked"});
  EXPECT_TRUE(blocked.output.contains("would be blocked: <victim@far.example> at mx2"))
      << blocked.output;
  EXPECT_TRUE(log_says("would be blocked reason=relay_denied"));
  EXPECT_FALSE(posternd->log().contains("\nblocked ")) << posternd->log();
}

TEST_F(Observe, PassesOnUnreadWhatItWouldEndAndSaysSo) {
  start_scripted_server();
  start_posternd({.gateway = kObserve});
  Connection client = greeted(Side::outside, kIpv6.mx2);
  client.say("EHLO stranger.example");
  client.say("GET / HTTP/1.1");
  EXPECT_TRUE(client.say("RCPT TO:<unread@far.example>").starts_with("250")) << client.transcript();
  EXPECT_TRUE(server_heard("GET / HTTP/1.1")) << scripted->log();
  EXPECT_TRUE(server_heard("RCPT TO:<unread@far.example>")) << scripted->log();
  EXPECT_EQ(
      count("postern_commands_refused_total", {{"decision", "observed"}, {"reason", "not_smtp"}}),
      1);
  EXPECT_EQ(count("postern_sessions_opaque_total", {{"mailer", "mx2"}, {"zone", "external"}}), 1);
  EXPECT_TRUE(
      log_says("a session is passed on unread from here on mailer=mx2 zone=external client=["));
}

TEST_F(Observe, LimitsOfAClientAndAMailerAreCountedAndThatInAllHolds) {
  start_scripted_server();
  start_posternd({.smtp = "max_sessions = 4\nmax_sessions_per_client = 1\n"
                          "max_sessions_per_mailer = 3\n",
                  .gateway = kObserve + "workers = 2\n"});
  std::vector<Connection> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(greeted(Side::outside, kIpv4.mx2));
  }
  EXPECT_EQ(connect(Side::outside, kIpv4.mx2).read_reply().substr(0, 9), "421 4.3.2");
  const auto connections = [&](const char* decision, const char* reason) {
    return count("postern_connections_refused_total", {{"decision", decision}, {"reason", reason}});
  };
  EXPECT_EQ(connections("observed", "too_many_client_sessions"), 3);
  EXPECT_EQ(connections("refused", "too_many_client_sessions"), 0);
  EXPECT_EQ(connections("refused", "too_many_sessions"), 1);
}

TEST_F(Observe, IsSaidLoudly) {
  start_scripted_server();
  const ScriptedServer mx1(lab, Side::inside, {kIpv4.mx1, kIpv6.mx1});
  start_posternd({.gateway = kObserve});
  EXPECT_TRUE(log_says("NOTHING IS REFUSED"));
  EXPECT_TRUE(log_says("posternd observes port 25"));
  const Finished status = posternd->postern({"status"});
  EXPECT_EQ(status.status, 0) << status.output;
  EXPECT_TRUE(status.output.contains("NOTHING IS REFUSED")) << status.output;
  const std::size_t said = posternd->log().size();
  reload({.gateway = kObserve});
  EXPECT_TRUE(wait_until("the reload says it again", [&] {
    return posternd->log().substr(said).contains("NOTHING IS REFUSED");
  }));
}

TEST_F(Observe, IsSwitchedOnAndOffByAReloadWithoutDisturbingSessions) {
  start_scripted_server();
  start_unmanaged_server();
  start_posternd();
  Connection strict = greeted(Side::outside, kIpv4.mx2);
  strict.say("EHLO stranger.example");
  EXPECT_NE(error_of_connecting(Side::outside, kIpv4.unmanaged), 0);

  reload({.gateway = kObserve});
  EXPECT_TRUE(wait_until("the unmanaged host can be reached",
                         [&] { return error_of_connecting(Side::outside, kIpv4.unmanaged) == 0; }));
  // Not its first packet alone, which the policy lets through: the chains let the rest pass too.
  Connection past_the_proxy = greeted(Side::outside, kIpv4.unmanaged);
  EXPECT_TRUE(deliver(past_the_proxy, "user@anywhere.example").starts_with("250"))
      << past_the_proxy.transcript();
  Connection lax = greeted(Side::outside, kIpv6.mx2);
  lax.say("EHLO stranger.example");
  strict.say("MAIL FROM:<a@stranger.example>");
  EXPECT_TRUE(strict.say("RCPT TO:<victim@far.example>").starts_with("550"))
      << "a session keeps the policy that it began with\n"
      << strict.transcript();

  reload({});
  EXPECT_TRUE(wait_until("the unmanaged host is closed again",
                         [&] { return error_of_connecting(Side::outside, kIpv4.unmanaged) != 0; }));
  lax.say("MAIL FROM:<a@stranger.example>");
  EXPECT_TRUE(lax.say("RCPT TO:<victim@far.example>").starts_with("250"))
      << "a session keeps the policy that it began with\n"
      << lax.transcript();
  for (Connection* client : {&strict, &lax}) {
    client->say("RSET");
    client->say("MAIL FROM:<a@stranger.example>");
    client->say("RCPT TO:<user@script.example>");
    client->say("DATA");
    EXPECT_TRUE(client->say("hello\r\n.").starts_with("250")) << client->transcript();
  }
  EXPECT_EQ(scripted->messages().size(), 2U);
  EXPECT_TRUE(log_says("2 mailers are in force, nothing is refused"));

  // What was forwarded past the proxy ends, and without the daemon nothing passes any more.
  past_the_proxy.say("NOOP");
  EXPECT_TRUE(past_the_proxy.is_closed_by_peer()) << past_the_proxy.transcript();
  posternd->process().signal(SIGKILL);
  EXPECT_EQ(posternd->process().wait(kPatience), 128 + SIGKILL);
  EXPECT_NE(error_of_connecting(Side::outside, kIpv4.mx2), 0);
}

TEST_F(Observe, RefusesNothingWhenTheDaemonIsKilled) {
  start_scripted_server();
  start_unmanaged_server();
  start_posternd({.gateway = kObserve + "on_failure = \"closed\"\n"});
  posternd->process().signal(SIGKILL);
  EXPECT_EQ(posternd->process().wait(kPatience), 128 + SIGKILL);
  for (const Family& family : kFamilies) {
    greeted(Side::outside, family.mx2).close();
    greeted(Side::outside, family.unmanaged).close();
    EXPECT_EQ(scripted->peers().back(), family.stranger);
  }
  // And the next one, which does not observe, takes all of that back.
  start_posternd();
  for (const Family& family : kFamilies) {
    EXPECT_NE(error_of_connecting(Side::outside, family.unmanaged), 0) << family.name;
  }
}

// More connections than the flood limit lets be shown to the policy.
TEST_F(Observe, DropsNoConnectionOfAFlood) {
  start_unmanaged_server();
  start_posternd({.gateway = kObserve});
  constexpr int kConnections = 600;
  const Finished flood = lab.run(
      Side::outside, {"/usr/bin/python3", "-c",
                      "import socket, sys\n"
                      "for i in range(int(sys.argv[2])):\n"
                      "    socket.create_connection((sys.argv[1], 25), timeout=1).close()\n",
                      kIpv4.unmanaged, std::to_string(kConnections)});
  EXPECT_EQ(flood.status, 0) << flood.output;
  // One source for all of them is a repeat offender at once.
  const auto flooded = count("postern_kernel_packets_total", {{"counter", "flooded"}}) +
                       count("postern_kernel_packets_total", {{"counter", "repeat_offenders"}});
  EXPECT_GT(flooded, 0) << "no flood, nothing was tested";
  EXPECT_EQ(count("postern_flows_total", {{"verdict", "observe"}}) + flooded, kConnections);
  EXPECT_EQ(count("postern_kernel_packets_total", {{"counter", "observed"}}), flooded);
  const std::string counters = posternd->postern({"counters"}).output;
  const std::string in_all = counters.substr(counters.rfind("in all"));
  EXPECT_EQ(in_all.substr(in_all.find_last_of(' ')), " 0\n") << counters;
}

}  // namespace
}  // namespace postern::testing
