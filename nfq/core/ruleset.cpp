#include "nfq/core/ruleset.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nfq/core/mark.hpp"
#include "rules/stranger.hpp"

namespace postern::nfq {
namespace {

constexpr std::string_view kPurpose = "Postern: nothing but judged flows reaches TCP port 25.";
constexpr std::string_view kPurposeOfObserving =
    "Postern, observing: flows to TCP port 25 are judged and counted, and nothing is refused.";

constexpr std::string_view kHead = R"(# @PURPOSE@

# The field of the packet mark that is ours, and the bits that are not.
define FIELD            = @FIELD@
define FOREIGN          = @FOREIGN@
define PENDING_EXTERNAL = @PENDING_EXTERNAL@
define PENDING_INTERNAL = @PENDING_INTERNAL@
define DIVERT_EXTERNAL  = @DIVERT_EXTERNAL@
define DIVERT_INTERNAL  = @DIVERT_INTERNAL@
define PASS             = @PASS@
define REJECT           = @REJECT@
define OWNED            = @OWNED@

@BEGIN@
table inet postern {
	# From the configuration.
	set external_interfaces {
		type ifname
@ELEMENTS_external_interfaces@	}
	set internal4 {
		type ipv4_addr
		flags interval
@ELEMENTS_internal4@	}
	set internal6 {
		type ipv6_addr
		flags interval
@ELEMENTS_internal6@	}
	set mailers4 {
		type ipv4_addr
@ELEMENTS_mailers4@	}
	set mailers6 {
		type ipv6_addr
@ELEMENTS_mailers6@	}
	# Addresses of the router itself that stand for mailers.
	set published4 {
		type ipv4_addr
@ELEMENTS_published4@	}
	set published6 {
		type ipv6_addr
@ELEMENTS_published6@	}
	# Both.
	set reachable4 {
		type ipv4_addr
@ELEMENTS_reachable4@	}
	set reachable6 {
		type ipv6_addr
@ELEMENTS_reachable6@	}

	# Filled while posternd runs, and kept over a reload. IPv6 sources by /64.
	set barred4 { type ipv4_addr; size 65536; flags timeout; } # guess passwords
	set barred6 { type ipv6_addr; size 65536; flags timeout; }
	set repeat_offenders4 { type ipv4_addr; size 65536; flags timeout; } # were refused again and again
	set repeat_offenders6 { type ipv6_addr; size 65536; flags timeout; }
	set inside_rates4 { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; } # what each source inside sends
	set inside_rates6 { type ipv6_addr; size 65536; flags dynamic,timeout; timeout 1m; }

	# Packets that the kernel kept back by itself: each in one of these.
	counter flooded { }           # dropped: too many new flows from outside to hosts that are no mailers
	counter repeat_offenders { }  # dropped: to hosts that are no mailers, from sources in repeat_offenders4 and 6
	counter barred { }            # reset: to mailers, from sources in barred4 and 6
	counter excess { }            # dropped: too many new flows from inside, to hosts inside, with a source that is not
	counter excess_senders { }    # dropped: too many new flows of hosts inside that are no mailers, to port 25 outside
	counter unplain { }           # dropped: too many new flows, and this one has options, or a source that the policy refuses
	counter own_source { }        # dropped: came from another host with an address of the router
	counter fail_closed { }       # dropped: nobody was there to judge them, or to listen
	counter leaked { }            # reset: for port 25 from outside, past the proxy and the packet policy
	counter direct { }            # dropped: for the proxy's own ports
	# Packets that went on.
	counter queued { }            # new flows shown to the packet policy
	counter unqueued { }          # new flows, too many to be shown, for which the kernel said what the policy says
	counter unqueued_senders { }  # the same, of hosts inside that are no mailers, to port 25 outside
	counter diverted_external { } # handed to the proxy
	counter diverted_internal { } # handed to the proxy
	counter cookies { }           # ACKs for mailers without a connection, handed to the proxy: they may bring back a SYN cookie
	counter failed_open { }       # let through though nobody judged them

)";

// The table that a crash may have left goes with its chains and its sets.
constexpr std::string_view kReplace =
    R"(# Replaces the table that a crash may have left, in one transaction.
add table inet postern
delete table inet postern
)";

constexpr std::string_view kExchange =
    R"(# Exchanges the rules of the table that is there, and what its sets hold, in one transaction.
flush table inet postern
@CHANGES@)";

