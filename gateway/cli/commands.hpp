// The commands of `postern`: each takes its options, prints its answer and returns its exit code.
// Errors:   what went wrong is said on stderr.
#pragma once

#include <cstddef>
#include <string>

namespace postern::gateway::cli {

inline constexpr int kFine = 0;
inline constexpr int kAnswerIsNo = 1;
inline constexpr int kUsage = 2;

inline constexpr const char* kDefaultConfig = "/etc/postern/postern.toml";

struct CheckOptions {
  std::string config = kDefaultConfig;
  bool json = false;
};
[[nodiscard]] int run_check(const CheckOptions& options);

struct ExplainOptions {
  std::string config = kDefaultConfig;
  std::string from;
  std::string interface;
  std::string to;
  std::string recipient;  // empty: only the connection is asked about
  bool authenticated = false;
  bool json = false;
};
[[nodiscard]] int run_explain(const ExplainOptions& options);

struct RulesetOptions {
  std::string config = kDefaultConfig;
};
[[nodiscard]] int run_ruleset(const RulesetOptions& options);

// What the commands that talk to the daemon have in common.
struct ControlOptions {
  std::string config = kDefaultConfig;
  std::string socket;  // empty: as in the configuration
  bool json = false;
};

struct BlockedOptions {
  ControlOptions control;
  std::size_t limit = 50;
  bool follow = false;
};

struct OffendersOptions {
  ControlOptions control;
  std::size_t limit = 50;
};

[[nodiscard]] int run_status(const ControlOptions& options);
[[nodiscard]] int run_doctor(const ControlOptions& options);
[[nodiscard]] int run_counters(const ControlOptions& options);
[[nodiscard]] int run_blocked(const BlockedOptions& options);
[[nodiscard]] int run_offenders(const OffendersOptions& options);
[[nodiscard]] int run_reload(const ControlOptions& options);
[[nodiscard]] int run_drain(const ControlOptions& options);

}  // namespace postern::gateway::cli
