// The fixture of the tests that break something under a mixed load: what fails, what is noticed, how soon, and that
// nobody relays, no message is lost and none is accepted in part. docs/failure-modes.md has the rows.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/mixed_load.hpp"

namespace postern::testing {

class FailureMatrix : public EndToEnd {
 public:
  // The processes of the daemon: who speaks SMTP, and who holds the rules. It lives no longer than either.
  enum class Half { proxy, packet_filter };

 protected:
  void TearDown() override;

  // `runner`: see Posternd. A scripted server on mx2, another where no mailer is, the daemon, and the load; returns when mail flows.
  void begin(const ConfigText& config = {}, const std::vector<std::string>& runner = {});
  // A new daemon, where the last one is gone.
  void start_daemon_again();
  [[nodiscard]] pid_t pid_of(Half half) const;
  void signal(Half half, int number) const;

  // From now on: every honest sender, over both families, gets messages through.
  [[nodiscard]] ::testing::AssertionResult mail_flows() const;
  // Everybody has begun so many attempts after this call, and ended them.
  [[nodiscard]] ::testing::AssertionResult everybody_tries(std::size_t times) const;
  // Waits for the sign of a failure, and records how long it took.
  [[nodiscard]] ::testing::AssertionResult noticed(std::string_view what,
                                                   const std::function<bool()>& sign);
  [[nodiscard]] bool log_says(std::string_view text) const;
  // `postern status`: its problems are among its text; it ends with 1.
  [[nodiscard]] bool status_says(std::string_view text) const;
  [[nodiscard]] std::size_t relayed() const;

  // At the end: ends the load; what must hold whatever failed. `relays_may_pass`: it was told to fail open.
  void expect_sound(bool relays_may_pass = false);

  std::unique_ptr<ScriptedServer> unmanaged;
  std::unique_ptr<MixedLoad> load;

 private:
  ConfigText config_;
  std::vector<std::string> runner_;
};

// Threads of the daemon that stand still, as if they hung, until this goes.
// Threads:  made and destroyed by one and the same (ptrace).
class StuckThreads {
 public:
  // By their names' beginning.
  StuckThreads(pid_t process, std::string_view name);
  ~StuckThreads();
  StuckThreads(const StuckThreads&) = delete;
  StuckThreads& operator=(const StuckThreads&) = delete;

  [[nodiscard]] std::size_t count() const { return threads_.size(); }

 private:
  std::vector<pid_t> threads_;
};

}  // namespace postern::testing