constexpr std::string_view kClassify =
    R"(	# 1. Marks the first packet of each flow to port 25 with the side it comes from.
	chain classify {
		type filter hook prerouting priority mangle - 2; policy accept;
		tcp dport 25 tcp flags & (fin | syn | rst | ack) == syn jump new_flow
	}
	# In this order: a flood to hosts that are no mailers takes as few steps as can be.
	chain new_flow {
		ip daddr @reachable4 goto to_mailer
		ip6 daddr @reachable6 goto to_mailer
		iifname @external_interfaces goto to_unmanaged
		# The router's own packets would come round again for ever.
		iifname "lo" return
		# From inside, mail for the router itself is its own business.
		fib daddr type local return
		goto from_inside
	}
	chain pending {
		ip saddr != 127.0.0.0/8 fib saddr type local counter name own_source @DROP@
		ip6 saddr != ::1 fib saddr type local counter name own_source @DROP@
		iifname @external_interfaces meta mark set meta mark & $FOREIGN | $PENDING_EXTERNAL counter name queued accept
		meta mark set meta mark & $FOREIGN | $PENDING_INTERNAL counter name queued accept
	}

	# 1a. To mailers. Sources of SYNs can be forged, so nobody is kept out for how many came in his name.
	chain to_mailer {
		# As above: to an address that stands for a mailer.
		iifname "lo" return
		# Internal is who is both: interfaces cannot be forged from afar, and the address says who is meant.
		iifname != @external_interfaces ip saddr @internal4 goto internal_to_mailer
		iifname != @external_interfaces ip6 saddr @internal6 goto internal_to_mailer
		ip saddr @barred4 counter name barred @REFUSE@
		ip6 saddr & ffff:ffff:ffff:ffff:: @barred6 counter name barred @REFUSE@
		limit rate over @MAILER_RATE@ goto unqueued_stranger
		goto pending
	}
	chain internal_to_mailer {
		limit rate over @MAILER_RATE@ goto unqueued_internal
		goto pending
	}

	# 1b. From outside to anything else: refused by the packet policy, which is shown a sample.
	chain to_unmanaged {
		ip saddr @repeat_offenders4 counter name repeat_offenders @DROP@
		ip6 saddr & ffff:ffff:ffff:ffff:: @repeat_offenders6 counter name repeat_offenders @DROP@
		limit rate over @STRANGER_RATE@ counter name flooded @DROP@
		goto pending
	}

	# 1c. From inside to anything else: a sample of each source. Once their set is full, the rate of all holds.
	chain from_inside {
		ip saddr @mailers4 goto from_mailer
		ip6 saddr @mailers6 goto from_mailer
		update @inside_rates4 { ip saddr limit rate over @INSIDE_SOURCE_RATE@ } goto unqueued_inside
		update @inside_rates6 { ip6 saddr limit rate over @INSIDE_SOURCE_RATE@ } goto unqueued_inside
		limit rate over @INSIDE_RATE@ goto unqueued_inside
		goto pending
	}
	chain from_mailer {
		limit rate over @MAILER_RATE@ goto unqueued_mailer
		goto pending
	}

	# 1d. Beyond these rates the kernel says what the packet policy says of plain packets.
	chain unqueued_stranger {
		jump only_plain
@TRANSLATED@		meta mark set meta mark & $FOREIGN | $DIVERT_EXTERNAL counter name unqueued accept
	}
	chain unqueued_internal {
		jump only_plain
		meta mark set meta mark & $FOREIGN | $DIVERT_INTERNAL counter name unqueued accept
	}
	chain unqueued_inside {
		jump only_plain
		ip saddr @internal4 ip daddr @internal4 goto let_pass
		ip6 saddr @internal6 ip6 daddr @internal6 goto let_pass
		ip daddr @internal4 counter name excess @DROP@
		ip6 daddr @internal6 counter name excess @DROP@
		@UNMANAGED_SENDER@
	}
	chain unqueued_mailer {
		jump only_plain
		ip saddr != @internal4 ip daddr @internal4 counter name excess @DROP@
		ip6 saddr != @internal6 ip6 daddr @internal6 counter name excess @DROP@
		goto let_pass
	}
	chain let_pass {
		meta mark set meta mark & $FOREIGN | $PASS counter name unqueued accept
	}
	chain only_plain {
		ip hdrlength != 5 counter name unplain @DROP@
		meta nfproto ipv6 ip6 nexthdr != tcp counter name unplain @DROP@
		ip saddr { 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } counter name unplain @DROP@
		ip6 saddr { ::, ::1, ::ffff:0.0.0.0/96, fe80::/10, ff00::/8 } counter name unplain @DROP@
		ip saddr @published4 counter name unplain @DROP@
		ip6 saddr @published6 counter name unplain @DROP@
		fib saddr type local counter name own_source @DROP@
	}

)";

