// The rules themselves, chain by chain: what `nft -f` and `iptables-restore` read, with names in @...@
// for what ruleset.cpp fills in.
#pragma once

#include <string_view>

namespace postern::nfq::ruleset_text {

inline constexpr std::string_view kPurpose =
    "Postern: nothing but judged flows reaches TCP port 25.";
inline constexpr std::string_view kPurposeOfObserving =
    "Postern, observing: flows to TCP port 25 are judged and counted, and nothing is refused.";

inline constexpr std::string_view kHead = R"(# @PURPOSE@

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
	# And of these, what was let through all the same.
	counter observed { }          # observe = true
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
inline constexpr std::string_view kReplace =
    R"(# Replaces the table that a crash may have left, in one transaction.
add table inet postern
delete table inet postern
)";

inline constexpr std::string_view kExchange =
    R"(# Exchanges the rules of the table that is there, and what its sets hold, in one transaction.
flush table inet postern
@CHANGES@)";

inline constexpr std::string_view kClassify =
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
inline constexpr std::string_view kTranslatedRefused =
    R"(		iifname @external_interfaces ip saddr @internal4 counter name unplain @DROP@
		iifname @external_interfaces ip6 saddr @internal6 counter name unplain @DROP@
)";
inline constexpr std::string_view kSenderRefused = "counter name excess_senders @DROP@";
inline constexpr std::string_view kSenderCounted =
    "meta mark set meta mark & $FOREIGN | $PASS counter name unqueued_senders accept";

inline constexpr std::string_view kQueueByNft =
    R"(	# 2. The packet policy judges them, and says so in the mark.
	chain judge {
		type filter hook prerouting priority mangle; policy accept;
		meta mark & $FIELD == { $PENDING_EXTERNAL, $PENDING_INTERNAL } queue @QUEUE@
	}

)";

inline constexpr std::string_view kQueueByXtables =
    R"(	# 2. The packet policy judges them, and says so in the mark: chain POSTERN of the mangle tables of
	#    iptables and ip6tables, because this kernel has no queue statement in nftables.

)";

inline constexpr std::string_view kDivert =
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
inline constexpr std::string_view kCookies =
    R"(		# A SYN cookie leaves no socket, only this ACK, which has to find its way to the listener.
		iifname != "lo" tcp dport 25 tcp flags & (fin | syn | rst | psh | ack) == ack jump no_connection
)";

inline constexpr std::string_view kUndecidedClosed =
    R"(	# Nobody is there to judge or to listen: on_failure = "closed".
	chain undecided {
		counter name fail_closed drop
	}

)";

inline constexpr std::string_view kUndecidedOpen =
    R"(	# Nobody is there to judge or to listen: on_failure = "open". Mailers only, and whoever is inside.
	chain undecided {
		iifname != @external_interfaces ip saddr @internal4 counter name failed_open accept
		iifname != @external_interfaces ip6 saddr @internal6 counter name failed_open accept
		ip daddr @mailers4 counter name failed_open accept
		ip6 daddr @mailers6 counter name failed_open accept
		counter name fail_closed drop
	}

)";

inline constexpr std::string_view kUndecidedObserve =
    R"(	# Nobody is there to judge or to listen: observe = true.
	chain undecided {
		counter name failed_open accept
	}

)";

inline constexpr std::string_view kGuardHead =
    R"(	# 4. Whatever is forwarded to port 25 from outside went past the proxy.
	chain guard {
		type filter hook forward priority filter; policy accept;
		iifname @external_interfaces tcp dport 25 jump past_proxy
	}
	chain past_proxy {
		meta mark & $FIELD == $PASS return
)";

// Only the first packet of a flow carries a mark, so which flow was let through is not known here.
inline constexpr std::string_view kGuardOpen =
    R"(		ip daddr @mailers4 return
		ip6 daddr @mailers6 return
)";

inline constexpr std::string_view kGuardTail =
    R"(		counter name leaked reject with tcp reset
	}

)";

// Of a flow that is let through only its first packet carries a mark, so only that one is counted.
inline constexpr std::string_view kGuardObserve =
    R"(	# 4. What is forwarded to port 25 from outside and was not judged is counted, and let through: observe = true.
	chain guard {
		type filter hook forward priority filter; policy accept;
		iifname @external_interfaces tcp dport 25 tcp flags & (fin | syn | rst | ack) == syn jump past_proxy
	}
	chain past_proxy {
		meta mark & $FIELD == $PASS return
		counter name leaked counter name observed
	}

)";

inline constexpr std::string_view kTail =
    R"(	# 5. Diverted packets keep port 25. Replies of mailers may come to any port, so only SYNs are looked at.
	chain shield {
		type filter hook input priority filter; policy accept;
		tcp dport { @EXTERNAL_PORT@, @INTERNAL_PORT@ } tcp flags & (fin | syn | rst | ack) == syn counter name direct drop
@OWN_PORT@	}
}
)";

// The router's own mail server, if it has one, is none that strangers may talk to.
inline constexpr std::string_view kOwnPortClosed =
    R"(		iifname @external_interfaces tcp dport 25 meta mark & $FIELD != { $PASS, $OWNED } counter name leaked reject with tcp reset
)";

inline constexpr std::string_view kXtables = R"(*mangle
:POSTERN - [0:0]
-A POSTERN -m mark --mark @PENDING_EXTERNAL@/@FIELD@ -j NFQUEUE @QUEUE@
-A POSTERN -m mark --mark @PENDING_INTERNAL@/@FIELD@ -j NFQUEUE @QUEUE@
COMMIT
)";

}  // namespace postern::nfq::ruleset_text
