// The commands of `postern` that ask a daemon, run as the program that is installed against a
// socket that gives known answers.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/gateway/fake_daemon.hpp"
#include "tests/gateway/program.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::gateway {
namespace {

using tests::FakeDaemon;
using tests::Finished;

class PosternOnline : public ::testing::Test {
 protected:
  Finished postern(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--socket", socket_});
    return tests::run({.program = POSTERN_PROGRAM, .arguments = std::move(arguments)});
  }

  postern::testing::TemporaryFolder folder_;
  std::string socket_ = (folder_.path() / "control.sock").string();
};

const std::string kHealthy =
    R"({"daemon":{"version":"0.1.0","pid":4711,"uptime_seconds":11530.5,"state":"running",)"
    R"("config_file":"/etc/postern/postern.toml","last_reload":{"success":true,)"
    R"("unix_seconds":1795345204,"message":"2 mailers"},"on_failure":"closed"},"queue_form":"nft",)"
    R"("workers":[{"index":0,"queue":25,"sessions":3,"packets":1000,"enobufs":0,)"
    R"("kernel_queue_dropped":0,"kernel_user_dropped":0},{"index":1,"queue":26,"sessions":0,)"
    R"("packets":7,"enobufs":1,"kernel_queue_dropped":12,"kernel_user_dropped":3}],)"
    R"("mailers":[{"name":"mx1","addresses":["203.0.113.25","2001:db8:2::25"],"sessions_open":3,)"
    R"("upstream_ok":true,"last_upstream_error":""}],"sessions_open":1203,)"
    R"("session_limits":{"in_all":20000,"per_mailer":10000,"per_client":50},)"
    R"("recipients":[{"zone":"external","recipient":"local","forwarded":1204,"refused":2,)"
    R"("observed":0},{"zone":"external","recipient":"foreign","forwarded":0,"refused":18,)"
    R"("observed":0},{"zone":"internal","recipient":"local","forwarded":7,"refused":0,)"
    R"("observed":0},{"zone":"internal","recipient":"foreign","forwarded":61,"refused":0,)"
    R"("observed":0}],)"
    R"("blocked_today":[{"reason":"relay_denied","count":4},{"reason":"timeout","count":1200}],)"
    R"("observed_today":[],)"
    R"("healthy":true,"problems":[]})";

TEST_F(PosternOnline, StatusIsOneScreen) {
  FakeDaemon daemon(socket_, {kHealthy + "\n"});
  const Finished status = postern({"status"});
  EXPECT_EQ(daemon.asked(), R"({"command":"status"})");
  EXPECT_EQ(status.code, 0);
  EXPECT_EQ(status.err, "");
  EXPECT_EQ(status.out, R"(posternd 0.1.0
  state       running, healthy
  process     4711, up 3h 12m
  config      /etc/postern/postern.toml, reload of 2026-11-22 11:00:04 succeeded: 2 mailers
  queue form  nft
  on failure  closed
  sessions    1,203 of at most 20,000; a mailer at most 10,000, a stranger 50

Workers
  worker  queue  sessions  packets  overruns  dropped: queue full  not delivered
       0     25         3     1000         0                    0              0
       1     26         0        7         1                   12              3

Mailers
  mailer  addresses                     sessions  state
  mx1     203.0.113.25, 2001:db8:2::25         3  reachable

Recipients since the start
  client    recipient  forwarded  refused
  external  local          1,204        2
  external  foreign            0       18
  internal  local              7        0
  internal  foreign           61        0

Blocked today
  relay_denied      4
  timeout       1,200
)");
}

TEST_F(PosternOnline, StatusShowsTheTlsOfEachMailer) {
  FakeDaemon daemon(
      socket_,
      {R"({"daemon":{"version":"0.1.0","pid":1,"uptime_seconds":3,"state":"running",)"
       R"("config_file":"/c","last_reload":{"success":true,"unix_seconds":0,"message":"ok"},)"
       R"("on_failure":"closed"},"queue_form":"nft","workers":[],"mailers":[{"name":"mx1",)"
       R"("addresses":["203.0.113.25"],"sessions_open":0,"upstream_ok":true,)"
       R"("starttls":"terminate","upstream_tls":"require","certificates":[{"file":"/rsa.pem",)"
       R"("names":["mx1.example.org","mx1.example.net"],"not_after":1796300000,"days_left":11},)"
       R"({"file":"/ec.pem","names":["mx1.example.org"],"not_after":1795000000,"days_left":-4}]},)"
       R"({"name":"mx2","addresses":["203.0.113.26"],"sessions_open":0,"upstream_ok":true,)"
       R"("starttls":"pass","upstream_tls":"off","certificates":[]}],"sessions_open":0,)"
       R"("blocked_today":[],"healthy":false,"problems":["expired"],"warnings":["soon"]})"
       "\n"});
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_TRUE(status.out.contains(R"(
TLS
  mailer  starttls                    to the mailer  certificate  names                             expires
  mx1     terminate                   require        /rsa.pem     mx1.example.org, mx1.example.net  2026-12-03 12:13:20, 11 days left
                                                     /ec.pem      mx1.example.org                   2026-11-18 11:06:40, EXPIRED
  mx2     pass: NOT JUDGED behind it  off            -            -                                 -
)")) << status.out;
  EXPECT_TRUE(status.out.ends_with(R"(
Warnings
  - soon

Problems
  - expired
)")) << status.out;
}

TEST_F(PosternOnline, StatusOfAnUnhealthyDaemonNamesTheProblemsAndExitsWithOne) {
  FakeDaemon daemon(
      socket_,
      {R"({"daemon":{"version":"0.1.0","pid":1,"uptime_seconds":3,"state":"draining",)"
       R"("config_file":"/c","last_reload":{"success":false,"unix_seconds":0,"message":"/c:1:1"},)"
       R"("on_failure":"open"},"queue_form":"xtables","workers":[],"mailers":[{"name":"mx1",)"
       R"("addresses":["203.0.113.25"],"sessions_open":0,"upstream_ok":false,)"
       R"("last_upstream_error":"refused"},{"name":"mx2","addresses":[],"sessions_open":0}],)"
       R"("sessions_open":0,"blocked_today":[],"healthy":false,)",
       R"("problems":["mx1 refuses connections","the last reload failed"]})"});
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_EQ(status.out, R"(posternd 0.1.0
  state       draining, not healthy
  process     1, up 3s
  config      /c, reload of 1970-01-01 00:00:00 failed: /c:1:1
  queue form  xtables
  on failure  open
  sessions    0

Workers
  worker  queue  sessions  packets  overruns  dropped: queue full  not delivered

Mailers
  mailer  addresses     sessions  state
  mx1     203.0.113.25         0  not reachable: refused
  mx2     -                    0  not tried yet

Recipients since the start
  client  recipient  forwarded  refused

Blocked today
  nothing

Problems
  - mx1 refuses connections
  - the last reload failed
)");
}

TEST_F(PosternOnline, StatusSaysLoudlyThatNothingIsRefused) {
  FakeDaemon daemon(
      socket_,
      {R"({"daemon":{"version":"0.1.0","pid":1,"uptime_seconds":3,"state":"running",)"
       R"("config_file":"/c","last_reload":{"success":true,"unix_seconds":0,"message":"ok"},)"
       R"("on_failure":"closed","observe":true},"queue_form":"nft","workers":[],"mailers":[],)"
       R"("sessions_open":2,"recipients":[{"zone":"external","recipient":"foreign",)"
       R"("forwarded":0,"refused":0,"observed":3}],"blocked_today":[],)"
       R"("observed_today":[{"reason":"relay_denied","count":3}],"healthy":true,"problems":[]})"
       "\n"});
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 0);
  EXPECT_EQ(status.out, R"(posternd 0.1.0
  NOTHING IS REFUSED: observe = true, everything is only judged and counted
  state       running, healthy
  process     1, up 3s
  config      /c, reload of 1970-01-01 00:00:00 succeeded: ok
  queue form  nft
  on failure  closed
  sessions    2

Workers
  worker  queue  sessions  packets  overruns  dropped: queue full  not delivered

Mailers
  mailer  addresses  sessions  state

Recipients since the start
  client    recipient  forwarded  refused  forwarded, would be refused
  external  foreign            0        0                            3

Would have been blocked today
  relay_denied  3
)");
}

TEST_F(PosternOnline, StatusOfHundredsShowsFirstWhatIsWrong) {
  std::string mailers;
  std::string problems;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "mx" + std::to_string(i);
    mailers += std::string(i == 0 ? "" : ",") + R"({"name":")" + name +
               R"(","addresses":["10.0.0.1"],"sessions_open":0,"upstream_ok":)" +
               (i == 271 ? "false" : "true") +
               R"(,"last_upstream_error":"refused","starttls":"terminate","upstream_tls":"off",)" +
               R"("certificates":[{"file":"/)" + name +
               R"(.pem","names":["x"],"not_after":1795000000,"days_left":)" +
               (i == 288 ? "3" : "70") + "}]}";
    problems += std::string(i == 0 ? "" : ",") + "\"problem " + std::to_string(i) + "\"";
  }
  FakeDaemon daemon(
      socket_, {R"({"daemon":{},"mailers":[)" + mailers + R"(],"problems":[)" + problems + "]}\n"});
  const std::string out = postern({"status"}).out;
  EXPECT_TRUE(
      out.contains("state\n  mx271   10.0.0.1          0  not reachable: refused\n"
                   "  mx0     10.0.0.1          0  reachable\n"))
      << out;
  EXPECT_TRUE(out.contains("  and 280 more mailers, all reachable\n")) << out;
  EXPECT_TRUE(out.contains("expires\n  mx288   terminate")) << out;
  EXPECT_TRUE(
      out.contains("  and 280 more mailers, all with certificates that are good for a while\n"))
      << out;
  EXPECT_TRUE(out.contains("  - problem 19\n  and 280 more problems\n")) << out;
}

