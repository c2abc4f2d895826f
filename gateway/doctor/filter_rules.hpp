// Other people's packet filters as a value: what nft and iptables print, reduced to what decides
// over a TCP packet of ours. What is not understood is kept as `unknown`, never left out.
// Source:   libnftables-json(5), iptables-save(8).
// Units:    ports and marks in host order.
// Threads:  values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/ip.hpp"

namespace postern::gateway::doctor {

enum class Hook : std::uint8_t { ingress, prerouting, input, forward, output, postrouting };

[[nodiscard]] const char* to_label(Hook hook);
[[nodiscard]] std::optional<Hook> hook_of(std::string_view name);

struct AddressRange {
  rules::IpAddress first;
  rules::IpAddress last;
};

[[nodiscard]] rules::IpAddress last_address(const rules::Prefix& prefix);

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};

// What one condition looks at.
enum class Subject : std::uint8_t {
  input_interface,   // names, "wan*" for all that begin so
  output_interface,  // names
  family,            // names: "ipv4", "ipv6"
  protocol,          // names: "tcp", ...
  source,            // addresses
  destination,       // addresses
  source_port,
  destination_port,
  connection_state,  // names: "new", "established", ...
  mark,              // (mark & mask) in values
  local_destination,
  first_packet,  // SYN, and neither ACK, RST nor FIN
  unknown,
};

struct Condition {
  Subject subject = Subject::unknown;
  bool negated = false;
  std::vector<std::string> names{};
  std::vector<AddressRange> addresses{};
  std::vector<PortRange> ports{};
  std::uint32_t mask = 0xffffffff;
  std::vector<std::uint32_t> values{};
};

// Bits of the packet's mark that a rule writes, or bits of it that it keeps in the connection's.
struct MarkWrite {
  enum class To : std::uint8_t { packet, connection };
  To to = To::packet;
  std::uint32_t bits = 0;     // written
  std::uint32_t value = 0;    // of those that are known
  std::uint32_t unknown = 0;  // of those written, such as come from elsewhere
};

enum class Verdict : std::uint8_t {
  none,  // goes on with the next rule
  accept,
  drop,  // also reject
  go_back,
  jump,
  go_to,
  queue,
  translate_destination,  // dnat, redirect
  translate_source,       // snat, masquerade
  notrack,                // goes on with the next rule
  offload,                // goes on with the next rule
  unknown,
};

struct Rule {
  std::vector<Condition> conditions{};
  std::vector<MarkWrite> marks{};
  Verdict verdict = Verdict::none;
  std::string target{};                          // of jump and go_to: the chain
  std::optional<PortRange> queues{};             // of queue
  bool bypass = false;                           // of queue
  std::optional<rules::IpAddress> translated{};  // of dnat: where to
  std::string text{};                            // as the program prints it
  std::size_t position = 0;                      // of iptables: from 1
  std::string place{};                           // of nft: "inet filter input handle 7"
  std::string removal{};                         // the command that deletes it
};

struct Chain {
  enum class Owner : std::uint8_t { nft, iptables, iptables_legacy };
  Owner owner = Owner::nft;
  std::string family;  // "ip", "ip6", "inet", "netdev", "bridge"
  std::string table;
  std::string name;
  std::string type{};          // base chains: "filter", "nat", "route"
  std::optional<Hook> hook{};  // base chains
  int priority = 0;            // base chains
  bool drops_by_default = false;
  std::vector<Rule> rules{};

  // "chain input of table inet filter", "chain INPUT of iptables"
  [[nodiscard]] std::string to_string() const;
  // The command that puts a rule in front of all others of the chain; each in its own language.
  [[nodiscard]] std::string insertion(const std::string& nft_rule, const std::string& iptables_rule,
                                      bool is_v4) const;
  [[nodiscard]] bool is_for(bool is_v4) const;
};

struct Flowtable {
  std::string name;  // "inet filter fast"
  std::vector<std::string> interfaces;
};

struct Ruleset {
  std::vector<Chain> chains;
  std::vector<Flowtable> flowtables;

  [[nodiscard]] const Chain* chain_of(const Chain& caller, const std::string& name) const;
};

}  // namespace postern::gateway::doctor
