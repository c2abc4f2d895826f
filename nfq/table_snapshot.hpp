// A table of nftables as the kernel holds it, to be compared with what it was: chains, rules, sets,
// the elements of sets that only Postern fills. Without what changes by itself: counters, handles,
// elements that packets or time bring and take.
// Source:   linux/netfilter/nf_tables.h.
// Errors:   read_table() returns text. TableReader is false where a message could not be read.
// Threads:  TableReader and describe_changes() are pure; read_table() has one owner.
// Why not:  `nft list`: two processes at each change of anybody's, and elements by the thousand that
//           nobody compares.
#pragma once

#include <libmnl/libmnl.h>

#include <compare>
#include <cstdint>
#include <expected>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace postern::nfq {

using RawOctets = std::string;  // as the kernel wrote them, to be compared only

struct ChainSnapshot {
  RawOctets definition;
  std::vector<RawOctets> rules;  // in their order

  bool operator==(const ChainSnapshot&) const = default;
};

struct SetSnapshot {
  RawOctets definition;
  bool is_fixed = true;               // no element comes or goes by itself
  std::multiset<RawOctets> elements;  // of fixed ones

  bool operator==(const SetSnapshot&) const = default;
};

struct TableSnapshot {
  std::uint32_t generation = 0;  // of all tables, counted by the kernel
  bool exists = false;
  RawOctets definition;
  std::map<std::string, ChainSnapshot> chains;
  std::map<std::string, SetSnapshot> sets;
  std::set<std::string> objects;  // named counters
};

// One line for each part of `now` that is not as in `before`, in words. Empty: nothing has changed.
[[nodiscard]] std::vector<std::string> describe_changes(const TableSnapshot& before,
                                                        const TableSnapshot& now);

// Adds what one message of a dump says of the table `name`.
class TableReader {
 public:
  explicit TableReader(std::string name) : name_(std::move(name)) {}

  bool read(const nlmsghdr* message);
  [[nodiscard]] const TableSnapshot& snapshot() const { return snapshot_; }
  [[nodiscard]] TableSnapshot& snapshot() { return snapshot_; }

 private:
  std::string name_;
  TableSnapshot snapshot_;
};

class NetlinkSocket;

// As it was at one moment. `family`: NFPROTO_INET ...
[[nodiscard]] std::expected<TableSnapshot, std::string> read_table(NetlinkSocket& netfilter,
                                                                   std::uint8_t family,
                                                                   const std::string& name);
// The number that each transaction of anybody's raises by one.
[[nodiscard]] std::expected<std::uint32_t, std::string> read_generation(NetlinkSocket& netfilter);

}  // namespace postern::nfq
