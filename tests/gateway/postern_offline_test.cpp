// The commands of `postern` that need no daemon, run as the program that is installed.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/gateway/configurations.hpp"
#include "tests/gateway/postern_fixture.hpp"
#include "tests/gateway/program.hpp"

namespace postern::gateway {
namespace {

using tests::Finished;

const std::string kObserve = "[gateway]\nobserve = true\n";

TEST_F(Postern, CheckTellsThePolicyInPlainWords) {
  const Finished check = postern({"check", config_});
  EXPECT_EQ(check.code, 0);
  EXPECT_EQ(check.err, "");
  EXPECT_EQ(check.out, config_ + R"( is valid.

Who is internal
  A client that comes in on any interface but wan0, wan1, with an address in
    203.0.113.0/24
    2001:db8:2::/48
    10.1.0.0/16      private (RFC 1918), trusted because it is listed
  Everybody else is a stranger, whatever address or sender is claimed.

What stands behind this router
  mailer  addresses                     strangers may write to
  mx1     203.0.113.25, 2001:db8:2::25  example.org, *.example.org (2 domains)
  backup  203.0.113.26                  a.example, b.example, c.example, d.example, e.example, ... (6 domains)

TLS and AUTH
  mailer  clients' STARTTLS  to the mailer      AUTH of strangers
  mx1     hidden: in clear   TLS where offered  refused
  backup  hidden: in clear   TLS where offered  refused

What happens to everything else
  - A stranger's recipient in any other domain: refused with 550 5.7.1 before the mailer hears of it.
  - A stranger's connection to port 25 of any other host: refused with a reset.
  - An internal address that arrives on an external interface: refused with a reset.
  - An internal host that is no mailer, to port 25 outside: let through and counted.
  - An internal client's mail, through a mailer or to one: forwarded to any recipient, under any sender.
  - Where posternd died, until it is started again: no new connection to any port 25 crosses this router.

What is given up
  - STARTTLS is hidden: between clients and this router mail crosses in clear text.
  - AUTH is hidden from strangers: users outside send through the submission ports 587 and 465, which are left alone.
)");
}

TEST_F(Postern, CheckTellsWhatALaxConfigurationGivesUp) {
  const std::string lax = folder_.write("lax.toml", R"([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
allow_routing_characters = true
allow_address_literals = true
[inbound]
unmanaged_destination = "drop"
translated_source = "count"
[outbound]
unmanaged_sender = "drop"
require_local_sender = true
[gateway]
on_failure = "open"
)");
  const Finished check = postern({"check", lax});
  EXPECT_EQ(check.code, 0);
  EXPECT_EQ(
      check.out,
      lax + R"( is valid.

Who is internal
  A client that comes in on any interface but wan0, with an address in
    203.0.113.0/24
  Everybody else is a stranger, whatever address or sender is claimed.

What stands behind this router
  mailer  addresses     strangers may write to
  mx1     203.0.113.25  nobody

TLS and AUTH
  mailer  clients' STARTTLS  to the mailer      AUTH of strangers
  mx1     hidden: in clear   TLS where offered  refused

What happens to everything else
  - A stranger's recipient in any other domain: refused with 550 5.7.1 before the mailer hears of it.
  - A stranger's connection to port 25 of any other host: dropped without an answer.
  - An internal address that arrives on an external interface: let through and counted, as a stranger's.
  - An internal host that is no mailer, to port 25 outside: dropped without an answer.
  - An internal client's mail to the world: only under a sender of a local domain.
  - Where posternd died, until it is started again: new connections from outside reach the mailers, and only them, unchecked; those of internal hosts pass.

What is given up
  - STARTTLS is hidden: between clients and this router mail crosses in clear text.
  - AUTH is hidden from strangers: users outside send through the submission ports 587 and 465, which are left alone.
  - mx1 takes '%' and '!' from strangers: make sure that it does not reroute by them.
  - mx1 takes recipients at its own address in brackets from strangers.
  - on_failure = "open": where posternd died, the mailers' own relay rules are the only ones.

Warnings
)" + lax +
          R"(:4:1: warning: mailer[0]: has no domains, so strangers can write to nobody here; name them in `domains` or in a `domains_file`
)");
}

TEST_F(Postern, CheckSaysLoudlyThatNothingIsRefused) {
  const std::string file = folder_.write("observing.toml", kLeast + kObserve);
  const Finished check = postern({"check", file});
  EXPECT_EQ(check.code, 0);
  EXPECT_TRUE(check.out.starts_with(file + R"( is valid.

NOTHING IS REFUSED
  observe = true: what follows is judged, counted and logged, and let through all the same.

Who is internal
)")) << check.out;
  for (const char* line :
       {"  - Where posternd died, until it is started again: everything passes, as with observe = "
        "true while it runs.\n",
        "\nTLS and AUTH\n  - STARTTLS and AUTH are shown as the mailers offer them: a session "
        "that uses STARTTLS is passed on unread from there.\n",
        "warning: gateway.observe: NOTHING IS REFUSED: "}) {
    EXPECT_TRUE(check.out.contains(line)) << line << "is not in\n" << check.out;
  }
  EXPECT_FALSE(check.out.contains("is hidden")) << check.out;
}

TEST_F(Postern, CheckTellsEveryError) {
  const std::string wrong = folder_.write("wrong.toml", "[network]\n[log]\nlevle = 1\n");
  const Finished check = postern({"check", wrong});
  EXPECT_EQ(check.code, 1);
  EXPECT_EQ(check.out, "");
  EXPECT_EQ(
      check.err,
      wrong +
          ": error: mailer: missing; expected at least one [[mailer]] section; nothing behind this "
          "router could receive mail without one\n" +
          wrong +
          ":1:1: error: network.external_interfaces: missing; expected a list of interface names, "
          "such as [\"wan0\"]; name every interface that leads to the Internet; `ip link` lists "
          "them\n" +
          wrong +
          ":1:1: error: network.internal_networks: missing; expected a list of networks, such as "
          "[\"203.0.113.0/24\", \"2001:db8:2::/48\"]; name every network that lies behind this "
          "router\n" +
          wrong + ":3:1: error: log.levle: unknown key; did you mean \"level\"?\n" + wrong +
          " is not valid: 4 errors.\n");
}

TEST_F(Postern, CheckAndExplainSayWhatAMailerIsPublishedAs) {
  const std::string published = folder_.write("published.toml", R"([network]
external_interfaces = ["wan0"]
internal_networks = ["192.168.1.0/24"]
[[mailer]]
name = "mx1"
addresses = ["192.168.1.25"]
published_as = ["198.51.100.1"]
domains = ["example.org"]
)");
  const Finished check = postern({"check", published});
  EXPECT_EQ(check.code, 0) << check.err;
  EXPECT_TRUE(check.out.contains(R"(
  mailer  addresses                                strangers may write to
  mx1     192.168.1.25, published as 198.51.100.1  example.org (1 domain)
)")) << check.out;
  EXPECT_TRUE(
      check.out.contains("mailer[0].published_as: 198.51.100.1 is no address of this "
                         "router now"))
      << check.out;
  const std::vector<std::string> question{"explain", "--config",     published,
                                          "--from",  "198.51.100.2", "--interface",
                                          "wan0",    "--to",         "198.51.100.1"};
  const Finished words = postern(question);
  EXPECT_EQ(words.code, 0) << words.err;
  EXPECT_TRUE(
      words.out.contains("198.51.100.1 port 25, mailer mx1 is published as it: on to "
                         "192.168.1.25\n"))
      << words.out;
  std::vector<std::string> in_json = question;
  in_json.emplace_back("--json");
  const Finished json = postern(in_json);
  EXPECT_TRUE(json.out.contains(R"("mailer":"mx1","upstream":"192.168.1.25")")) << json.out;
}

TEST_F(Postern, CheckOfHundredsStaysOneScreen) {
  std::string toml = "[network]\nexternal_interfaces = [";
  for (int i = 0; i < 200; ++i) {
    toml += "\"wan" + std::to_string(i) + "\", ";
  }
  toml += "]\ninternal_networks = [\"203.0.113.0/24\", ";
  for (int i = 0; i < 499; ++i) {
    toml += "\"10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".0/24\", ";
  }
  toml += "]\n";
  for (int i = 0; i < 300; ++i) {
    toml += "[[mailer]]\nname = \"mx" + std::to_string(i) + "\"\naddresses = [\"10.0." +
            std::to_string(i / 200) + "." + std::to_string(i % 200) +
            "\"]\ndomains = [\"example.org\"]\nallow_routing_characters = true\n";
  }
  const Finished check = postern({"check", folder_.write("many.toml", toml)});
  EXPECT_EQ(check.code, 0) << check.err;
  for (const char* line :
       {"on any interface but wan0, wan1, wan2, wan3, wan4 and 195 more, with an address in\n",
        "  and 480 more networks\n", "  and 280 more mailers\n",
        "  mx0, mx1, mx2, mx3, mx4 and 295 more  hidden: in clear",
        "  - mx0, mx1, mx2, mx3, mx4 and 295 more take '%' and '!' from strangers: make sure that "
        "they do not reroute by them.\n"}) {
    EXPECT_TRUE(check.out.contains(line)) << "expected: " << line << "\ngot: " << check.out;
  }
  EXPECT_LT(std::ranges::count(check.out, '\n'), 80) << check.out;
}

TEST_F(Postern, CheckAnswersInJson) {
  const std::string wrong = folder_.write("wrong.toml", "[x\n");
  const Finished check = postern({"check", "--json", wrong});
  EXPECT_EQ(check.code, 1);
  EXPECT_EQ(check.out, "{\"file\":\"" + wrong +
                           "\",\"valid\":false,\"diagnostics\":[{\"severity\":\"error\",\"file\":"
                           "\"" +
                           wrong +
                           "\",\"line\":1,\"column\":3,\"key\":\"\",\"message\":\"Error while "
                           "parsing table header: expected ']', saw '\\\\n'; what follows was not "
                           "read; correct this first\"}]}\n");
  EXPECT_EQ(postern({"check", "--json", config_}).out,
            "{\"file\":\"" + config_ + "\",\"valid\":true,\"diagnostics\":[]}\n");
}

TEST_F(Postern, CheckRefusesTheRoutersOwnAddressAsAMailers) {
  const Finished check = tests::run({.program = POSTERN_PROGRAM,
                                     .arguments = {"check", config_},
                                     .local_address = "203.0.113.26"});
  EXPECT_EQ(check.code, 1);
  EXPECT_EQ(check.err, config_ +
                           ":10:14: error: mailer[1].addresses: found 203.0.113.26, which is this "
                           "router's own address; expected the mail server's, or the proxy would "
                           "connect to itself; write that here, and the router's in "
                           "`published_as` if it stands for this mailer\n" +
                           config_ + " is not valid: 1 error.\n");
}

TEST_F(Postern, ExplainAllowsAStrangersMailToALocalDomain) {
  const Finished answer = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                   "203.0.113.25", "--recipient", "someone@a.b.example.org"});
  EXPECT_EQ(answer.code, 0);
  EXPECT_EQ(answer.err, "");
  EXPECT_EQ(answer.out, R"(  client     198.51.100.2, in on wan0, an external interface
  server     203.0.113.25 port 25, mailer mx1
  direction  inbound
  verdict    taken over by the proxy, as a stranger's
  rule       mailer.destination: the destination is a managed mailer
  recipient  <someone@a.b.example.org>
  decision   forwarded to mx1
  because    strangers may write to it at mx1
allowed
)");
}

TEST_F(Postern, ExplainRefusesAStrangersRelay) {
  const Finished answer =
      explain({"--from", "2001:db8:1::2", "--interface", "wan1", "--to", "2001:db8:2::25",
               "--recipient", "<someone@far.example>", "--authenticated"});
  EXPECT_EQ(answer.code, 1);
  EXPECT_EQ(answer.out, R"(  client     2001:db8:1::2, in on wan1, an external interface
  server     2001:db8:2::25 port 25, mailer mx1
  direction  inbound
  verdict    taken over by the proxy, as a stranger's
  rule       mailer.destination: the destination is a managed mailer
  recipient  <someone@far.example>
  decision   refused with 550 5.7.1 (relay_denied)
  because    the domain is none of those that strangers may write to at mx1, and authenticated_relay is off
refused
)");
}

TEST_F(Postern, ExplainAllowsAnInternalClientsMailToTheWorld) {
  const Finished answer = explain({"--from", "203.0.113.7", "--interface", "lan0", "--to",
                                   "203.0.113.25", "--recipient", "someone@far.example"});
  EXPECT_EQ(answer.code, 0);
  EXPECT_EQ(answer.out, R"(  client     203.0.113.7, in on lan0, not an external interface
  server     203.0.113.25 port 25, mailer mx1
  direction  internal
  verdict    taken over by the proxy, as an internal client's
  rule       mailer.destination: the destination is a managed mailer
  recipient  <someone@far.example>
  decision   forwarded to mx1
  because    internal clients may write to anybody
allowed
)");
}

TEST_F(Postern, ExplainRefusesAnUnmanagedDestination) {
  const Finished answer = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                   "203.0.113.99", "--recipient", "a@example.org"});
  EXPECT_EQ(answer.code, 1);
  EXPECT_EQ(answer.out, R"(  client     198.51.100.2, in on wan0, an external interface
  server     203.0.113.99 port 25
  direction  inbound
  verdict    refused with a reset (unmanaged_destination)
  rule       inbound.unmanaged_destination: the destination is no managed mailer, and only those may be reached from outside
  recipient  a@example.org
             never asked: there is no connection
refused
)");
}

