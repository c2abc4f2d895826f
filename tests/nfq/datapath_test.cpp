// Firewall, policy routing and queue on the kernel, in a network of the test's own.
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "nfq/command.hpp"
#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "nfq/queue.hpp"
#include "tests/nfq/datapath_fixture.hpp"
#include "tests/support/wait.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using Net = PrivateNetwork;

std::size_t count_of(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    ++count;
  }
  return count;
}

// Everything that a start leaves in the kernel.
std::string installed_state() {
  return run_or_throw(
      "nft list tables inet; iptables -t mangle -S; ip6tables -t mangle -S\n"
      "ip rule; ip -6 rule; ip route show table 2525 2>&1; ip -6 route show table 2525 2>&1; true");
}

TEST_F(Datapath, IsReplacedNotDoubledAfterACrash) {
  // The first ones are still there when the second ones start, like what a SIGKILL leaves.
  const Settings earlier{.queue_base = 30, .mark_mask = 0xff, .routing_table = 2600};
  PolicyRoute other_route(earlier);
  Firewall other_firewall(earlier);
  PolicyRoute same_route{Settings{}};
  Firewall same_firewall{Settings{}};
  for (auto* route : {&other_route, &same_route}) {
    route->install();
  }
  for (auto* firewall : {&other_firewall, &same_firewall}) {
    firewall->install(example_policy());
  }
  start();
  const std::string state = installed_state();
  EXPECT_EQ(count_of(state, "inet postern"), 1U) << state;
  EXPECT_EQ(count_of(state, "fwmark"), 2U) << state;
  EXPECT_EQ(count_of(state, "fwmark 0x7000000/0xff000000 lookup 2525"), 2U) << state;
  EXPECT_EQ(count_of(state, "local default dev lo"), 2U) << state;
  EXPECT_EQ(
      count_of(run_or_throw("ip route show table all && ip -6 route show table all"), "table 2600"),
      0U);
  const std::size_t chains = firewall_->form() == QueueForm::xtables ? 2U : 0U;
  EXPECT_EQ(count_of(state, "-A PREROUTING -j POSTERN"), chains) << state;
  EXPECT_EQ(count_of(state, "-j NFQUEUE --queue-num 25"), 2 * chains) << state;
  EXPECT_EQ(count_of(state, "-j NFQUEUE"), 2 * chains) << state;
}

// What a crash left keeps port 25 shut until a start succeeds.
TEST_F(Datapath, LeavesWhatACrashLeftWhereItCannotBeInstalled) {
  rules::Policy impossible = example_policy();
  impossible.external_interfaces = {"a name that no interface can have"};
  EXPECT_THROW(Firewall{Settings{}}.install(impossible), std::runtime_error);
  const std::string listing = "nft list tables; iptables -t mangle -S; ip6tables -t mangle -S";
  const std::string nothing = run_or_throw(listing);
  EXPECT_EQ(count_of(nothing, "inet postern"), 0U) << nothing;
  EXPECT_EQ(count_of(nothing, "POSTERN"), 0U) << nothing;

  Firewall crashed{Settings{}};
  crashed.install(example_policy());
  crashed.leave();
  const std::string left = run_or_throw(listing);
  EXPECT_THROW(Firewall{Settings{}}.install(impossible), std::runtime_error);
  EXPECT_EQ(run_or_throw(listing), left);
  EXPECT_EQ(count_of(left, "inet postern"), 1U) << left;
  start();
}

TEST_F(Datapath, LeavesNothingBehind) {
  start();
  queue_.reset();
  EXPECT_TRUE(firewall_->remove());
  EXPECT_TRUE(route_->remove());
  const std::string state = installed_state();
  for (const char* word : {"inet postern", "POSTERN", "NFQUEUE", "fwmark", "local default"}) {
    EXPECT_EQ(count_of(state, word), 0U) << word << " in\n" << state;
  }
  EXPECT_TRUE(firewall_->remove()) << "a second time";
  EXPECT_TRUE(route_->remove()) << "a second time";
}

