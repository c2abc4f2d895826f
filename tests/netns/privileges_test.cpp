// Two processes, each with what it needs; and neither of them outlives the other.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <string>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

// As /proc writes them, capabilities(7).
constexpr const char* kNetAdminAndRaw = "0000000000003000";
constexpr const char* kNetRaw = "0000000000002000";

std::string status_field(pid_t process, std::string_view name) {
  std::ifstream file("/proc/" + std::to_string(process) + "/status");
  for (std::string word; file >> word;) {
    if (word == std::string(name) + ":") {
      file >> word;
      return word;
    }
  }
  return {};
}

bool lives(pid_t process) {
  const std::string state = status_field(process, "State");
  return !state.empty() && state != "Z";
}

using Privileges = EndToEnd;

TEST_F(Privileges, OfWhatSpeaksSmtpAreThoseToKeepAddressesAlone) {
  start_posternd();
  const pid_t proxy = posternd->proxy_pid();
  ASSERT_GT(proxy, 0);
  for (const char* set : {"CapEff", "CapPrm"}) {
    EXPECT_EQ(status_field(proxy, set), kNetRaw) << set;
  }
  for (const char* set : {"CapInh", "CapAmb"}) {
    EXPECT_EQ(status_field(proxy, set), "0000000000000000") << set;
  }
  EXPECT_EQ(status_field(proxy, "NoNewPrivs"), "1");
  EXPECT_EQ(status_field(proxy, "Seccomp"), "2");
}

TEST_F(Privileges, AreEnoughForAUserWhoIsNobody) {
  start_scripted_server();
  ASSERT_EQ(::chmod(lab.folder().c_str(), 0777), 0);
  posternd = std::make_unique<Posternd>(
      lab, ConfigText{}, Posternd::Until::ready,
      std::vector<std::string>{"setpriv", "--reuid=65534", "--regid=65534", "--groups=0",
                               "--inh-caps=-all,+net_admin,+net_raw",
                               "--ambient-caps=-all,+net_admin,+net_raw",
                               "--bounding-set=-all,+net_admin,+net_raw", "--no-new-privs"});
  EXPECT_EQ(status_field(posternd->process().pid(), "CapBnd"), kNetAdminAndRaw);
  EXPECT_EQ(status_field(posternd->process().pid(), "Uid"), "65534");
  EXPECT_EQ(status_field(posternd->proxy_pid(), "CapEff"), kNetRaw);
  for (const Family& family : kFamilies) {
    Connection client = greeted(Side::outside, family.mx2);
    EXPECT_TRUE(client.say("EHLO stranger.example").starts_with("250")) << client.transcript();
    EXPECT_TRUE(client.say("MAIL FROM:<a@stranger.example>").starts_with("250"))
        << client.transcript();
    EXPECT_TRUE(client.say("RCPT TO:<b@elsewhere.example>").starts_with("550 5.7.1"))
        << client.transcript();
    EXPECT_EQ(error_of_connecting(Side::outside, family.unmanaged), ECONNREFUSED);
  }
  EXPECT_EQ(posternd->postern({"counters"}).status, 0);
}

TEST_F(Privileges, LostWithTheProxyLeavePort25Closed) {
  start_scripted_server();
  start_posternd();
  Connection before = greeted(Side::outside, kIpv4.mx2);
  ASSERT_EQ(::kill(posternd->proxy_pid(), SIGKILL), 0);
  EXPECT_EQ(posternd->process().wait(kPatience), EXIT_FAILURE);
  EXPECT_TRUE(posternd->log().contains("the proxy has failed")) << posternd->log();
  EXPECT_TRUE(posternd->log().contains("killed by signal 9")) << posternd->log();
  EXPECT_NE(kernel_state(), "");
  EXPECT_NE(error_of_connecting(Side::outside, kIpv4.mx2), 0);
  EXPECT_NE(error_of_connecting(Side::outside, kIpv6.unmanaged), 0);
  start_posternd();
  EXPECT_TRUE(greeted(Side::outside, kIpv4.mx2).say("NOOP").starts_with("250"));
}

TEST_F(Privileges, AreNotOutlivedByTheProxy) {
  start_posternd();
  const pid_t proxy = posternd->proxy_pid();
  posternd->process().signal(SIGKILL);
  EXPECT_TRUE(wait_until("the proxy ends", [&] { return !lives(proxy); }));
  start_posternd();
}

// A terminal's Ctrl-C and systemd's SIGTERM reach both; only the daemon knows what to do.
TEST_F(Privileges, OfTheProxyAreNotToBeStoppedAlone) {
  start_scripted_server();
  start_posternd();
  Connection client = greeted(Side::outside, kIpv4.mx2);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    ASSERT_EQ(::kill(posternd->proxy_pid(), number), 0);
  }
  EXPECT_TRUE(client.say("EHLO stranger.example").starts_with("250")) << client.transcript();
  EXPECT_TRUE(posternd->process().is_running());
}

}  // namespace
}  // namespace postern::testing