// Where they are only counted they are strangers like any other.
constexpr std::string_view kTranslatedRefused =
    R"(		iifname @external_interfaces ip saddr @internal4 counter name unplain @DROP@
		iifname @external_interfaces ip6 saddr @internal6 counter name unplain @DROP@
)";
constexpr std::string_view kSenderRefused = "counter name excess_senders @DROP@";
constexpr std::string_view kSenderCounted =
    "meta mark set meta mark & $FOREIGN | $PASS counter name unqueued_senders accept";

constexpr std::string_view kQueueByNft =
    R"(	# 2. The packet policy judges them, and says so in the mark.
	chain judge {
		type filter hook prerouting priority mangle; policy accept;
		meta mark & $FIELD == { $PENDING_EXTERNAL, $PENDING_INTERNAL } queue @QUEUE@
	}

)";

constexpr std::string_view kQueueByXtables =
    R"(	# 2. The packet policy judges them, and says so in the mark: chain POSTERN of the mangle tables of
	#    iptables and ip6tables, because this kernel has no queue statement in nftables.

)";

constexpr std::string_view kDivert =
    R"(	# 3. Hands the packets of mailers' connections to the proxy's sockets; OWNED packets are routed to them.
	chain divert {
		type filter hook prerouting priority mangle + 2; policy accept;
		# A SYN asks tproxy first: it knows TIME_WAIT, where a client comes back with the same port.
		tcp dport 25 meta mark & $FIELD vmap {
			$PENDING_EXTERNAL : goto undecided,
			$PENDING_INTERNAL : goto undecided,
			$DIVERT_EXTERNAL : goto to_external_listener,
			$DIVERT_INTERNAL : goto to_internal_listener,
			$PASS : accept,
			$REJECT : goto refused }
		tcp dport 25 socket transparent 1 meta mark set meta mark & $FOREIGN | $OWNED accept
		tcp sport 25 socket transparent 1 meta mark set meta mark & $FOREIGN | $OWNED accept
@COOKIES@	}
	# The packet policy has counted it.
	chain refused {
		@REFUSE@
	}
	chain no_connection {
		ip daddr @reachable4 goto returned_cookie
		ip6 daddr @reachable6 goto returned_cookie
	}
	chain returned_cookie {
		iifname != @external_interfaces ip saddr @internal4 meta l4proto tcp tproxy ip to 127.0.0.1:@INTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name cookies accept
		iifname != @external_interfaces ip6 saddr @internal6 meta l4proto tcp tproxy ip6 to [::1]:@INTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name cookies accept
		meta l4proto tcp tproxy ip to 127.0.0.1:@EXTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name cookies accept
		meta l4proto tcp tproxy ip6 to [::1]:@EXTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name cookies accept
	}
	chain to_external_listener {
		meta l4proto tcp tproxy ip to 127.0.0.1:@EXTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name diverted_external accept
		meta l4proto tcp tproxy ip6 to [::1]:@EXTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name diverted_external accept
		goto undecided
	}
	chain to_internal_listener {
		meta l4proto tcp tproxy ip to 127.0.0.1:@INTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name diverted_internal accept
		meta l4proto tcp tproxy ip6 to [::1]:@INTERNAL_PORT@ meta mark set meta mark & $FOREIGN | $OWNED counter name diverted_internal accept
		goto undecided
	}
)";