TEST_F(Datapath, IsRemovedByItsDestructors) {
  start();
  EXPECT_EQ(count_of(installed_state(), "fwmark"), 2U);
  firewall_.reset();
  route_.reset();
  const std::string state = installed_state();
  for (const char* word : {"inet postern", "POSTERN", "fwmark"}) {
    EXPECT_EQ(count_of(state, word), 0U) << word << " in\n" << state;
  }
}

TEST_F(Datapath, ExchangesItsSetsAndKeepsItsCounters) {
  start();
  const auto attempt = attempt_from_outside(Net::kUnmanaged4);
  judge(1);
  const auto before = packet_counters();
  EXPECT_EQ(before.at("queued"), 1U);
  const auto updated = firewall_->update(example_policy("203.0.113.99"));
  ASSERT_TRUE(updated) << updated.error();
  EXPECT_EQ(packet_counters().at("queued"), 1U);
  const std::string set = run_or_throw("nft list set inet postern mailers4");
  EXPECT_NE(set.find("203.0.113.99"), std::string::npos) << set;
  ASSERT_TRUE(firewall_->update(example_policy()));
  EXPECT_EQ(run_or_throw("nft list set inet postern mailers4").find("203.0.113.99"),
            std::string::npos);
}

TEST_F(Datapath, ExchangesWhatDependsOnChoicesAndKeepsWhoIsHeld) {
  start();
  rules::Policy policy = example_policy();
  for (int i = 0; i < 2; ++i) {  // the second time they are there
    const HeldSource held[] = {
        {HeldFor::offending, rules::IpAddress::parse(Net::kStranger4).value(),
         std::chrono::hours(1)},
        {HeldFor::offending, rules::IpAddress::parse(Net::kStranger6).value(),
         std::chrono::hours(1)},
        {HeldFor::guessing, rules::IpAddress::parse(Net::kStranger4).value(),
         std::chrono::hours(1)}};
    const auto done = firewall_->hold(held);
    ASSERT_TRUE(done) << done.error();
  }
  const std::string senders = "nft list chain inet postern unqueued_inside";
  EXPECT_EQ(count_of(run_or_throw(senders), "unqueued_senders"), 1U);
  policy.unmanaged_sender = rules::Tolerance::drop;
  const auto updated = firewall_->update(policy);
  ASSERT_TRUE(updated) << updated.error();
  EXPECT_EQ(count_of(run_or_throw(senders), "unqueued_senders"), 0U);
  for (const auto& [set, element] : {std::pair{"repeat_offenders4", "198.51.100.2 timeout"},
                                     std::pair{"repeat_offenders6", "2001:db8:1:: timeout"},
                                     std::pair{"barred4", "198.51.100.2 timeout"}}) {
    const std::string text = run_or_throw("nft list set inet postern " + std::string(set));
    EXPECT_EQ(count_of(text, element), 1U) << text;
  }
}

