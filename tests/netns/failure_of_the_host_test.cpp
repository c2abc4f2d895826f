// The host runs out of descriptors, memory or disk, its clock jumps, it has no resolver, or its administrator makes a
// mistake.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "tests/netns/failure_matrix.hpp"

namespace postern::testing {
namespace {

namespace fs = std::filesystem;

class HostFailure : public FailureMatrix {
 protected:
  // What a process may have at most from now on.
  static void limit(pid_t process, __rlimit_resource resource, std::uint64_t most) {
    rlimit limit{};
    ASSERT_EQ(::prlimit(process, resource, nullptr, &limit), 0);
    limit.rlim_cur = most;
    ASSERT_EQ(::prlimit(process, resource, &limit, nullptr), 0);
  }
  [[nodiscard]] static std::size_t open_descriptors(pid_t process) {
    const fs::directory_iterator all("/proc/" + std::to_string(process) + "/fd");
    return static_cast<std::size_t>(std::distance(fs::begin(all), fs::end(all)));
  }
};

TEST_F(HostFailure, WithoutDescriptorsConnectionsWaitOrAreAnsweredFor421) {
  begin();
  const pid_t proxy = pid_of(Half::proxy);
  rlimit before{};
  ASSERT_EQ(::prlimit(proxy, RLIMIT_NOFILE, nullptr, &before), 0);
  limit(proxy, RLIMIT_NOFILE, open_descriptors(proxy));
  EXPECT_TRUE(
      noticed("the log says so", [&] { return log_says("connections wait: no descriptor"); }));
  limit(proxy, RLIMIT_NOFILE, before.rlim_cur);
  EXPECT_GT(posternd->counter("postern_accept_shortages_total"), 0);
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(
      wait_until("the log says that it is over", [&] { return log_says("need no longer wait"); }));
  expect_sound();
}

// What cannot be had cannot be done without: a daemon in pieces would be worse than none.
TEST_F(HostFailure, WithoutMemoryTheDaemonEndsAndPort25StaysShut) {
  begin({.smtp = "max_sessions_per_client = 10000\n"});
  limit(pid_of(Half::proxy), RLIMIT_DATA, 1);
  std::vector<Connection> idle;
  EXPECT_TRUE(noticed("it ends", [&] {
    for (int i = 0; i < 10 && posternd->process().is_running(); ++i) {
      idle.emplace_back(lab.route(Side::outside, kIpv4.mx2), kDropPatience);
    }
    return !posternd->process().is_running();
  }));
  EXPECT_TRUE(log_says("the proxy has failed, so the daemon ends")) << posternd->log();
  const std::size_t connections = scripted->peers().size();
  EXPECT_TRUE(everybody_tries(1));
  EXPECT_EQ(scripted->peers().size(), connections);
  start_daemon_again();
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_F(HostFailure, AFullDiskTakesTheLogAndNothingElse) {
  begin({}, {"/bin/sh", "-c", "exec \"$@\" 2>/dev/full", "sh"});
  EXPECT_TRUE(noticed("the lost lines are counted",
                      [&] { return posternd->counter("postern_log_lines_lost_total") > 0; }));
  EXPECT_TRUE(status_says("lines of the log are lost"));
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

// Nobody reads the pipe that the log goes to, as where journald hangs.
TEST_F(HostFailure, ALogThatHangsHoldsNobodyUp) {
  const std::string pipe = lab.folder() / "unread";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int end = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GT(::fcntl(end, F_SETPIPE_SZ, 4096), 0);
  begin({}, {"/bin/sh", "-c", "exec \"$@\" 2>" + pipe, "sh"});
  EXPECT_TRUE(noticed("the lost lines are counted",
                      [&] { return posternd->counter("postern_log_lines_lost_total") > 0; }));
  EXPECT_TRUE(status_says("lines of the log are lost"));
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(everybody_tries(1));
  expect_sound();
  ::close(end);
}

TEST_F(HostFailure, NoResolverIsAsked) {
  const char* const count =
      "add table inet asked; add counter inet asked questions; add chain inet "
      "asked out { type filter hook output priority 0; policy accept; meta "
      "l4proto { tcp, udp } th dport { 53, 853, 5353, 5355 } counter name "
      "questions; }";
  ASSERT_EQ(lab.run(Side::router, {"nft", count}).status, 0);
  begin();
  const fs::path empty = lab.folder() / "resolv.conf";
  std::ofstream(empty) << "nameserver 198.51.100.99\n";
  EXPECT_TRUE(everybody_tries(2));
  EXPECT_EQ(posternd->postern({"reload"}).status, 0);
  static_cast<void>(posternd->postern({"status"}));
  EXPECT_TRUE(mail_flows());
  const Finished counter =
      lab.run(Side::router, {"nft", "list", "counter", "inet", "asked", "questions"});
  EXPECT_TRUE(counter.output.contains("packets 0 ")) << counter.output;
  expect_sound();
  ASSERT_EQ(lab.run(Side::router, {"nft", "delete", "table", "inet", "asked"}).status, 0);
}

struct Mistake {
  const char* name;
  void (*make)(const fs::path& config);
  const char* said;
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.name;
}

void append(const fs::path& file, const char* text) {
  std::ofstream(file, std::ios::app) << text;
}

class BrokenConfig : public HostFailure, public ::testing::WithParamInterface<Mistake> {};

TEST_P(BrokenConfig, AtReloadChangesNothingAndIsSaid) {
  begin();
  GetParam().make(posternd->config_file());
  posternd->process().signal(SIGHUP);
  EXPECT_TRUE(noticed("the log says so", [&] { return log_says(GetParam().said); }));
  const std::size_t relayed_before = relayed();
  EXPECT_TRUE(mail_flows());
  EXPECT_EQ(relayed(), relayed_before);
  // The command cannot read the file either, so it is told where the daemon is.
  const Finished status = lab.run(Side::router, {POSTERN_PROGRAMS "/postern", "status", "--socket",
                                                 (lab.folder() / "control.sock").string()});
  EXPECT_EQ(status.status, 1) << status.output;
  EXPECT_TRUE(status.output.contains("the last reload failed")) << status.output;
  fs::remove_all(posternd->config_file());
  posternd->write_config(ConfigText{}.to_toml(lab));
  EXPECT_EQ(posternd->postern({"reload"}).status, 0);
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(
    EachKind, BrokenConfig,
    ::testing::Values(Mistake{"Syntax", [](const fs::path& file) { append(file, "[gateway\n"); },
                              "postern.toml:"},
                      Mistake{"Meaning",
                              [](const fs::path& file) { append(file, "workers = \"many\"\n"); },
                              "gateway.workers"},
                      Mistake{"Unreadable",
                              [](const fs::path& file) {
                                fs::remove(file);
                                fs::create_directory(file);
                              },
                              "cannot be read"},
                      Mistake{"Vanished", [](const fs::path& file) { fs::remove(file); },
                              "No such file or directory"}),
    [](const auto& row) { return std::string(row.param.name); });

class ClockJump : public HostFailure, public ::testing::WithParamInterface<int> {
 protected:
  // Not truncated: the daemon has it mapped.
  void jump(std::int64_t seconds) const {
    std::fstream file(clock, std::ios::binary | std::ios::in | std::ios::out);
    file.write(reinterpret_cast<const char*>(&seconds), sizeof seconds);
  }
  const std::string clock = (lab.folder() / "clock").string();
};

TEST_P(ClockJump, DoesNotTouchSessions) {
  std::ofstream(clock, std::ios::binary) << std::string(sizeof(std::int64_t), '\0');
  begin({.smtp = "command_timeout = \"5s\"\n"},
        {"env", "LD_PRELOAD=" POSTERN_JUMPING_CLOCK, "POSTERN_TEST_CLOCK=" + clock,
         "ASAN_OPTIONS=verify_asan_link_order=0"});
  Connection open_session = greeted(Side::outside, kIpv4.mx2);
  const auto failures = [this] {
    std::size_t sum = 0;
    for (const auto who : {MixedLoad::Who::stranger, MixedLoad::Who::internal}) {
      for (const auto& tally : load->tally(who)) {
        sum += tally.attempts - tally.accepted;
      }
    }
    return sum;
  };
  const std::size_t failed_before = failures();
  jump(std::int64_t{3600} * GetParam());
  EXPECT_TRUE(open_session.say("NOOP").starts_with("250")) << open_session.transcript();
  EXPECT_TRUE(mail_flows());
  const Finished blocked = posternd->postern({"blocked", "--limit", "1", "--json"});
  EXPECT_EQ(blocked.status, 0) << blocked.output;
  jump(0);
  EXPECT_TRUE(mail_flows());
  EXPECT_EQ(failures(), failed_before) << load->last_failures();
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Hours, ClockJump, ::testing::Values(7, -7, 24 * 400), [](const auto& row) {
  return (row.param < 0 ? "Back" : "Forward") + std::to_string(std::abs(row.param));
});

}  // namespace
}  // namespace postern::testing
