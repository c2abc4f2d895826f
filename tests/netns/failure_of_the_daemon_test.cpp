// The daemon is killed, stopped, or one of its threads hangs.
#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <ostream>
#include <string>
#include <string_view>

#include "tests/netns/failure_matrix.hpp"

namespace postern::testing {
namespace {

class DaemonFailure : public FailureMatrix {
 protected:
  // Nobody at all reaches the mail server: what begins after this call.
  void expect_that_nothing_passes() {
    ASSERT_TRUE(everybody_tries(1));
    const std::size_t connections = scripted->peers().size();
    const std::size_t accepted = load->accepted().size();
    ASSERT_TRUE(everybody_tries(1));
    EXPECT_EQ(scripted->peers().size(), connections) << scripted->log();
    EXPECT_EQ(load->accepted().size(), accepted);
  }
  [[nodiscard]] std::size_t watchdog_fed() const { return posternd->count_notified("WATCHDOG=1"); }
};

const auto kHalves =
    ::testing::Values(FailureMatrix::Half::proxy, FailureMatrix::Half::packet_filter);

std::string name_of(FailureMatrix::Half half) {
  return half == FailureMatrix::Half::proxy ? "Proxy" : "PacketFilter";
}

class KilledDaemon : public DaemonFailure,
                     public ::testing::WithParamInterface<FailureMatrix::Half> {};

TEST_P(KilledDaemon, LetsNothingPass) {
  begin();
  signal(GetParam(), SIGKILL);
  EXPECT_TRUE(noticed("the command says so", [&] { return status_says("is posternd running?"); }));
  expect_that_nothing_passes();
  start_daemon_again();
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_P(KilledDaemon, LetsMailersBeReachedAndNobodyElseIfItShallFailOpen) {
  begin({.gateway = "on_failure = \"open\"\n"});
  signal(GetParam(), SIGKILL);
  EXPECT_TRUE(noticed("the command says so", [&] { return status_says("is posternd running?"); }));
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(wait_until("strangers relay", [&] { return relayed() > 0; }));
  start_daemon_again();
  EXPECT_TRUE(everybody_tries(1));
  const std::size_t relayed_until_now = relayed();
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(everybody_tries(2));
  EXPECT_EQ(relayed(), relayed_until_now);
  expect_sound(true);
}

INSTANTIATE_TEST_SUITE_P(EachHalf, KilledDaemon, kHalves,
                         [](const auto& row) { return name_of(row.param); });

constexpr std::array kOnFailure{"closed", "open"};

std::string in_toml(const char* on_failure) {
  return std::string("on_failure = \"") + on_failure + "\"\n";
}

// `on_failure` is for a daemon that is gone. To the kernel one that hangs is there.
class Stopped : public DaemonFailure, public ::testing::WithParamInterface<const char*> {};

TEST_P(Stopped, PacketFilterLetsNothingPassUntilItGoesOn) {
  begin({.gateway = in_toml(GetParam())});
  signal(Half::packet_filter, SIGSTOP);
  const std::size_t fed = watchdog_fed();
  EXPECT_TRUE(noticed("the command says so", [&] { return status_says("did not answer within"); }));
  expect_that_nothing_passes();
  EXPECT_LE(watchdog_fed(), fed + 1) << "systemd would think that it lives";
  signal(Half::packet_filter, SIGCONT);
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(wait_until("systemd hears of it", [&] { return watchdog_fed() > fed + 1; }));
  expect_sound();
}

TEST_P(Stopped, ProxyLetsNothingPassAndMayGoOn) {
  begin({.gateway = in_toml(GetParam())});
  signal(Half::proxy, SIGSTOP);
  const std::size_t fed = watchdog_fed();
  ASSERT_TRUE(everybody_tries(0)) << "whose session stands still";
  const std::size_t commands = scripted->commands().size();
  EXPECT_TRUE(
      noticed("the command says so", [&] { return status_says("the proxy does not answer"); }));
  EXPECT_TRUE(log_says("the proxy does not answer"));
  EXPECT_EQ(scripted->commands().size(), commands);
  EXPECT_LE(watchdog_fed(), fed + 1) << "systemd would think that it lives";
  signal(Half::proxy, SIGCONT);
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(wait_until("systemd hears of it", [&] { return watchdog_fed() > fed + 1; }));
  EXPECT_TRUE(log_says("the proxy answers again"));
  expect_sound();
}

TEST_P(Stopped, ProxyIsGivenUpInTheEnd) {
  const bool fails_open = GetParam() == std::string_view("open");
  begin({.gateway = in_toml(GetParam())});
  const pid_t proxy = posternd->proxy_pid();
  signal(Half::proxy, SIGSTOP);
  ASSERT_EQ(posternd->process().wait(std::chrono::seconds{60}), 1) << posternd->log();
  EXPECT_TRUE(log_says("the proxy has failed, so the daemon ends")) << posternd->log();
  EXPECT_NE(::kill(proxy, 0), 0) << "it is still there";
  if (fails_open) {
    EXPECT_TRUE(mail_flows());
  } else {
    expect_that_nothing_passes();
  }
  start_daemon_again();
  EXPECT_TRUE(mail_flows());
  expect_sound(fails_open);
}

INSTANTIATE_TEST_SUITE_P(OnFailure, Stopped, ::testing::ValuesIn(kOnFailure),
                         [](const auto& row) { return std::string(row.param); });

struct Thread {
  FailureMatrix::Half half;
  const char* name;
  const char* problem;  // in the status
};

void PrintTo(const Thread& thread, std::ostream* out) {
  *out << thread.name;
}

class StuckThread : public DaemonFailure, public ::testing::WithParamInterface<Thread> {};

TEST_P(StuckThread, IsNamedAndStarvesTheWatchdog) {
  begin({.gateway = "workers = 2\n"});
  {
    const StuckThreads stuck(pid_of(GetParam().half), GetParam().name);
    ASSERT_EQ(stuck.count(), 1U);
    EXPECT_TRUE(noticed("the log says so", [&] { return log_says("a thread does not answer"); }));
    EXPECT_TRUE(status_says(GetParam().problem));
    const std::size_t fed = watchdog_fed();
    EXPECT_TRUE(everybody_tries(0));
    EXPECT_EQ(watchdog_fed(), fed);
  }
  EXPECT_TRUE(wait_until("the log says that it is over",
                         [&] { return log_says("a thread answers again"); }));
  EXPECT_FALSE(status_says(GetParam().problem));
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Threads, StuckThread,
                         ::testing::Values(Thread{FailureMatrix::Half::proxy, "sessions-1",
                                                  "worker 1 of the proxy does not answer"},
                                           Thread{FailureMatrix::Half::packet_filter, "packets-26",
                                                  "the thread of queue 26 does not answer"}),
                         [](const auto& row) {
                           const std::string name = row.param.name;
                           return name.substr(0, name.find('-'));
                         });

}  // namespace
}  // namespace postern::testing