// What comes from them is not shown to the packet policy any more.
TEST_F(Datapath, RefusesHeldSourcesInTheKernel) {
  start();
  const auto v4 = rules::IpAddress::parse(Net::kStranger4).value();
  const auto v6 = rules::IpAddress::parse("2001:db8:1::77").value();  // another of the same /64
  const auto hour = std::chrono::hours(1);
  const HeldSource offending[] = {{HeldFor::offending, v4, hour}, {HeldFor::offending, v6, hour}};
  ASSERT_TRUE(firewall_->hold(offending));
  for (const char* unmanaged : {Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(attempt_from_outside(unmanaged)->outcome(300), ETIMEDOUT) << unmanaged;
  }
  EXPECT_EQ(packet_counters().at("queued"), 0U);
  EXPECT_GE(packet_counters().at("repeat_offenders"), 2U);
  for (const char* mailer : {Net::kMailer4, Net::kMailer6}) {
    const auto attempt = attempt_from_outside(mailer);
    judge(sink_.events.size() + 1);
  }
  EXPECT_EQ(sink_.events,
            (std::vector<std::string>{"198.51.100.2 203.0.113.25 divert_external none",
                                      "2001:db8:1::2 2001:db8:2::25 divert_external none"}))
      << "the mailers stay open to them";
  const HeldSource guessing[] = {{HeldFor::guessing, v4, hour}, {HeldFor::guessing, v6, hour}};
  ASSERT_TRUE(firewall_->hold(guessing));
  const auto queued = packet_counters().at("queued");
  for (const char* mailer : {Net::kMailer4, Net::kMailer6}) {
    EXPECT_EQ(attempt_from_outside(mailer)->outcome(), ECONNREFUSED) << mailer;
  }
  EXPECT_EQ(packet_counters().at("barred"), 2U);
  EXPECT_EQ(packet_counters().at("queued"), queued);
}

// A guesser may have 65536 networks of 64 bits.
TEST_F(Datapath, HoldsInOneSetWhatAnotherHasNoRoomFor) {
  start();
  std::string all = "add element inet postern barred6 { ";
  for (int i = 0; i < 65536; ++i) {
    all += fmt::format("2001:db8:ffff:{:x}:: timeout 1h, ", i);
  }
  const auto filled = run_command({"nft", "-f", "-"}, all + "}\n");
  ASSERT_TRUE(filled) << filled.error();
  const auto v4 = rules::IpAddress::parse(Net::kStranger4).value();
  const auto v6 = rules::IpAddress::parse(Net::kStranger6).value();
  const auto hour = std::chrono::hours(1);
  const HeldSource held[] = {{HeldFor::guessing, v6, hour},
                             {HeldFor::guessing, v4, hour},
                             {HeldFor::offending, v4, hour},
                             {HeldFor::offending, v6, hour}};
  EXPECT_FALSE(firewall_->hold(held)) << "barred6 is full";
  for (const char* set : {"barred4", "repeat_offenders4", "repeat_offenders6"}) {
    const std::string text = run_or_throw("nft list set inet postern " + std::string(set));
    EXPECT_EQ(count_of(text, "expires"), 1U) << text;
  }
}

TEST_F(Datapath, SaysWhyAnUpdateFails) {
  const auto updated = Firewall(Settings{}, QueueForm::xtables).update(example_policy());
  ASSERT_FALSE(updated);
  EXPECT_NE(updated.error().find("nft -f -"), std::string::npos) << updated.error();
  EXPECT_NE(updated.error().find("No such file"), std::string::npos) << updated.error();
}

TEST_F(Datapath, GoesOnWithoutIpv6) {
  run_or_throw("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
  PolicyRoute route{Settings{}};
  route.install();
  EXPECT_NE(route.ipv6_missing(), "");
  EXPECT_EQ(count_of(run_or_throw("ip rule"), "fwmark 0x7000000/0xff000000 lookup 2525"), 1U);
  EXPECT_TRUE(route.remove());
  EXPECT_EQ(count_of(installed_state(), "fwmark"), 0U);
}

// What an installed firewall does with what nobody judges, and with what came past it.
std::string installed_chains(QueueForm form) {
  const std::string queue_steps = form == QueueForm::xtables
                                      ? "iptables -t mangle -S; ip6tables -t mangle -S"
                                      : "nft -s list chain inet postern judge";
  return run_or_throw(
      "set -e; nft -s list chain inet postern undecided; nft -s list chain inet postern guard; "
      "nft -s list chain inet postern refused; " +
      queue_steps);
}

rules::Policy observing(rules::Policy policy) {
  policy.observe = true;
  return policy;
}

TEST_F(Datapath, SwitchesItsChainsWithObserveAndBackAgain) {
  start();
  const std::string strict = installed_chains(firewall_->form());
  ASSERT_TRUE(firewall_->update(observing(example_policy())));
  const std::string lax = installed_chains(firewall_->form());
  EXPECT_EQ(count_of(lax, "drop"), 0U) << lax;
  EXPECT_EQ(count_of(lax, "reject"), 0U) << lax;
  ASSERT_TRUE(firewall_->update(observing(example_policy("203.0.113.99"))));
  EXPECT_EQ(installed_chains(firewall_->form()), lax) << "only the sets have changed";
  ASSERT_TRUE(firewall_->update(example_policy()));
  EXPECT_EQ(installed_chains(firewall_->form()), strict);
}

TEST_F(Datapath, KeepsItsChainsWhereSwitchingThemFails) {
  start();
  rules::Policy impossible = example_policy();
  impossible.external_interfaces = {"a name that no interface can have"};
  const std::string strict = installed_chains(firewall_->form());
  EXPECT_FALSE(firewall_->update(observing(impossible)));
  EXPECT_EQ(installed_chains(firewall_->form()), strict);
  ASSERT_TRUE(firewall_->update(observing(example_policy())));
  const std::string lax = installed_chains(firewall_->form());
  EXPECT_FALSE(firewall_->update(impossible));
  EXPECT_EQ(installed_chains(firewall_->form()), lax);
  ASSERT_TRUE(firewall_->update(example_policy()));
  EXPECT_EQ(installed_chains(firewall_->form()), strict)
      << "as after a switch that did not fail first";
}

// The kernel takes each form of the rules; where it has no queue statement, that is the one thing
// it complains of.
TEST_F(Datapath, AcceptsEveryFormOfTheRules) {
  const bool has_queue = Firewall(Settings{}).form() == QueueForm::nft;
  for (const auto form : {QueueForm::nft, QueueForm::xtables}) {
    for (const auto& [policy, on_failure] : {std::pair{example_policy(), OnFailure::closed},
                                             {example_policy(), OnFailure::open},
                                             {observing(example_policy()), OnFailure::closed}}) {
      for (const std::uint16_t queues : {std::uint16_t{1}, std::uint16_t{4}}) {
        const Settings settings{.queue_count = queues, .on_failure = on_failure};
        const auto text = install_ruleset(policy, settings, form);
        const auto checked = run_command({"nft", "-c", "-f", "-"}, text);
        if (form == QueueForm::nft && !has_queue) {
          ASSERT_FALSE(checked);
          EXPECT_EQ(count_of(checked.error(), "Error:"), 1U) << checked.error();
          EXPECT_NE(checked.error().find("Could not process rule: No such file"), std::string::npos)
              << checked.error();
        } else {
          EXPECT_TRUE(checked) << checked.error();
        }
      }
    }
  }
}

// A probe that fails for a reason of its own would never find the queue statement.
TEST_F(Datapath, ProbesForTheQueueStatementAlone) {
  const auto probed = run_command({"nft", "-c", "-f", "-"}, probe_ruleset("postern_probe"));
  EXPECT_TRUE(probed || (count_of(probed.error(), "Error:") == 1 &&
                         count_of(probed.error(), "Could not process rule: No such file") == 1))
      << probed.error();
}

TEST_F(Datapath, AnswersForUnmanagedHostsWithAReset) {
  start();
  for (const char* unmanaged : {Net::kUnmanaged4, Net::kUnmanaged6}) {
    const auto attempt = attempt_from_outside(unmanaged);
    judge(sink_.events.size() + 1);
    EXPECT_EQ(attempt->outcome(), ECONNREFUSED) << unmanaged;
  }
  EXPECT_EQ(sink_.events, (std::vector<std::string>{
                              "198.51.100.2 203.0.113.26 reject unmanaged_destination",
                              "2001:db8:1::2 2001:db8:2::26 reject unmanaged_destination"}));
  EXPECT_EQ(queue_->statistics().packets, 2U);
  EXPECT_EQ(queue_->statistics().verdict_errors, 0U);
  std::string link_address;
  network_->outside([&] {
    link_address = run_or_throw("ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\) .*/\\1/'");
  });
  ASSERT_TRUE(sink_.sent_by);
  EXPECT_EQ(fmt::format("{:02x}\n", fmt::join(*sink_.sent_by, ":")), link_address);
}

struct FamilyRow {
  const char* listener;
  const char* mailer;
};

TEST_F(Datapath, HandsMailersFlowsToTheListenersUnderTheMailersAddress) {
  start();
  for (const auto& row : {FamilyRow{"127.0.0.1", Net::kMailer4}, FamilyRow{"::1", Net::kMailer6}}) {
    const TransparentListener listener(row.listener, settings_.proxy_ports[0]);
    const auto attempt = attempt_from_outside(row.mailer);
    judge(sink_.events.size() + 1);
    EXPECT_EQ(attempt->outcome(), 0);
    EXPECT_EQ(listener.accepted_at(), socket_address(row.mailer, 25));
  }
  EXPECT_EQ(packet_counters().at("diverted_external"), 2U);
  EXPECT_EQ(packet_counters().at("leaked"), 0U);
}

TEST_F(Datapath, DropsWhatIsDivertedWhileNobodyListens) {
  start();
  const auto attempt = attempt_from_outside(Net::kMailer4);
  judge(1);
  EXPECT_EQ(attempt->outcome(300), ETIMEDOUT);
  EXPECT_GE(packet_counters().at("fail_closed"), 1U);
}

TEST_F(Datapath, FailsClosedWithoutAQueue) {
  start();
  queue_.reset();
  for (const char* to : {Net::kMailer4, Net::kMailer6, Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(attempt_from_outside(to)->outcome(300), ETIMEDOUT) << to;
  }
  const auto counters = packet_counters();
  EXPECT_GE(counters.at("queued"), 4U);
  EXPECT_EQ(counters.at("fail_closed"), counters.at("queued"));
  EXPECT_EQ(counters.at("failed_open"), 0U);
}

// Nobody lives inside: what is let through is seen by the counters only.
TEST_F(Datapath, FailsOpenForMailersAlone) {
  start({.on_failure = OnFailure::open});
  queue_.reset();
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kMailer4, tcp(40000, 25)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kMailer6, tcp(40000, 25)));
  EXPECT_EQ(packet_counters().at("failed_open"), 2U);
  EXPECT_EQ(packet_counters().at("fail_closed"), 0U);
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40000, 25)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kUnmanaged6, tcp(40000, 25)));
  EXPECT_EQ(packet_counters().at("failed_open"), 2U);
  EXPECT_EQ(packet_counters().at("fail_closed"), 2U);
  // The rest of a connection that was let through carries no mark.
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kMailer4, tcp(40000, 25, kAck)));
  EXPECT_EQ(packet_counters().at("leaked"), 0U);
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40000, 25, kAck)));
  EXPECT_EQ(packet_counters().at("leaked"), 1U);
}

