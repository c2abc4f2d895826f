#include "nfq/core/ruleset.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "nfq/core/mark.hpp"

namespace postern::nfq {
namespace {

// How many new connections to hosts that are no mailers are still shown to the packet policy, for
// the log and the reset. Beyond it the kernel drops them by itself.
constexpr std::string_view kFloodLimit = "100/second burst 200 packets";

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

# Replaces the table that a crash may have left, in one transaction.
add table inet postern
delete table inet postern

table inet postern {
	set external_interfaces {
		type ifname
		flags interval
		auto-merge
@EXTERNAL_INTERFACES@	}
	set mailers4 {
		type ipv4_addr
@MAILERS4@	}
	set mailers6 {
		type ipv6_addr
@MAILERS6@	}

	counter queued { }            # new flows shown to the packet policy
	counter flooded { }           # too many new flows to hosts that are no mailers, so not judged
	counter fail_closed { }       # dropped: nobody judged them
	counter failed_open { }       # let through though nobody judged them
	counter diverted_external { } # handed to the proxy
	counter diverted_internal { } # handed to the proxy
	counter rejected { }          # answered with a reset because the packet policy says so
	counter leaked { }            # for port 25 from outside, past the proxy and the packet policy
	counter direct { }            # dropped: for the proxy's own ports

)";

constexpr std::string_view kClassify =
    R"(	# 1. Marks the first packet of each flow to port 25 with the side it comes from.
	chain classify {
		type filter hook prerouting priority mangle - 2; policy accept;
		tcp dport 25 tcp flags & (fin | syn | rst | ack) == syn jump new_flow
	}
	chain new_flow {
		# The router's own packets, and those for the router, would come round again for ever.
		iifname "lo" return
		fib daddr type local return
		iifname != @external_interfaces meta mark set meta mark & $FOREIGN | $PENDING_INTERNAL counter name queued return
		ip daddr @mailers4 goto new_external_flow
		ip6 daddr @mailers6 goto new_external_flow
		limit rate over @FLOOD_LIMIT@ counter name flooded @FLOODED@
		goto new_external_flow
	}
	chain new_external_flow {
		meta mark set meta mark & $FOREIGN | $PENDING_EXTERNAL counter name queued
	}

)";

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
			$REJECT : accept }
		tcp dport 25 socket transparent 1 meta mark set meta mark & $FOREIGN | $OWNED
		tcp sport 25 socket transparent 1 meta mark set meta mark & $FOREIGN | $OWNED
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

constexpr std::string_view kUndecidedClosed =
    R"(	# Nobody is there to judge or to listen: on_failure = "closed".
	chain undecided {
		counter name fail_closed drop
	}

)";

constexpr std::string_view kUndecidedOpen =
    R"(	# Nobody is there to judge or to listen: on_failure = "open". Mailers only, and whoever is inside.
	chain undecided {
		iifname != @external_interfaces counter name failed_open accept
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
		meta l4proto tcp meta mark & $FIELD == $REJECT counter name rejected reject with tcp reset
		iifname @external_interfaces tcp dport 25 jump from_outside
	}
	chain from_outside {
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
		iifname @external_interfaces tcp dport 25 tcp flags & (fin | syn | rst | ack) == syn jump from_outside
	}
	chain from_outside {
		meta mark & $FIELD == $PASS return
		counter name leaked
	}

)";

constexpr std::string_view kTail =
    R"(	# 5. Diverted packets keep port 25. Replies of mailers may come to any port, so only SYNs are looked at.
	chain shield {
		type filter hook input priority filter; policy accept;
		tcp dport { @EXTERNAL_PORT@, @INTERNAL_PORT@ } tcp flags & (fin | syn | rst | ack) == syn counter name direct drop
	}
}
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

// The program stops listening when it dies. Without `bypass` the kernel then drops, which is what
// failing closed means.
bool bypasses(const rules::Policy& policy, const Settings& settings) {
  return policy.observe || settings.on_failure == OnFailure::open;
}

std::string queue_statement(const rules::Policy& policy, const Settings& settings) {
  const bool several = settings.queue_count > 1;
  const bool open = bypasses(policy, settings);
  std::string text = open && several ? "flags bypass,fanout to "
                     : open          ? "flags bypass to "
                     : several       ? "flags fanout to "
                                     : "to ";
  text += std::to_string(settings.queue_base);
  if (several) {
    text += "-" + last_queue(settings);
  }
  return text;
}