TEST_F(PosternOnline, StatusPassesJsonOn) {
  FakeDaemon daemon(socket_, {kHealthy + "\n"});
  const Finished status = postern({"status", "--json"});
  EXPECT_EQ(status.code, 0);
  EXPECT_TRUE(status.out.starts_with(R"({"daemon":{"version":"0.1.0","pid":4711,)")) << status.out;
  EXPECT_TRUE(status.out.ends_with("\"problems\":[]}\n")) << status.out;
}

TEST_F(PosternOnline, StatusSurvivesAnAnswerWithNothingInIt) {
  FakeDaemon daemon(socket_, {"{\"daemon\":[],\"workers\":{},\"mailers\":7}\n"});
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_TRUE(status.out.starts_with("posternd -\n")) << status.out;
}

TEST_F(PosternOnline, CountersAreAlignedUnderTheirPrometheusNames) {
  FakeDaemon daemon(
      socket_,
      {R"({"counters":[{"name":"postern_flows_total","labels":{"direction":"inbound",)"
       R"("verdict":"divert_external","reason":"none"},"value":12},{"name":"postern_up",)"
       R"("labels":{},"value":1},{"name":"postern_kernel_packets_total",)"
       R"("labels":{"counter":"leaked"},"value":0},{"name":"postern_kernel_packets_total",)"
       R"("labels":{"counter":"queued"},"value":90},{"name":"postern_kernel_packets_total",)"
       R"("labels":{"counter":"flooded"},"value":7},{"name":"postern_kernel_packets_total",)"
       R"("labels":{"counter":"kept_shut"},"value":4},{"name":"postern_flows_total","labels":)"
       R"({"direction":"inbound","verdict":"drop","reason":"rate_limited"},"value":5},)"
       R"({"name":"postern_queue_packets_dropped_total","labels":{"queue":"25",)"
       R"("where":"queue_full"},"value":3}]})"
       "\n"});
  const Finished counters = postern({"counters"});
  EXPECT_EQ(daemon.asked(), R"({"command":"counters"})");
  EXPECT_EQ(counters.code, 0);
  EXPECT_EQ(
      counters.out,
      R"(  postern_flows_total{direction="inbound",verdict="divert_external",reason="none"}  12
  postern_up                                                                         1
  postern_kernel_packets_total{counter="leaked"}                                     0
  postern_kernel_packets_total{counter="queued"}                                    90
  postern_kernel_packets_total{counter="flooded"}                                    7
  postern_kernel_packets_total{counter="kept_shut"}                                  4
  postern_flows_total{direction="inbound",verdict="drop",reason="rate_limited"}      5
  postern_queue_packets_dropped_total{queue="25",where="queue_full"}                 3

Packets refused, each in one of these:
  postern_kernel_packets_total{counter="flooded"}                                 7
  postern_kernel_packets_total{counter="kept_shut"}                               4
  postern_flows_total{direction="inbound",verdict="drop",reason="rate_limited"}   5
  postern_queue_packets_dropped_total{queue="25",where="queue_full"}              3
  in all                                                                         19
)");
}