// The way in has another name than the configuration knows.
TEST_F(Datapath, FailsOpenForWhoIsInsideAndNotForARenamedInterface) {
  rules::Policy policy = example_policy();
  policy.external_interfaces = {"ppp0"};
  start({.on_failure = OnFailure::open}, {}, policy);
  queue_.reset();
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40000, 25)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kUnmanaged6, tcp(40000, 25)));
  EXPECT_EQ(packet_counters().at("failed_open"), 0U);
  EXPECT_EQ(packet_counters().at("fail_closed"), 2U);
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kMailer4, tcp(40000, 25)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kMailer6, tcp(40000, 25)));
  network_->send_from_inside(ipv4("203.0.113.66", Net::kStranger4, tcp(40000, 25)));
  network_->send_from_inside(ipv6("2001:db8:2::66", Net::kStranger6, tcp(40000, 25)));
  // The host inside looks for the router first.
  EXPECT_TRUE(testing::wait_until("all have passed",
                                  [&] { return packet_counters().at("failed_open") == 4U; }));
  EXPECT_EQ(packet_counters().at("fail_closed"), 2U);
}

TEST_F(Datapath, EndsConnectionsThatGoPastTheProxy) {
  start();
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kMailer4, tcp(40000, 25, kAck)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kMailer6, tcp(40000, 25, kAck)));
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40000, 25, kAck | kPsh)));
  EXPECT_EQ(packet_counters().at("leaked"), 3U);
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40000, 587, kAck)));
  EXPECT_EQ(packet_counters().at("leaked"), 3U);
}

