// What stands in the way of mail, or of the policy, on this router.
// Threads: values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::gateway::doctor {

// problem: mail does not flow, or not all that reaches port 25 is judged.
enum class Weight : std::uint8_t { problem, warning, note };

[[nodiscard]] constexpr const char* to_label(Weight weight) {
  switch (weight) {
    case Weight::problem:
      return "problem";
    case Weight::warning:
      return "warning";
    case Weight::note:
      return "note";
  }
  return "";
}

struct Finding {
  std::string id;  // one of kFindingIds
  Weight weight = Weight::problem;
  std::string what{};                   // was found
  std::string why{};                    // it matters
  std::vector<std::string> commands{};  // mend it
  std::string config{};                 // a line of postern.toml that mends it
};

// Each stands in postern(1).
inline constexpr std::array<std::string_view, 35> kFindingIds{"blocked_forward",
                                                              "blocked_input",
                                                              "blocked_output",
                                                              "blocked_postrouting",
                                                              "blocked_prerouting",
                                                              "bridged",
                                                              "daemon_problem",
                                                              "destination_translated",
                                                              "flow_offload",
                                                              "flush_at_boot",
                                                              "forwarding_off",
                                                              "interface_is_part",
                                                              "interface_missing",
                                                              "ipv6_off",
                                                              "large_receive",
                                                              "left_behind",
                                                              "local_mail_server",
                                                              "mailer_not_inside",
                                                              "mailer_unreachable",
                                                              "mark_clash",
                                                              "missing_feature",
                                                              "no_default_route",
                                                              "port_forward",
                                                              "port_range",
                                                              "port_taken",
                                                              "queue_taken",
                                                              "reverse_path",
                                                              "routing_rule",
                                                              "routing_table",
                                                              "second_daemon",
                                                              "source_concentration",
                                                              "source_translated",
                                                              "time_wait",
                                                              "unclear_filter",
                                                              "xdp"};

}  // namespace postern::gateway::doctor