TEST_F(PosternOnline, CountersTakeFromTheSumWhatTheKernelLetThrough) {
  FakeDaemon daemon(
      socket_, {R"({"counters":[{"name":"postern_kernel_packets_total",)"
                R"("labels":{"counter":"flooded"},"value":7},{"name":)"
                R"("postern_kernel_packets_total","labels":{"counter":"observed"},"value":5}]})"
                "\n"});
  EXPECT_EQ(postern({"counters"}).out, R"(  postern_kernel_packets_total{counter="flooded"}   7
  postern_kernel_packets_total{counter="observed"}  5

Packets refused, each in one of these:
  postern_kernel_packets_total{counter="flooded"}   7
  let through all the same (observe = true)        -5
  in all                                            2
)");
}

const std::string kRecipient =
    R"({"unix_seconds":1795345204,"client":"198.51.100.2","client_port":1234,)"
    R"("server":"203.0.113.25","server_port":25,"what":"recipient","detail":"bad@far.example",)"
    R"("reason":"relay_denied","mailer":"mx1"})";
const std::string kConnection =
    R"({"unix_seconds":1795345204,"client":"198.51.100.2","client_port":1234,)"
    R"("server":"203.0.113.25","server_port":25,"what":"connection","detail":"",)"
    R"("reason":"too_many_client_sessions","mailer":"mx1"})";