TEST_F(Datapath, ShieldsTheProxysOwnPorts) {
  start();
  const TransparentListener listener("127.0.0.1", settings_.proxy_ports[0]);
  EXPECT_EQ(attempt_from_outside("198.51.100.1", settings_.proxy_ports[0])->outcome(300),
            ETIMEDOUT);
  EXPECT_EQ(Attempt("127.0.0.1", settings_.proxy_ports[0]).outcome(300), ETIMEDOUT);
  EXPECT_GE(packet_counters().at("direct"), 2U);
}

// A mail server on the router, behind its own address.
TEST_F(Datapath, ClosesTheRoutersOwnPortToTheOutsideAlone) {
  start();
  for (const char* own : {"198.51.100.1", "2001:db8:1::1"}) {
    const TransparentListener server(own, 25);
    EXPECT_EQ(Attempt(own, 25).outcome(), 0) << "the router's own mail";
    const auto attempt = attempt_from_outside(own);
    judge(sink_.events.size() + 1);
    EXPECT_EQ(attempt->outcome(), ECONNREFUSED) << own;
  }
  EXPECT_EQ(sink_.events,
            (std::vector<std::string>{"198.51.100.2 198.51.100.1 reject unmanaged_destination",
                                      "2001:db8:1::2 2001:db8:1::1 reject unmanaged_destination"}));
  network_->send_from_outside(ipv4(Net::kStranger4, "198.51.100.1", tcp(40000, 25, kAck)));
  network_->send_from_outside(ipv6(Net::kStranger6, "2001:db8:1::1", tcp(40000, 25, kAck)));
  EXPECT_EQ(packet_counters().at("leaked"), 2U) << "of a connection older than the rules";
}

