#include "nfq/command.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include "nfq/firewall.hpp"

namespace postern::nfq {
namespace {

TEST(Command, ReadsItsInputAndReturnsItsOutput) {
  const std::string input(100'000, 'x');  // more than a pipe holds
  EXPECT_EQ(run_command({"cat"}, input), input);
}

TEST(Command, PassesArgumentsAsTheyAre) {
  EXPECT_EQ(run_command({"printf", "%s", "a b; $HOME"}), "a b; $HOME");
}

TEST(Command, ReportsItsNameCodeAndErrorText) {
  const auto result = run_command({"sh", "-c", "echo sorry >&2; exit 3"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), "sh -c echo sorry >&2; exit 3: exit code 3: sorry");
}

TEST(Command, ReportsASignal) {
  const auto result = run_command({"sh", "-c", "kill -9 $$"});
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().find("ended by signal 9"), std::string::npos) << result.error();
}

TEST(Command, SaysWhenThereIsNoSuchProgram) {
  const auto result = run_command({"no-such-program-of-postern"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(),
            "no-such-program-of-postern: no such program; is its package installed?");
}

// posternd blocks signals for its event loop; a program that it runs must hear them again.
TEST(Command, DoesNotInheritBlockedSignals) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto result = run_command({"sh", "-c", "kill -TERM $$; exit 0"});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().find("ended by signal 15"), std::string::npos) << result.error();
}

TEST(KernelCounters, AreReadFromTheListing) {
  const auto counters = parse_counters(
      "table inet postern {\n\tcounter queued {\n\t\tpackets 22 bytes 1520\n\t}\n"
      "\tcounter leaked {\n\t\tpackets 0 bytes 0\n\t}\n}\n");
  EXPECT_EQ(counters, (std::vector<KernelCounter>{{"queued", 22, 1520}, {"leaked", 0, 0}}));
  EXPECT_TRUE(parse_counters("").empty());
}

TEST(KernelListing, IsEmptyOnlyWithoutRules) {
  const std::string frame =
      "table ip mangle {\n\tchain PREROUTING {\n"
      "\t\ttype filter hook prerouting priority mangle; policy accept;\n";
  EXPECT_TRUE(has_no_rules(frame + "\t}\n}\n"));
  EXPECT_FALSE(has_no_rules(frame + "\t\tcounter packets 0 bytes 0 drop\n\t}\n}\n"));
  EXPECT_FALSE(
      has_no_rules("table ip mangle {\n\tchain PREROUTING {\n"
                   "\t\ttype filter hook prerouting priority mangle; policy drop;\n\t}\n}\n"));
}

}  // namespace
}  // namespace postern::nfq
