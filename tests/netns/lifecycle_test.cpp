// Start, reload, drain, stop and crash of the real daemon.
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <string>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/mail_load.hpp"

namespace postern::testing {
namespace {

class Lifecycle : public EndToEnd {
 protected:
  [[nodiscard]] Finished run_daemon(const std::string& toml, std::vector<std::string> before = {},
                                    std::vector<std::string> after = {}) const {
    const auto config = lab.folder() / "other.toml";
    std::ofstream(config) << toml;
    std::filesystem::permissions(config, static_cast<std::filesystem::perms>(0644));
    auto arguments = std::move(before);
    arguments.insert(arguments.end(), {Posternd::program(), "--config", config.string()});
    arguments.insert(arguments.end(), after.begin(), after.end());
    return lab.run(Side::router, std::move(arguments));
  }
  [[nodiscard]] std::string reply_to_recipient(const std::string& recipient) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    client.say("EHLO stranger.example");
    client.say("MAIL FROM:<a@stranger.example>");
    return client.say("RCPT TO:<" + recipient + ">");
  }
};

const ConfigText kAdded{.more_domains_of_mx2 = R"(, "added.example")"};

TEST_F(Lifecycle, RefusesAWrongConfigWithAPlaceAndTheNearestKey) {
  const Finished finished = run_daemon(
      "[network]\nexternal_interfaces = [\"wan0\"]\ninternal_network = [\"203.0.113.0/24\"]\n");
  EXPECT_EQ(finished.status, 78) << finished.output;
  EXPECT_TRUE(finished.output.contains("other.toml:3:1")) << finished.output;
  EXPECT_TRUE(finished.output.contains("internal_networks")) << finished.output;
  EXPECT_TRUE(finished.output.contains("mailer")) << finished.output;
  EXPECT_EQ(kernel_state(), "");
}

TEST_F(Lifecycle, RefusesToRunWithoutItsCapabilities) {
  const Finished finished = run_daemon(
      ConfigText{}.to_toml(lab), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
  EXPECT_EQ(finished.status, 77) << finished.output;
  EXPECT_EQ(kernel_state(), "");
}

TEST_F(Lifecycle, ChecksAConfigWithoutTouchingTheKernel) {
  const Finished good = run_daemon(ConfigText{}.to_toml(lab), {}, {"--check"});
  EXPECT_EQ(good.status, 0) << good.output;
  const Finished bad = run_daemon("[gateway]\nworkers = \"two\"\n", {}, {"--check"});
  EXPECT_EQ(bad.status, 78) << bad.output;
  EXPECT_EQ(kernel_state(), "");
}

TEST_F(Lifecycle, TakesRulesAndRoutesAwayWithItself) {
  start_posternd();
  EXPECT_TRUE(kernel_state().contains("postern"));
  posternd->process().signal(SIGTERM);
  EXPECT_EQ(posternd->process().wait(kPatience), 0);
  EXPECT_EQ(kernel_state(), "");
}

// bash says " (core dumped)" where the kernel wrote a core, wherever core_pattern sends it.
TEST_F(Lifecycle, LeavesNoCoreThatWouldHoldKeys) {
  const auto folder = lab.folder() / "core";
  std::filesystem::create_directory(folder);
  const auto config = folder / "postern.toml";
  std::ofstream(config) << ConfigText{}.to_toml(lab);
  const Finished finished =
      lab.run(Side::router, {"bash", "-c",
                             "cd " + folder.string() + " && ulimit -c unlimited && mkfifo log\n" +
                                 Posternd::program() + " --config " + config.string() +
                                 " 2>log &\n"
                                 "while read -r line; do\n"
                                 "  case $line in *'guards port 25'*) kill -ABRT $!; break;; esac\n"
                                 "done <log\n"
                                 "wait $!\n"
                                 "echo status $?; ls"});
  EXPECT_TRUE(finished.output.contains("status 134\n")) << finished.output;
  EXPECT_TRUE(finished.output.contains("Aborted")) << finished.output;
  EXPECT_FALSE(finished.output.contains("core dumped")) << finished.output;
}

TEST_F(Lifecycle, IsHealthyOnlyWhenEveryMailerAnswers) {
  start_scripted_server();
  start_posternd();
  const Finished without_mx1 = posternd->postern({"status"});
  EXPECT_EQ(without_mx1.status, 1) << without_mx1.output;
  EXPECT_TRUE(without_mx1.output.contains("mx1 does not answer")) << without_mx1.output;
  const ScriptedServer mx1(lab, Side::inside, {kIpv4.mx1, kIpv6.mx1});
  const Finished with_both = posternd->postern({"status"});
  EXPECT_EQ(with_both.status, 0) << with_both.output;
}

TEST_F(Lifecycle, ListsBlockedAttemptsWithTheirReason) {
  start_scripted_server();
  start_posternd();
  EXPECT_TRUE(reply_to_recipient("victim@far.example").starts_with("550"));
  EXPECT_EQ(error_of_connecting(Side::outside, kIpv4.unmanaged), ECONNREFUSED);
  const Finished blocked = posternd->postern({"blocked", "--json"});
  EXPECT_EQ(blocked.status, 0) << blocked.output;
  for (const char* word : {"victim@far.example", "relay_denied", "unmanaged_destination",
                           kIpv4.unmanaged, kIpv4.stranger}) {
    EXPECT_TRUE(blocked.output.contains(word)) << word << " is not in " << blocked.output;
  }
}

TEST_F(Lifecycle, TakesANewPolicyAtReloadForNewSessionsOnly) {
  start_scripted_server();
  start_posternd();
  Connection before = greeted(Side::outside, kIpv4.mx2);
  before.say("EHLO stranger.example");
  before.say("MAIL FROM:<a@stranger.example>");
  EXPECT_TRUE(reply_to_recipient("user@added.example").starts_with("550"));

  posternd->write_config(kAdded.to_toml(lab));
  const Finished reload = posternd->postern({"reload"});
  EXPECT_EQ(reload.status, 0) << reload.output;
  EXPECT_TRUE(wait_until("the new policy holds", [&] {
    return reply_to_recipient("user@added.example").starts_with("250");
  }));
  EXPECT_TRUE(before.say("RCPT TO:<user@added.example>").starts_with("550"))
      << "a session sees one policy only\n"
      << before.transcript();

  posternd->write_config(ConfigText{}.to_toml(lab));
  const std::size_t ready = posternd->count_notified("READY=1");
  const std::size_t reloading = posternd->count_notified("RELOADING=1");
  posternd->process().signal(SIGHUP);
  EXPECT_TRUE(wait_until("systemd hears of the reload", [&] {
    return posternd->count_notified("RELOADING=1") > reloading &&
           posternd->count_notified("READY=1") > ready;
  }));
  EXPECT_TRUE(wait_until("the old policy holds again", [&] {
    return reply_to_recipient("user@added.example").starts_with("550");
  }));
}

TEST_F(Lifecycle, TellsWhenAConfigurationWasTakenLast) {
  const auto taken = [&] {
    return posternd->counter("postern_config_last_reload_success_timestamp_seconds");
  };
  const std::int64_t before = std::time(nullptr);
  start_posternd();
  const std::int64_t at_start = taken();
  EXPECT_GE(at_start, before);
  EXPECT_LE(at_start, std::time(nullptr));
  ASSERT_TRUE(wait_until("it is a second later", [&] { return std::time(nullptr) > at_start; }));
  posternd->write_config(kAdded.to_toml(lab) + "workers = \"many\"\n");
  EXPECT_EQ(posternd->postern({"reload"}).status, 1);
  EXPECT_EQ(taken(), at_start);
  posternd->write_config(kAdded.to_toml(lab));
  EXPECT_EQ(posternd->postern({"reload"}).status, 0);
  EXPECT_GT(taken(), at_start);
}

TEST_F(Lifecycle, KeepsTheOldPolicyWhenTheNewConfigIsBroken) {
  start_scripted_server();
  start_posternd();
  posternd->write_config(kAdded.to_toml(lab) + "workers = \"many\"\n");
  const Finished reload = posternd->postern({"reload"});
  EXPECT_EQ(reload.status, 1) << reload.output;
  EXPECT_TRUE(reload.output.contains("gateway.workers")) << reload.output;
  EXPECT_TRUE(reply_to_recipient("user@added.example").starts_with("550"));
  EXPECT_TRUE(reply_to_recipient("user@script.example").starts_with("250"));

  posternd->process().signal(SIGHUP);
  EXPECT_TRUE(
      wait_until("the log says why", [&] { return posternd->log().contains("gateway.workers"); }));
  EXPECT_TRUE(reply_to_recipient("user@script.example").starts_with("250"));
  EXPECT_TRUE(posternd->process().is_running());
}

TEST_F(Lifecycle, LetsOpenSessionsEndWhenItStops) {
  start_scripted_server();
  start_posternd({.smtp = "drain_timeout = \"20s\"\n"});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  client.say("EHLO stranger.example");
  client.say("MAIL FROM:<a@stranger.example>");
  client.say("RCPT TO:<user@script.example>");
  EXPECT_TRUE(client.say("DATA").starts_with("354")) << client.transcript();

  posternd->process().signal(SIGTERM);
  EXPECT_TRUE(wait_until("it says that it stops",
                         [&] { return posternd->count_notified("STOPPING=1") == 1; }));
  EXPECT_FALSE(connect(Side::outside, kIpv4.mx2).read_reply(kDropPatience).starts_with("220"))
      << "a new session during the drain";
  EXPECT_TRUE(client.say("hello\r\n.").starts_with("250")) << client.transcript();
  client.say("QUIT");
  client.close();
  EXPECT_EQ(posternd->process().wait(kPatience), 0);
  EXPECT_EQ(scripted->messages().size(), 1U);
  EXPECT_EQ(kernel_state(), "");
}

TEST_F(Lifecycle, DoesNotWaitForeverForASessionThatDoesNotEnd) {
  start_scripted_server();
  start_posternd({.smtp = "drain_timeout = \"1s\"\n"});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  posternd->process().signal(SIGTERM);
  EXPECT_EQ(posternd->process().wait(kPatience), 0);
  EXPECT_TRUE(client.read_to_end().empty() || client.transcript().contains("421"))
      << client.transcript();
  EXPECT_TRUE(client.is_closed_by_peer());
}

TEST_F(Lifecycle, FailsClosedWhenItIsKilledAndRecovers) {
  start_scripted_server();
  const ScriptedServer unmanaged(lab, Side::inside, {kIpv4.unmanaged, kIpv6.unmanaged});
  start_posternd();
  Connection open_session = greeted(Side::outside, kIpv4.mx2);
  const std::string before_crash = kernel_state();
  posternd->process().signal(SIGKILL);
  EXPECT_EQ(posternd->process().wait(kPatience), 128 + SIGKILL);
  const std::size_t heard = scripted->peers().size();
  for (const Family& family : kFamilies) {
    EXPECT_NE(error_of_connecting(Side::outside, family.mx2), 0) << family.name;
    EXPECT_NE(error_of_connecting(Side::outside, family.unmanaged), 0) << family.name;
  }
  EXPECT_EQ(scripted->peers().size(), heard) << scripted->log();
  EXPECT_TRUE(unmanaged.peers().empty());

  EXPECT_TRUE(kernel_state().starts_with("table inet postern\n")) << kernel_state();
  start_posternd();
  EXPECT_EQ(kernel_state(), before_crash) << "what a crash left behind is replaced, not doubled";
  EXPECT_TRUE(reply_to_recipient("user@script.example").starts_with("250"));
  EXPECT_TRUE(reply_to_recipient("user@far.example").starts_with("550"));
}

TEST_F(Lifecycle, FailsOpenForManagedMailersAloneWhenAskedTo) {
  start_scripted_server();
  const ScriptedServer unmanaged(lab, Side::inside, {kIpv4.unmanaged, kIpv6.unmanaged});
  start_posternd({.gateway = "on_failure = \"open\"\n"});
  EXPECT_TRUE(reply_to_recipient("user@far.example").starts_with("550"));
  posternd->process().signal(SIGKILL);
  EXPECT_EQ(posternd->process().wait(kPatience), 128 + SIGKILL);
  for (const Family& family : kFamilies) {
    // The proxy lives a moment longer than the daemon, and resets what is not its own.
    EXPECT_TRUE(wait_until("the mailer itself answers", [&] {
      Connection client = connect(Side::outside, family.mx2);
      return client.read_reply().starts_with("220") &&
             client.say("EHLO stranger.example").contains("XINNER");
    }));
    EXPECT_EQ(scripted->peers().back(), family.stranger);
    EXPECT_NE(error_of_connecting(Side::outside, family.unmanaged), 0) << family.name;
  }
  EXPECT_TRUE(unmanaged.peers().empty());
}

TEST_F(Lifecycle, RunsInTwoLabsAtOnce) {
  start_scripted_server();
  start_posternd();
  const Lab other;
  const ScriptedServer other_server(other, Side::inside, {kIpv4.mx2});
  Posternd other_daemon(other, kAdded);
  EXPECT_TRUE(reply_to_recipient("user@added.example").starts_with("550"));
  Connection client(other.route(Side::outside, kIpv4.mx2));
  EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
  EXPECT_TRUE(deliver(client, "user@added.example").starts_with("250")) << client.transcript();
  client.close();
  EXPECT_EQ(other_server.messages().size(), 1U);
  EXPECT_TRUE(scripted->messages().empty());
  other_daemon.process().signal(SIGTERM);
  EXPECT_EQ(other_daemon.process().wait(kPatience), 0) << other_daemon.log();
  EXPECT_TRUE(reply_to_recipient("user@script.example").starts_with("250"));
}

}  // namespace
}  // namespace postern::testing