TEST_F(Datapath, JudgesPacketsWithOptionsAndExtensionHeaders) {
  start();
  const auto syn = tcp(40000, 25);
  network_->send_from_outside(
      ipv4(Net::kStranger4, Net::kMailer4, syn, {.options = {148, 4, 0, 0}}));
  network_->send_from_outside(
      ipv6(Net::kStranger6, Net::kMailer6, syn, kDestinationOptions, extension(kTcp)));
  network_->send_from_outside(ipv6(Net::kStranger6, Net::kMailer6, syn, kDestinationOptions,
                                   extension(kTcp, Octets{1, 244} + Octets(244))));
  judge(3);
  EXPECT_EQ(sink_.events,
            (std::vector<std::string>{"198.51.100.2 203.0.113.25 divert_external none",
                                      "2001:db8:1::2 2001:db8:2::25 divert_external none",
                                      "2001:db8:1::2 2001:db8:2::25 divert_external none"}));
}

TEST_F(Datapath, AnswersABarredSourceWithAReset) {
  start();
  barred_ = testing_support::BarredSources({Net::kStranger4, Net::kStranger6});
  const auto attempt = attempt_from_outside(Net::kMailer4);
  judge(1);
  EXPECT_EQ(attempt->outcome(), ECONNREFUSED);
  const auto attempt6 = attempt_from_outside(Net::kMailer6);
  judge(2);
  EXPECT_EQ(attempt6->outcome(), ECONNREFUSED);
  EXPECT_EQ(sink_.events,
            (std::vector<std::string>{"198.51.100.2 203.0.113.25 reject auth_failed",
                                      "2001:db8:1::2 2001:db8:2::25 reject auth_failed"}));
}

// The defragmenters that tproxy and socket pull in work in front of the first chain.
TEST_F(Datapath, JudgesFlowsThatStartInFragments) {
  start();
  Octets whole = ipv4(Net::kStranger4, Net::kMailer4, tcp(40000, 25));
  const Octets segment(whole.begin() + 20, whole.end());
  const auto fragment = [&](std::size_t begin, std::size_t end, bool more) {
    return ipv4(Net::kStranger4, Net::kMailer4,
                Octets(segment.begin() + static_cast<long>(begin),
                       segment.begin() + static_cast<long>(end)),
                {.fragment_offset = static_cast<std::uint16_t>(begin / 8), .more_fragments = more});
  };
  Octets first = fragment(0, 8, true);
  Octets second = fragment(8, 20, false);
  for (auto* part : {&first, &second}) {
    put_u16(*part, 4, 77);  // the same datagram; the kernel sums the header up again
  }
  network_->send_from_outside(first);
  network_->send_from_outside(second);
  judge(1);
  EXPECT_EQ(sink_.events,
            (std::vector<std::string>{"198.51.100.2 203.0.113.25 divert_external none"}));
}

TEST_F(Datapath, DropsAndCountsWhatItCannotRead) {
  start();
  network_->send_from_outside(
      ipv6(Net::kStranger6, Net::kMailer6, tcp(40000, 25), kRouting, routing_header(kTcp, 4, 1)));
  judge(1);
  EXPECT_EQ(sink_.events, (std::vector<std::string>{"0.0.0.0 0.0.0.0 drop malformed_packet"}));
  EXPECT_EQ(queue_->statistics().malformed, 1U);
}