const std::string kPacket =
    R"({"unix_seconds":1795345205,"client":"2001:db8:1::2","client_port":40000,)"
    R"("server":"2001:db8:2::99","server_port":25,"what":"packet","detail":"",)"
    R"("reason":"unmanaged_destination","mailer":""})";

TEST_F(PosternOnline, BlockedShowsOneLineAnAttempt) {
  // Cut where no line ends.
  FakeDaemon daemon(socket_, {kRecipient.substr(0, 20),
                              kRecipient.substr(20) + "\n" + kConnection + "\n" + kPacket, "\n"});
  const Finished blocked = postern({"blocked"});
  EXPECT_EQ(daemon.asked(), R"({"command":"blocked","limit":50,"follow":false})");
  EXPECT_EQ(blocked.code, 0);
  EXPECT_EQ(
      blocked.out,
      R"(when                 from                   to                     what        why                          detail
2026-11-22 11:00:04  198.51.100.2:1234      203.0.113.25:25        recipient   relay_denied                 bad@far.example at mx1
2026-11-22 11:00:04  198.51.100.2:1234      203.0.113.25:25        connection  too_many_client_sessions     at mx1
2026-11-22 11:00:05  [2001:db8:1::2]:40000  [2001:db8:2::99]:25    packet      unmanaged_destination        -
)");
}

TEST_F(PosternOnline, BlockedMarksWhatWasOnlyObserved) {
  std::string observed = kRecipient;
  observed.replace(observed.rfind('}'), 1, R"(,"observed":true})");
  std::string refused = kRecipient;
  refused.replace(refused.rfind('}'), 1, R"(,"observed":false})");
  FakeDaemon daemon(socket_, {observed + "\n" + refused + "\n"});
  const Finished blocked = postern({"blocked"});
  EXPECT_TRUE(blocked.out.contains(
      "relay_denied                 would be blocked: bad@far.example at mx1\n"))
      << blocked.out;
  EXPECT_TRUE(blocked.out.ends_with("relay_denied                 bad@far.example at mx1\n"))
      << blocked.out;
}