std::string xtables_queue_arguments(const rules::Policy& policy, const Settings& settings) {
  std::string text = settings.queue_count > 1 ? "--queue-balance " : "--queue-num ";
  text += std::to_string(settings.queue_base);
  if (settings.queue_count > 1) {
    text += ":" + last_queue(settings);
  }
  if (bypasses(policy, settings)) {
    text += " --queue-bypass";
  }
  return text;
}

struct SetElements {
  std::vector<std::string> external_interfaces;
  std::vector<std::string> mailers4;
  std::vector<std::string> mailers6;
};

void sort_and_unite(std::vector<std::string>& elements) {
  std::ranges::sort(elements);
  const auto doubles = std::ranges::unique(elements);
  elements.erase(doubles.begin(), doubles.end());
}

SetElements elements_of(const rules::Policy& policy) {
  SetElements sets;
  for (const auto& interface : policy.external_interfaces) {
    sets.external_interfaces.push_back('"' + interface + '"');
  }
  for (const auto& mailer : policy.mailers()) {
    for (const auto& address : mailer.addresses) {
      (address.is_v4() ? sets.mailers4 : sets.mailers6).push_back(address.to_string());
    }
  }
  sort_and_unite(sets.external_interfaces);
  sort_and_unite(sets.mailers4);
  sort_and_unite(sets.mailers6);
  return sets;
}

std::string joined(const std::vector<std::string>& elements) {
  std::string text;
  for (const auto& element : elements) {
    text += (text.empty() ? "" : ", ") + element;
  }
  return text;
}

// nft takes no empty list of elements.
std::string elements_line(const std::vector<std::string>& elements) {
  return elements.empty() ? "" : "\t\telements = { " + joined(elements) + " }\n";
}

std::string refill(std::string_view set, const std::vector<std::string>& elements) {
  const std::string name = "inet postern " + std::string(set);
  return "flush set " + name + "\n" +
         (elements.empty() ? "" : "add element " + name + " { " + joined(elements) + " }\n");
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

Substitutions table_values(const rules::Policy& policy, const Settings& settings) {
  const SetElements sets = elements_of(policy);
  return {{"@FLOOD_LIMIT@", std::string(kFloodLimit)},
          {"@FLOODED@", policy.observe ? "accept" : "drop"},
          {"@PURPOSE@", std::string(policy.observe ? kPurposeOfObserving : kPurpose)},
          {"@QUEUE@", queue_statement(policy, settings)},
          {"@EXTERNAL_PORT@", std::to_string(settings.proxy_ports[0])},
          {"@INTERNAL_PORT@", std::to_string(settings.proxy_ports[1])},
          {"@MAILERS4@", elements_line(sets.mailers4)},
          {"@MAILERS6@", elements_line(sets.mailers6)},
          {"@EXTERNAL_INTERFACES@", elements_line(sets.external_interfaces)}};
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

}  // namespace

std::string install_ruleset(const rules::Policy& policy, const Settings& settings, QueueForm form) {
  std::string text;
  text += kHead;
  text += kClassify;
  text += form == QueueForm::nft ? kQueueByNft : kQueueByXtables;
  text += kDivert;
  text += undecided_and_guard(policy, settings);
  text += kTail;
  fill_in(text, mark_values(settings));
  fill_in(text, table_values(policy, settings));
  return text;
}

std::string update_ruleset(const rules::Policy& policy) {
  const SetElements sets = elements_of(policy);
  return refill("external_interfaces", sets.external_interfaces) +
         refill("mailers4", sets.mailers4) + refill("mailers6", sets.mailers6);
}

std::string remove_ruleset() {
  return "add table inet postern\ndelete table inet postern\n";
}

std::string probe_ruleset(std::string_view table) {
  return "table inet " + std::string(table) +
         " {\n\tchain judge {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n"
         "\t\tmeta mark 0xffffffff queue flags bypass,fanout to 65534-65535\n\t}\n}\n";
}

std::string xtables_queue_ruleset(const rules::Policy& policy, const Settings& settings) {
  std::string text(kXtables);
  fill_in(text, mark_values(settings));
  fill_in(text, {{"@QUEUE@", xtables_queue_arguments(policy, settings)}});
  return text;
}

}  // namespace postern::nfq