// Not while it only observes: there are connections to mailers then that are none of the proxy's.
constexpr std::string_view kCookies =
    R"(		# A SYN cookie leaves no socket, only this ACK, which has to find its way to the listener.
		iifname != "lo" tcp dport 25 tcp flags & (fin | syn | rst | psh | ack) == ack jump no_connection
)";

constexpr std::string_view kUndecidedClosed =
    R"(	# Nobody is there to judge or to listen: on_failure = "closed".
	chain undecided {
		counter name fail_closed drop
	}

)";

constexpr std::string_view kUndecidedOpen =
    R"(	# Nobody is there to judge or to listen: on_failure = "open". Mailers only, and whoever is inside.
	chain undecided {
		iifname != @external_interfaces ip saddr @internal4 counter name failed_open accept
		iifname != @external_interfaces ip6 saddr @internal6 counter name failed_open accept
		ip daddr @mailers4 counter name failed_open accept
		ip6 daddr @mailers6 counter name failed_open accept
		counter name fail_closed drop
	}

)";

constexpr std::string_view kUndecidedObserve =
    R"(	# Nobody is there to judge or to listen: observe = true.
	chain undecided {
		counter name failed_open accept
	}

)";

constexpr std::string_view kGuardHead =
    R"(	# 4. Whatever is forwarded to port 25 from outside went past the proxy.
	chain guard {
		type filter hook forward priority filter; policy accept;
		iifname @external_interfaces tcp dport 25 jump past_proxy
	}
	chain past_proxy {
		meta mark & $FIELD == $PASS return
)";

// Only the first packet of a flow carries a mark, so which flow was let through is not known here.
constexpr std::string_view kGuardOpen =
    R"(		ip daddr @mailers4 return
		ip6 daddr @mailers6 return
)";

constexpr std::string_view kGuardTail = R"(		counter name leaked reject with tcp reset
	}

)";

// Of a flow that is let through only its first packet carries a mark, so only that one is counted.
constexpr std::string_view kGuardObserve =
    R"(	# 4. What is forwarded to port 25 from outside and was not judged is counted, and let through: observe = true.
	chain guard {
		type filter hook forward priority filter; policy accept;
		iifname @external_interfaces tcp dport 25 tcp flags & (fin | syn | rst | ack) == syn jump past_proxy
	}
	chain past_proxy {
		meta mark & $FIELD == $PASS return
		counter name leaked
	}

)";

constexpr std::string_view kTail =
    R"(	# 5. Diverted packets keep port 25. Replies of mailers may come to any port, so only SYNs are looked at.
	chain shield {
		type filter hook input priority filter; policy accept;
		tcp dport { @EXTERNAL_PORT@, @INTERNAL_PORT@ } tcp flags & (fin | syn | rst | ack) == syn counter name direct drop
@OWN_PORT@	}
}
)";

// The router's own mail server, if it has one, is none that strangers may talk to.
constexpr std::string_view kOwnPortClosed =
    R"(		iifname @external_interfaces tcp dport 25 meta mark & $FIELD != { $PASS, $OWNED } counter name leaked reject with tcp reset
)";