TEST_F(Postern, ExplainSaysWhatIsDecidedAndThatItIsOnlyObserved) {
  config_ = folder_.write("observing.toml", kLeast + kObserve);
  const Finished relay = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                  "203.0.113.25", "--recipient", "someone@far.example"});
  EXPECT_EQ(relay.code, 0);
  EXPECT_EQ(relay.out, R"(  client     198.51.100.2, in on wan0, an external interface
  server     203.0.113.25 port 25, mailer mx1
  direction  inbound
  verdict    taken over by the proxy, as a stranger's
  rule       mailer.destination: the destination is a managed mailer
  recipient  <someone@far.example>
  decision   refused with 550 5.7.1 (relay_denied)
  because    the domain is none of those that strangers may write to at mx1
would be refused, but is let through: observe = true
)");
  const std::vector<std::string> to_unmanaged = {"--from", "198.51.100.2", "--interface",
                                                 "wan0",   "--to",         "203.0.113.99"};
  const Finished unmanaged = explain(to_unmanaged);
  EXPECT_EQ(unmanaged.code, 0);
  EXPECT_TRUE(unmanaged.out.contains("  verdict    refused with a reset (unmanaged_destination)\n"))
      << unmanaged.out;
  EXPECT_TRUE(unmanaged.out.ends_with("\nwould be refused, but is let through: observe = true\n"))
      << unmanaged.out;
  auto in_json = to_unmanaged;
  in_json.emplace_back("--json");
  EXPECT_TRUE(explain(in_json).out.starts_with(
      R"({"allowed":true,"observed":true,"verdict":"observe","instead_of":"reject",)"))
      << explain(in_json).out;
  const Finished fine = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                 "203.0.113.25", "--recipient", "someone@example.org"});
  EXPECT_TRUE(fine.out.ends_with("\nallowed\n")) << fine.out;
}

