// Reads what the kernel tells about changes to its tables, rules, routes, links and addresses, and
// says which parts that Postern depends on may be others now.
// Source:   linux/netfilter/nf_tables.h (group NFNLGRP_NFTABLES), rtnetlink(7).
// Errors:   false where the octets are no whole messages; nothing is read past their end.
// Threads:  pure; one owner.
// Why not:  what has changed is not taken from the messages: they may be lost, and our own changes
//           are told, too. Whoever is told looks for himself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nfq/core/settings.hpp"

namespace postern::nfq {

struct KernelChanges {
  bool table = false;      // of nftables that are Postern's
  bool mangle = false;     // the mangle tables of iptables and ip6tables, where they are nftables'
  bool routing = false;    // a rule, or a route that is ours or stands in our table
  bool links = false;      // an interface came, went, or was changed
  bool addresses = false;  // an address of the router's
  // Who changed tables last: a program's name and process id; empty: not told.
  std::string changed_by;

  [[nodiscard]] bool any() const { return table || mangle || routing || links || addresses; }
  // The kernel had more to tell than there was room for.
  void everything() { table = mangle = routing = links = addresses = true; }
  void add(const KernelChanges& more);
};

class ChangeReader {
 public:
  // `dynamic_sets`: sets of Postern's table whose elements come and go by themselves.
  ChangeReader(const Settings& settings, std::vector<std::string> dynamic_sets)
      : routing_table_(settings.routing_table), dynamic_sets_(std::move(dynamic_sets)) {}

  // `octets`: one datagram of the netfilter bus, aligned to 4.
  bool read_netfilter(std::span<const std::uint8_t> octets, KernelChanges& changes);
  // Likewise of the route bus.
  bool read_route(std::span<const std::uint8_t> octets, KernelChanges& changes) const;

 private:
  std::uint32_t routing_table_;
  std::vector<std::string> dynamic_sets_;
  bool in_our_transaction_ = false;  // something of ours was changed, and who did it comes last
};

}  // namespace postern::nfq