constexpr std::string_view kXtables = R"(*mangle
:POSTERN - [0:0]
-A POSTERN -m mark --mark @PENDING_EXTERNAL@/@FIELD@ -j NFQUEUE @QUEUE@
-A POSTERN -m mark --mark @PENDING_INTERNAL@/@FIELD@ -j NFQUEUE @QUEUE@
COMMIT
)";

void replace_all(std::string& text, std::string_view name, std::string_view value) {
  for (std::size_t at = text.find(name); at != std::string::npos;
       at = text.find(name, at + value.size())) {
    text.replace(at, name.size(), value);
  }
}

constexpr std::string_view kDigits = "0123456789abcdef";

std::string hex(std::uint32_t value) {
  std::string text = "0x00000000";
  for (auto digit = text.rbegin(); value != 0; ++digit, value >>= 4U) {
    *digit = kDigits[value & 0x0fU];
  }
  return text;
}

std::string last_queue(const Settings& settings) {
  return std::to_string(settings.queue_base + settings.queue_count - 1);
}

// With `bypass` a queue nobody listens on hands packets on as they are, still PENDING, and the chain
// `undecided` counts them, whatever it does with them. Without it the kernel drops them uncounted.
std::string queue_statement(const Settings& settings) {
  const bool several = settings.queue_count > 1;
  std::string text = several ? "flags bypass,fanout to " : "flags bypass to ";
  text += std::to_string(settings.queue_base);
  if (several) {
    text += "-" + last_queue(settings);
  }
  return text;
}

std::string xtables_queue_arguments(const Settings& settings) {
  std::string text = settings.queue_count > 1 ? "--queue-balance " : "--queue-num ";
  text += std::to_string(settings.queue_base);
  if (settings.queue_count > 1) {
    text += ":" + last_queue(settings);
  }
  return text + " --queue-bypass";
}

using Elements = std::vector<std::string>;

// Without those that lie within another one: the kernel takes no two ranges that overlap.
std::vector<rules::Prefix> outermost(std::vector<rules::Prefix> prefixes) {
  std::ranges::sort(prefixes);  // what contains another one comes before it
  std::vector<rules::Prefix> found;
  for (const rules::Prefix& prefix : prefixes) {
    if (found.empty() || !found.back().contains(prefix.address())) {
      found.push_back(prefix);
    }
  }
  return found;
}

std::string joined(const Elements& elements) {
  std::string text;
  for (const auto& element : elements) {
    text += (text.empty() ? "" : ", ") + element;
  }
  return text;
}

// nft takes no empty list of elements.
std::string elements_line(const Elements& elements) {
  return elements.empty() ? "" : "\t\telements = { " + joined(elements) + " }\n";
}

std::string change(std::string_view action, const std::string& set, const Elements& elements) {
  return elements.empty() ? ""
                          : std::string(action) + " element inet postern " + set + " { " +
                                joined(elements) + " }\n";
}

Elements without(const Elements& elements, const Elements& others) {
  Elements left;
  std::ranges::set_difference(elements, others, std::back_inserter(left));
  return left;
}

// What stays is not touched: while the kernel exchanges the elements of a set, packets may find neither
// the old nor the new ones (Linux 6.1), and nothing at all in a new set of ranges (later ones).
std::string changes(const std::optional<SetElements>& before, const SetElements& now) {
  std::string text;
  for (const auto& [set, elements] : now) {
    const Elements& old = before ? before->at(set) : Elements();
    text += before ? change("delete", set, without(old, elements))
                   : "flush set inet postern " + set + "\n";
    text += change("add", set, without(elements, old));
  }
  return text;
}

using Substitutions = std::vector<std::pair<std::string_view, std::string>>;

void fill_in(std::string& text, const Substitutions& substitutions) {
  for (const auto& [name, value] : substitutions) {
    replace_all(text, name, value);
  }
}