TEST_F(Postern, ExplainSaysThatOutboundMailIsOnlyCounted) {
  const Finished answer = explain({"--from", "203.0.113.99", "--interface", "lan0", "--to",
                                   "198.51.100.2", "--recipient", "a@example.org"});
  EXPECT_EQ(answer.code, 0);
  EXPECT_EQ(answer.out, R"(  client     203.0.113.99, in on lan0, not an external interface
  server     198.51.100.2 port 25
  direction  outbound
  verdict    forwarded as it is (unmanaged_sender)
  rule       outbound.unmanaged_sender: an internal host that is no managed mailer, to port 25 outside
  recipient  a@example.org
             not looked at: this connection does not go through the proxy
allowed
)");
}

// Every rule that the policy names must be known in words too.
TEST_F(Postern, ExplainHasWordsForEveryRule) {
  struct Flow {
    const char* from;
    const char* interface;
    const char* to;
    const char* rule;
  };
  constexpr Flow kFlows[] = {
      {"203.0.113.7", "wan0", "203.0.113.25", "inbound.translated_source"},
      {"203.0.113.25", "lan0", "198.51.100.2", "mailer.source"},
      {"203.0.113.7", "lan0", "203.0.113.8", "internal_networks"},
      {"203.0.113.7", "lan0", "198.51.100.2", "outbound.unmanaged_sender"},
      {"198.51.100.2", "wan0", "203.0.113.8", "inbound.unmanaged_destination"},
      {"198.51.100.2", "wan0", "203.0.113.25", "mailer.destination"},
  };
  for (const Flow& flow : kFlows) {
    const std::string out =
        explain({"--from", flow.from, "--interface", flow.interface, "--to", flow.to}).out;
    EXPECT_NE(out.find(std::string("rule       ") + flow.rule + ": "), std::string::npos) << out;
    EXPECT_EQ(out.find("a rule of its own"), std::string::npos) << out;
  }
}