TEST_F(Datapath, KeepsTheMarkBitsOfOthers) {
  run_or_throw(R"(nft -f - <<'END'
table inet other {
	chain before { type filter hook prerouting priority -300; meta mark set 0x000000ab; }
	chain after { type filter hook prerouting priority -149; meta mark 0x060000ab counter; }
}
END
)");
  start();
  const auto attempt = attempt_from_outside(Net::kUnmanaged4);
  judge(1);
  EXPECT_EQ(attempt->outcome(), ECONNREFUSED);
  const std::string chain = run_or_throw("nft list chain inet other after");
  EXPECT_NE(chain.find("packets 1"), std::string::npos) << chain;
}

TEST_F(Datapath, DropsFloodsToUnmanagedHostsInTheKernel) {
  start();
  constexpr std::uint16_t kPackets = 1000;
  for (std::uint16_t i = 0; i < kPackets; ++i) {
    network_->send_from_outside(
        ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(static_cast<std::uint16_t>(10000 + i), 25)));
  }
  const auto counters = packet_counters();
  EXPECT_EQ(counters.at("queued") + counters.at("flooded"), kPackets);
  EXPECT_GE(counters.at("queued"), 200U) << "the burst";
  EXPECT_GE(counters.at("flooded"), 200U);
}

TEST_F(Datapath, SurvivesAndCountsOverruns) {
  start({}, {.receive_buffer_octets = 4096});
  for (std::uint16_t i = 0; i < 100; ++i) {
    network_->send_from_outside(
        ipv4(Net::kStranger4, Net::kMailer4, tcp(static_cast<std::uint16_t>(10000 + i), 25)));
  }
  judge(100, 300);
  EXPECT_GE(queue_->statistics().overruns, 1U);
  EXPECT_GT(sink_.events.size(), 0U);
  EXPECT_LT(sink_.events.size(), 100U);
  const auto drops = queue_drops(settings_.queue_base);
  ASSERT_TRUE(drops);
  EXPECT_EQ(drops->receiver_full, 100 - sink_.events.size());
  EXPECT_EQ(drops->queue_full, 0U);

  sink_.events.clear();
  network_->send_from_outside(ipv4(Net::kStranger4, Net::kMailer4, tcp(50000, 25)));
  judge(1);
  EXPECT_EQ(sink_.events.size(), 1U) << "afterwards all is well";
}

TEST_F(Datapath, CountsWhatAFullQueueDrops) {
  start({}, {.max_length = 10});
  for (std::uint16_t i = 0; i < 30; ++i) {
    network_->send_from_outside(
        ipv4(Net::kStranger4, Net::kMailer4, tcp(static_cast<std::uint16_t>(10000 + i), 25)));
  }
  const auto drops = queue_drops(settings_.queue_base);
  ASSERT_TRUE(drops);
  EXPECT_GE(drops->queue_full, 19U);
  EXPECT_EQ(drops->receiver_full, 0U);
  EXPECT_FALSE(queue_drops(static_cast<std::uint16_t>(settings_.queue_base + 1)));
}

TEST_F(Datapath, SpreadsFlowsOverQueues) {
  start({.queue_count = 2});
  Queue second(26, MarkField(settings_.mark_mask));
  constexpr std::uint16_t kFlows = 64;
  for (std::uint16_t i = 0; i < kFlows; ++i) {
    const std::string from = "198.51.100." + std::to_string(i + 2);
    network_->send_from_outside(ipv4(from, Net::kMailer4, tcp(40000, 25)));
  }
  queue_->drain(example_policy(), barred_, sink_);
  const std::size_t first_share = sink_.events.size();
  second.drain(example_policy(), barred_, sink_);
  EXPECT_EQ(sink_.events.size(), kFlows);
  EXPECT_GT(first_share, 0U);
  EXPECT_LT(first_share, kFlows);
}

TEST_F(Datapath, SaysWhenAQueueIsTaken) {
  const Queue first(25, MarkField(0xff000000));
  try {
    const Queue second(25, MarkField(0xff000000));
    FAIL() << "two owners of one queue";
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find("queue 25: another program listens on it"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace postern::nfq