Substitutions mark_values(const Settings& settings) {
  const MarkField field(settings.mark_mask);
  return {{"@FIELD@", hex(field.mask())},
          {"@FOREIGN@", hex(field.foreign_bits())},
          {"@PENDING_EXTERNAL@", hex(field.value_of(Mark::pending_external))},
          {"@PENDING_INTERNAL@", hex(field.value_of(Mark::pending_internal))},
          {"@DIVERT_EXTERNAL@", hex(field.value_of(Mark::divert_external))},
          {"@DIVERT_INTERNAL@", hex(field.value_of(Mark::divert_internal))},
          {"@PASS@", hex(field.value_of(Mark::pass))},
          {"@REJECT@", hex(field.value_of(Mark::reject))},
          {"@OWNED@", hex(field.value_of(Mark::owned))}};
}

// Under Policy::observe the kernel refuses as little by itself as the packet policy does.
constexpr std::string_view kLetPass = "meta mark set meta mark & $FOREIGN | $PASS accept";

// In this order: what comes first may hold the names of what comes later.
Substitutions policy_values(const rules::Policy& policy) {
  const bool counts_translated = policy.translated_source == rules::Tolerance::count;
  const bool counts_senders = policy.unmanaged_sender == rules::Tolerance::count;
  return {{"@TRANSLATED@", std::string(counts_translated ? "" : kTranslatedRefused)},
          {"@UNMANAGED_SENDER@", std::string(counts_senders ? kSenderCounted : kSenderRefused)},
          {"@COOKIES@", std::string(policy.observe ? "" : kCookies)},
          {"@OWN_PORT@", std::string(policy.observe ? "" : kOwnPortClosed)},
          {"@DROP@", std::string(policy.observe ? kLetPass : "drop")},
          {"@REFUSE@", std::string(policy.observe ? kLetPass : "reject with tcp reset")},
          {"@PURPOSE@", std::string(policy.observe ? kPurposeOfObserving : kPurpose)}};
}

std::string rate_text(const Rate& rate) {
  return std::to_string(rate.packets) + (rate.per == Rate::Per::second ? "/second" : "/hour") +
         " burst " + std::to_string(rate.burst) + " packets";
}

Substitutions rate_values(const Rates& rates) {
  return {{"@STRANGER_RATE@", rate_text(rates.strangers)},
          {"@INSIDE_SOURCE_RATE@", rate_text(rates.of_one_inside)},
          {"@INSIDE_RATE@", rate_text(rates.inside)},
          {"@MAILER_RATE@", rate_text(rates.mailers)}};
}

Substitutions settings_values(const Settings& settings) {
  return {{"@QUEUE@", queue_statement(settings)},
          {"@EXTERNAL_PORT@", std::to_string(settings.proxy_ports[0])},
          {"@INTERNAL_PORT@", std::to_string(settings.proxy_ports[1])}};
}

// What becomes of flows that nobody judged, or that went past the proxy.
std::string undecided_and_guard(const rules::Policy& policy, const Settings& settings) {
  if (policy.observe) {
    return std::string(kUndecidedObserve) + std::string(kGuardObserve);
  }
  const bool open = settings.on_failure == OnFailure::open;
  std::string text(open ? kUndecidedOpen : kUndecidedClosed);
  text += kGuardHead;
  text += open ? kGuardOpen : "";
  text += kGuardTail;
  return text;
}

std::string table_text(std::string_view begin, const SetElements& elements,
                       const rules::Policy& policy, const Settings& settings, QueueForm form) {
  std::string text;
  text += kHead;
  text += kClassify;
  text += form == QueueForm::nft ? kQueueByNft : kQueueByXtables;
  text += kDivert;
  text += undecided_and_guard(policy, settings);
  text += kTail;
  fill_in(text, {{"@BEGIN@", std::string(begin)}});
  fill_in(text, policy_values(policy));
  fill_in(text, rate_values(settings.rates));
  fill_in(text, mark_values(settings));
  fill_in(text, settings_values(settings));
  for (const auto& [set, in_set] : elements) {
    replace_all(text, "@ELEMENTS_" + set + "@", elements_line(in_set));
  }
  return text;
}