TEST_F(Postern, ExplainNamesTheReasonOfARefusedForm) {
  struct Form {
    const char* recipient;
    const char* decision;
  };
  constexpr Form kForms[] = {
      {"a%b@example.org", "refused with 550 5.7.1 (routing_character)"},
      {"<@x.example:a@example.org>", "refused with 550 5.7.1 (source_route)"},
      {"\"a@b\"@example.org", "refused with 550 5.7.1 (quoted_at_sign)"},
      {"a@[203.0.113.25]", "refused with 550 5.7.1 (address_literal)"},
      {"somebody", "refused with 550 5.7.1 (domainless_recipient)"},
      {"a@@b", "refused with 501 5.1.3 (malformed_address)"},
      {"a@example.org b", "refused with 501 5.1.3 (malformed_address)"},
  };
  for (const Form& form : kForms) {
    const Finished answer = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                     "203.0.113.25", "--recipient", form.recipient});
    EXPECT_EQ(answer.code, 1) << form.recipient;
    EXPECT_NE(answer.out.find(form.decision), std::string::npos) << answer.out;
  }
}

TEST_F(Postern, ExplainAnswersInJson) {
  const Finished answer = explain({"--from", "198.51.100.2", "--interface", "wan0", "--to",
                                   "203.0.113.25", "--recipient", "a@far.example", "--json"});
  EXPECT_EQ(answer.code, 1);
  EXPECT_EQ(
      answer.out,
      R"({"allowed":false,"observed":false,"verdict":"divert_external","instead_of":null,)"
      R"("direction":"inbound","reason":"none",)"
      R"("rule":"mailer.destination","mailer":"mx1","upstream":"203.0.113.25","recipient":{"path":"<a@far.example>",)"
      R"("forward":false,"class":"foreign","reason":"relay_denied","because":"the domain is )"
      R"(none of those that strangers may write to at mx1"},"note":""})"
      "\n");
}