TEST_F(PosternOnline, BlockedPassesItsOptionsAndJsonOn) {
  FakeDaemon daemon(socket_, {kRecipient + "\n" + kPacket + "\n"});
  const Finished blocked = postern({"blocked", "--follow", "--limit", "7", "--json"});
  EXPECT_EQ(daemon.asked(), R"({"command":"blocked","limit":7,"follow":true})");
  EXPECT_EQ(blocked.code, 0);
  EXPECT_EQ(blocked.out, kRecipient + "\n" + kPacket + "\n");
}

TEST_F(PosternOnline, BlockedKeepsAClientsEscapeSequencesFromTheTerminal) {
  FakeDaemon daemon(socket_,
                    {R"({"unix_seconds":0,"client":"198.51.100.2","client_port":1,"server":)"
                     R"("203.0.113.25","server_port":25,"what":"command","detail":)"
                     R"("\u001b[2J\u009b2J\r\n","reason":"control_character","mailer":"mx1"})"
                     "\n"});
  const Finished blocked = postern({"blocked"});
  EXPECT_NE(blocked.out.find(R"(\x1b[2J\xc2\x9b2J\x0d\x0a at mx1)"), std::string::npos)
      << blocked.out;
}

const std::string kOffenders =
    R"({"offenders":[{"address":"203.0.113.77","on_link":true,"mac":"52:54:00:0a:0b:0c",)"
    R"("router_mac":null,"attempts":1200,"passed":3,"rejected":1000,"dropped":197,"observed":0,)"
    R"("destinations":32,"has_more_destinations":true,"first_seen":1795345204,)"
    R"("last_seen":1795345299},{"address":"10.9.0.1","on_link":false,"mac":null,)"
    R"("router_mac":"52:54:00:0d:0e:0f","attempts":1,"passed":0,"rejected":0,"dropped":0,)"
    R"("observed":1,"destinations":1,"has_more_destinations":false,"first_seen":1795345204,)"
    R"("last_seen":1795345204}],"known":5,"forgotten":1,"unjudged":4000})";
const std::string kOffendersTable =
    R"(  address       link address                     attempts  let through  refused  destinations  first seen           last seen
  203.0.113.77  52:54:00:0a:0b:0c                   1,200            3    1,197   at least 32  2026-11-22 11:00:04  2026-11-22 11:01:39
  10.9.0.1      behind router 52:54:00:0d:0e:0f         1            1        0             1  2026-11-22 11:00:04  2026-11-22 11:00:04
  and 3 more hosts
  attempts are at least so many: 4,000 more came too fast to be judged, and whose they were is not known
  1 host seen longer ago had to make room
)";

TEST_F(PosternOnline, OffendersAreATable) {
  FakeDaemon daemon(socket_, {kOffenders + "\n"});
  const Finished offenders = postern({"offenders", "--limit", "2"});
  EXPECT_EQ(daemon.asked(), R"({"command":"offenders","limit":2})");
  EXPECT_EQ(offenders.code, 0);
  EXPECT_EQ(offenders.out,
            "Inside hosts that are no mailers, to port 25 outside\n" + kOffendersTable);
}

TEST_F(PosternOnline, OffendersSaysThatThereAreNone) {
  FakeDaemon daemon(socket_, {R"({"offenders":[],"known":0,"forgotten":0,"unjudged":0})"
                              "\n"});
  const Finished offenders = postern({"offenders"});
  EXPECT_EQ(offenders.code, 0);
  EXPECT_EQ(offenders.out,
            "Inside hosts that are no mailers, to port 25 outside\n  none since the start\n");
}

TEST_F(PosternOnline, OffendersPassesJsonOn) {
  FakeDaemon daemon(socket_, {kOffenders + "\n"});
  EXPECT_EQ(postern({"offenders", "--json"}).out, kOffenders + "\n");
}

TEST_F(PosternOnline, StatusShowsTheWorstOffenders) {
  std::string status = kHealthy;
  status.replace(status.rfind('}'), 1, ",\"offenders\":" + kOffenders + "}");
  FakeDaemon daemon(socket_, {status + "\n"});
  EXPECT_TRUE(postern({"status"})
                  .out.contains("\nInside hosts that send past the mailers (postern offenders)\n" +
                                kOffendersTable));
}

