// Child processes whose output is kept and whose end is waited for with a deadline.
// Errors:   std::system_error when a process cannot be started.
// Lifetime: the child never outlives its Process, nor the test program (PR_SET_PDEATHSIG).
// Threads:  start processes from the main thread: a child dies with the thread that forked it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace postern::testing {

struct Launch {
  std::vector<std::string> arguments;   // arguments[0] is looked up in PATH
  std::string network_namespace{};      // as in `ip netns`; empty: ours
  std::vector<std::string> settings{};  // NAME=value, on top of our environment
  std::string input{};                  // what it reads on stdin
};

struct Finished {
  int status = -1;     // exit code, 128 + signal, or -1 when it had to be killed at the deadline
  std::string output;  // stdout and stderr together
};

class Process {
 public:
  explicit Process(const Launch& launch);
  ~Process();  // SIGKILL
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool is_running();
  void signal(int number) const;
  // The exit code or 128 + signal; nothing when the patience ends first.
  [[nodiscard]] std::optional<int> wait(std::chrono::milliseconds patience);
  [[nodiscard]] std::string output() const;

 private:
  void end() noexcept;

  pid_t pid_ = -1;
  int output_ = -1;  // a memfd
  std::optional<int> status_;
};

// Runs it to its end.
[[nodiscard]] Finished run(const Launch& launch,
                           std::chrono::milliseconds patience = std::chrono::seconds{60});

}  // namespace postern::testing