TEST_F(Postern, ExplainKeepsControlCharactersFromTheTerminal) {
  const Finished answer = explain({"--from", "198.51.100.2", "--interface", "w\x1b[2J", "--to",
                                   "203.0.113.25", "--recipient", "\x1b]0;x\x07@example.org"});
  EXPECT_EQ(answer.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(answer.out.find('\x07'), std::string::npos);
}

TEST_F(Postern, RulesetIsWhatNftReadsWithTheRestInComments) {
  const Finished ruleset = postern({"ruleset", "--config", config_});
  EXPECT_EQ(ruleset.code, 0);
  EXPECT_EQ(ruleset.err, "");
  EXPECT_NE(ruleset.out.find("table inet postern {"), std::string::npos);
  EXPECT_NE(ruleset.out.find("elements = { 203.0.113.25, 203.0.113.26 }"), std::string::npos);
  const std::string comments = R"(
# Policy routing, which posternd sets too: packets marked OWNED reach its sockets.
#   ip -4 rule add fwmark 0x07000000/0xff000000 lookup 2525
#   ip -4 route add local default dev lo table 2525
#   ip -6 rule add fwmark 0x07000000/0xff000000 lookup 2525
#   ip -6 route add local default dev lo table 2525

# Where the kernel has no queue statement in nftables, chain `judge` is replaced by this, for iptables-restore
# and ip6tables-restore, and a jump from PREROUTING to POSTERN in table mangle:
#   *mangle
#   :POSTERN - [0:0]
#   -A POSTERN -m mark --mark 0x01000000/0xff000000 -j NFQUEUE --queue-balance 25:26 --queue-bypass
#   -A POSTERN -m mark --mark 0x02000000/0xff000000 -j NFQUEUE --queue-balance 25:26 --queue-bypass
#   COMMIT
)";
  EXPECT_TRUE(ruleset.out.ends_with(comments)) << ruleset.out;
}