TEST_F(PosternOnline, ReloadSaysThatItIsDone) {
  FakeDaemon daemon(socket_, {"{\"ok\":true,\"message\":\"2 mailers, 3 domains\"}\n"});
  const Finished reload = postern({"reload"});
  EXPECT_EQ(daemon.asked(), R"({"command":"reload"})");
  EXPECT_EQ(reload.code, 0);
  EXPECT_EQ(reload.out, "reloaded: 2 mailers, 3 domains\n");
}

TEST_F(PosternOnline, ReloadShowsEveryErrorOfARefusedConfiguration) {
  FakeDaemon daemon(
      socket_,
      {R"({"ok":false,"diagnostics":["postern.toml:3:1: error: a","postern.toml:4:1: error: b"]})"
       "\n"});
  const Finished reload = postern({"reload"});
  EXPECT_EQ(reload.code, 1);
  EXPECT_EQ(reload.out, "");
  EXPECT_EQ(reload.err,
            "postern.toml:3:1: error: a\npostern.toml:4:1: error: b\n"
            "not reloaded, the old configuration stays in force\n");
}

TEST_F(PosternOnline, DrainSaysThatItHasBegun) {
  FakeDaemon daemon(socket_, {"{\"ok\":true}\n"});
  const Finished drain = postern({"drain"});
  EXPECT_EQ(daemon.asked(), R"({"command":"drain"})");
  EXPECT_EQ(drain.code, 0);
  EXPECT_EQ(drain.out, "draining: no new sessions are taken\n");
}

TEST_F(PosternOnline, ShowsTheDaemonsError) {
  FakeDaemon daemon(socket_, {"{\"error\":\"too busy\"}\n"});
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_EQ(status.out, "");
  EXPECT_EQ(status.err, "posternd: too busy\n");
}

TEST_F(PosternOnline, SaysWhatToDoIfNobodyListens) {
  EXPECT_EQ(postern({"status"}).err,
            socket_ +
                ": No such file or directory: is posternd running? systemctl status "
                "posternd\n");
  tests::leave_dead_socket(socket_);
  const Finished status = postern({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_EQ(status.err,
            socket_ + ": Connection refused: is posternd running? systemctl status posternd\n");
}

TEST_F(PosternOnline, SaysWhoMayAskIfItMayNot) {
  FakeDaemon daemon(socket_, {});
  std::filesystem::permissions(socket_, std::filesystem::perms::none);
  const Finished status = tests::run({.program = POSTERN_PROGRAM,
                                      .arguments = {"status", "--socket", socket_},
                                      .unprivileged = true});
  EXPECT_EQ(status.code, 1);
  EXPECT_EQ(status.err,
            socket_ +
                ": Permission denied: only root and the members of its group may ask: try "
                "sudo\n");
}

TEST_F(PosternOnline, RefusesAnAnswerThatIsNoDocument) {
  const std::string said = socket_ +
                           ": what answers here does not speak as posternd does; are `postern` "
                           "and `posternd` of one version?\n";
  for (const char* answer : {"220 mx1 ESMTP\r\n", "[]\n", "{\"cut\":"}) {
    std::filesystem::remove(socket_);
    FakeDaemon daemon(socket_, {answer});
    const Finished status = postern({"status"});
    EXPECT_EQ(status.code, 1) << answer;
    EXPECT_EQ(status.err, said) << answer;
  }
  std::filesystem::remove(socket_);
  FakeDaemon silent(socket_, {});
  EXPECT_EQ(postern({"status"}).err, socket_ + ": posternd closed without an answer\n");
}

TEST_F(PosternOnline, FindsTheSocketInTheConfiguration) {
  const std::string config =
      folder_.write("postern.toml", "[gateway]\ncontrol_socket = \"" + socket_ + "\"\n");
  FakeDaemon daemon(socket_, {"{\"ok\":true}\n"});
  const Finished drain =
      tests::run({.program = POSTERN_PROGRAM, .arguments = {"drain", "--config", config}});
  EXPECT_EQ(drain.code, 0) << drain.err;
}

}  // namespace
}  // namespace postern::gateway