// To add what is there changes nothing, to delete what is not there fails.
constexpr std::string_view kHoldAnew = R"(add element inet postern @SET@ { @SOURCE@ }
delete element inet postern @SET@ { @SOURCE@ }
add element inet postern @SET@ { @SOURCE@ timeout @SECONDS@s }
)";

struct SetNames {
  const char* v4;
  const char* v6;
};

SetNames names_of(HeldFor cause) {
  return cause == HeldFor::guessing ? SetNames{"barred4", "barred6"}
                                    : SetNames{"repeat_offenders4", "repeat_offenders6"};
}

}  // namespace

SetElements set_elements(const rules::Policy& policy) {
  SetElements sets;
  for (const char* name : {"external_interfaces", "internal4", "internal6", "mailers4", "mailers6",
                           "published4", "published6", "reachable4", "reachable6"}) {
    sets[name];
  }
  for (const auto& interface : policy.external_interfaces) {
    sets["external_interfaces"].push_back('"' + interface + '"');
  }
  for (const auto& prefix : outermost(policy.internal_networks.prefixes())) {
    sets[prefix.address().is_v4() ? "internal4" : "internal6"].push_back(prefix.to_string());
  }
  const auto add = [&](const std::string& name, const rules::IpAddress& address) {
    sets[name + (address.is_v4() ? "4" : "6")].push_back(address.to_string());
  };
  for (const auto& mailer : policy.mailers()) {
    for (const auto& address : mailer.addresses) {
      add("mailers", address);
      add("reachable", address);
    }
    for (const auto& address : mailer.published_as) {
      add("published", address);
      add("reachable", address);
    }
  }
  for (auto& [name, elements] : sets) {
    std::ranges::sort(elements);
    const auto doubles = std::ranges::unique(elements);
    elements.erase(doubles.begin(), doubles.end());
  }
  return sets;
}

std::string install_ruleset(const rules::Policy& policy, const Settings& settings, QueueForm form) {
  return table_text(kReplace, set_elements(policy), policy, settings, form);
}

std::string update_ruleset(const std::optional<SetElements>& before, const rules::Policy& policy,
                           const Settings& settings, QueueForm form) {
  SetElements elements = set_elements(policy);
  const std::string in_the_sets = changes(before, elements);
  for (auto& [set, in_set] : elements) {
    in_set.clear();
  }
  std::string text = table_text(kExchange, elements, policy, settings, form);
  replace_all(text, "@CHANGES@", in_the_sets);
  return text;
}

std::vector<std::string> hold_rulesets(std::span<const HeldSource> sources) {
  std::map<std::string, std::string> by_set;
  for (const HeldSource& held : sources) {
    const SetNames names = names_of(held.cause);
    const std::string set = held.source.is_v4() ? names.v4 : names.v6;
    const std::string source = rules::stranger_of(held.source).to_string();
    std::string lines(kHoldAnew);
    fill_in(lines, {{"@SET@", set},
                    {"@SOURCE@", source},
                    {"@SECONDS@", std::to_string(held.duration.count())}});
    by_set[set] += lines;
  }
  std::vector<std::string> texts;
  texts.reserve(by_set.size());
  for (auto& [set, text] : by_set) {
    texts.push_back(std::move(text));
  }
  return texts;
}

std::string remove_ruleset() {
  return "add table inet postern\ndelete table inet postern\n";
}

std::string probe_ruleset(std::string_view table) {
  return "table inet " + std::string(table) +
         " {\n\tchain judge {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n"
         "\t\tmeta mark 0xffffffff queue flags bypass,fanout to 65534-65535\n\t}\n}\n";
}

std::string xtables_queue_ruleset(const Settings& settings) {
  std::string text(kXtables);
  fill_in(text, mark_values(settings));
  fill_in(text, {{"@QUEUE@", xtables_queue_arguments(settings)}});
  return text;
}

}  // namespace postern::nfq