TEST_F(Postern, ExplainAndRulesetNeedAValidConfiguration) {
  const std::string wrong = folder_.write("wrong.toml", "[x\n");
  const Finished ruleset = postern({"ruleset", "--config", wrong});
  EXPECT_EQ(ruleset.code, 2);
  EXPECT_EQ(ruleset.out, "");
  EXPECT_TRUE(ruleset.err.starts_with(wrong + ":1:3: error: ")) << ruleset.err;
  EXPECT_EQ(postern({"explain", "--config", wrong, "--from", "198.51.100.2", "--interface", "wan0",
                     "--to", "203.0.113.25"})
                .code,
            2);
}

TEST_F(Postern, WrongUsageExitsWithTwoAndSaysWhy) {
  struct Usage {
    std::vector<std::string> arguments;
    const char* said;
  };
  const Usage usages[] = {
      {{}, "a command is missing"},
      {{"bogus"}, "bogus"},
      {{"check", "--bogus"}, "--bogus"},
      {{"explain", "--from", "198.51.100.2"}, "--interface is required"},
      {{"explain", "--config", config_, "--from", "x", "--interface", "wan0", "--to", "y"},
       "--from: found \"x\"; expected an IPv4 or IPv6 address\n"
       "--to: found \"y\"; expected an IPv4 or IPv6 address\n"},
      {{"blocked", "--limit", "many"}, "--limit"},
      {{"offenders", "--limit", "-1"}, "--limit"},
  };
  for (const Usage& usage : usages) {
    const Finished result = postern(usage.arguments);
    EXPECT_EQ(result.code, 2) << usage.said;
    EXPECT_NE(result.err.find(usage.said), std::string::npos) << result.err;
  }
}

TEST_F(Postern, EveryCommandHasHelpWithAnExample) {
  for (const char* command : {"check", "explain", "ruleset", "status", "counters", "blocked",
                              "offenders", "reload", "drain"}) {
    const Finished help = postern({command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_NE(help.out.find("Example:\n  postern "), std::string::npos) << help.out;
    EXPECT_NE(postern({"--help"}).out.find(std::string("  ") + command), std::string::npos);
  }
}

TEST_F(Postern, VersionIsThatOfTheProject) {
  EXPECT_EQ(postern({"--version"}).out, "postern " POSTERN_VERSION "\n");
}

}  // namespace
}  // namespace postern::gateway
