// The sessions of tests/netns/hostile, through the real daemon, to a server that believes everything.
// What a session is and what must be true of each: tests/support/session_cases.py, session_judge.py.
#include <gtest/gtest.h>

#include <string>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/hostile_files.hpp"

namespace postern::testing {
namespace {

class HostileSessions : public EndToEnd, public ::testing::WithParamInterface<HostileFile> {};

TEST_P(HostileSessions, BreakNoInvariant) {
  const HostileFile& file = GetParam();
  const GullibleMailer mailer(lab, file);
  start_scripted_server();  // mx2, for a daemon whose mailers all answer is a healthy one
  start_posternd(file.config());
  const Finished finished = run_hostile_sessions(lab, file, mailer);
  EXPECT_EQ(finished.status, 0) << finished.output;
  EXPECT_TRUE(wait_until("no session is left open", [&] {
    return posternd->postern({"status", "--json"}).output.contains("\"sessions_open\":0");
  }));
  const Finished status = posternd->postern({"status"});
  EXPECT_EQ(status.status, 0) << "posternd is not healthy afterwards:\n" << status.output;
}

INSTANTIATE_TEST_SUITE_P(EveryFile, HostileSessions, ::testing::ValuesIn(hostile_files()),
                         [](const auto& file) { return file.param.test_name(); });

}  // namespace
}  // namespace postern::testing
