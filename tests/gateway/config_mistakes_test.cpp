// Every kind of mistake in a configuration, with the whole of what is said about it.
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "gateway/config.hpp"
#include "tests/gateway/configurations.hpp"

namespace postern::gateway {
namespace {

const std::string kNetwork = R"([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)";
const std::string kMailer = R"([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)";

struct Row {
  std::string name;
  std::string toml;
  std::string said;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

bool has_error(const std::string& said) {
  return said.find(": error: ") != std::string::npos;
}

class ConfigMistake : public testing::TestWithParam<Row> {};

TEST_P(ConfigMistake, IsNamedWithItsPlaceAndRemedy) {
  MailerIds ids;
  const auto config = parse_config(GetParam().toml, "postern.toml", ids, Certificates::load);
  EXPECT_EQ(all_of(config ? config->warnings : config.error()), GetParam().said);
  EXPECT_EQ(config.has_value(), !has_error(GetParam().said));
  EXPECT_EQ(ids.names().empty(), !config.has_value());
}

// clang-format off
const Row kRows[] = {
    Row{"SyntaxError", std::string(R"~([network
)~"),
        R"~(postern.toml:1:9: error: Error while parsing table header: expected ']', saw '\n'; what follows was not read; correct this first
)~"},
    Row{"ControlCharacterInAHeader", std::string("[\x1f"),
        "postern.toml:1:2: error: Error while parsing key: expected bare key starting character or string delimiter, saw '\\u001F'; what follows was not read; correct this first\n"},
    Row{"LetterOutsideAscii", std::string("[network]\n\u03e4 = 1\n"),
        "postern.toml:2:1: error: Error while parsing root table: expected keys, tables, whitespace or comments, saw '\u03e4'; what follows was not read; correct this first\n"},
    Row{"KeyTwice", std::string(R"~([network]
a = 1
a = 2
)~"),
        R"~(postern.toml:3:5: error: Error while parsing key-value pair: cannot redefine existing integer 'a'; what follows was not read; correct this first
)~"},
    Row{"EmptyFile", std::string(R"~()~"),
        R"~(postern.toml: error: network.external_interfaces: missing; expected a list of interface names, such as ["wan0"]; name every interface that leads to the Internet; `ip link` lists them
postern.toml: error: network.internal_networks: missing; expected a list of networks, such as ["203.0.113.0/24", "2001:db8:2::/48"]; name every network that lies behind this router
postern.toml: error: mailer: missing; expected at least one [[mailer]] section; nothing behind this router could receive mail without one
)~"},
    Row{"UnknownSection", kNetwork + kMailer + std::string(R"~([outbond]
)~"),
        R"~(postern.toml:8:2: error: outbond: unknown section; did you mean [outbound]?
)~"},
    Row{"UnknownSectionFarFromAll", kNetwork + kMailer + std::string(R"~([firewall]
)~"),
        R"~(postern.toml:8:2: error: firewall: unknown section; the sections are network, mailer, inbound, outbound, smtp, log, capture, http, gateway
)~"},
    Row{"KeyOutsideItsSection", kNetwork + kMailer + std::string(R"~([outbound]
unmanaged_destination = "drop"
)~"),
        R"~(postern.toml:9:1: error: outbound.unmanaged_destination: unknown key; it belongs below [inbound]
)~"},
    Row{"KeyOutsideAnySection", std::string(R"~(workers = 2
[network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:1:1: error: workers: unknown key outside any section; it belongs below [gateway]
)~"},
    Row{"UnknownKey", kNetwork + kMailer + std::string(R"~([gateway]
worker = 2
)~"),
        R"~(postern.toml:9:1: error: gateway.worker: unknown key; did you mean "workers"?
)~"},
    Row{"UnknownKeyFarFromAll", kNetwork + kMailer + std::string(R"~([log]
colour = true
)~"),
        R"~(postern.toml:9:1: error: log.colour: unknown key; the keys of [log] are level, format
)~"},
    Row{"UnknownKeyThatMustBeQuoted", kNetwork + kMailer + std::string(R"~([log]
"a b" = 1
)~"),
        R"~(postern.toml:9:1: error: log."a b": unknown key; the keys of [log] are level, format
)~"},
    Row{"SectionThatIsAValue", std::string(R"~(inbound = 1
[network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:1:11: error: inbound: found 1; expected a section; write [inbound] on a line of its own
)~"},
    Row{"SectionTwiceAsArray", kNetwork + kMailer + std::string(R"~([[log]]
level = "info"
)~"),
        R"~(postern.toml:8:1: error: log: found a list; expected a section; write [log] on a line of its own
)~"},
    Row{"NoExternalInterfaces", std::string(R"~([network]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:1:1: error: network.external_interfaces: missing; expected a list of interface names, such as ["wan0"]; name every interface that leads to the Internet; `ip link` lists them
)~"},
    Row{"EmptyExternalInterfaces", std::string(R"~([network]
external_interfaces = []
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:23: error: network.external_interfaces: found an empty list; expected a list of interface names, such as ["wan0"]; name every interface that leads to the Internet; `ip link` lists them
)~"},
    Row{"ExternalInterfacesNotAList", std::string(R"~([network]
external_interfaces = "wan0"
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:23: error: network.external_interfaces: found "wan0"; expected a list of interface names, such as ["wan0"]; put it in brackets: ["wan0"]
)~"},
    Row{"InterfaceThatIsANumber", std::string(R"~([network]
external_interfaces = [0]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found 0; expected a text in double quotes; correct it
)~"},
    Row{"InterfaceTooLong", std::string(R"~([network]
external_interfaces = ["sixteenletters16"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "sixteenletters16"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; `ip link` lists the names
)~"},
    Row{"InterfaceWithSlash", std::string(R"~([network]
external_interfaces = ["wan/0"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "wan/0"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; `ip link` lists the names
)~"},
    Row{"InterfaceWithQuoteAndControl", std::string(R"~([network]
external_interfaces = ["a\"b\u001b"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "a\"b\x1b"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; `ip link` lists the names
)~"},
    Row{"InterfacePattern", std::string(R"~([network]
external_interfaces = ["ppp*"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "ppp*"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; patterns are not understood: name every interface
)~"},
    Row{"InterfaceAlias", std::string(R"~([network]
external_interfaces = ["eth0:1"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "eth0:1"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; an alias is no interface of its own: write "eth0"
)~"},
    Row{"LoopbackInterface", std::string(R"~([network]
external_interfaces = ["lo"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:24: error: network.external_interfaces[0]: found "lo"; expected an interface that leads to the Internet; remove it: the loopback interface leads nowhere
)~"},
    Row{"InterfaceTwice", std::string(R"~([network]
external_interfaces = ["wan0", "wan0"]
internal_networks = ["203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:2:32: error: network.external_interfaces[1]: found "wan0" a second time; expected every interface once; remove one, or correct it if another was meant
)~"},
    Row{"NoInternalNetworks", std::string(R"~([network]
external_interfaces = ["wan0"]
)~") + kMailer,
        R"~(postern.toml:1:1: error: network.internal_networks: missing; expected a list of networks, such as ["203.0.113.0/24", "2001:db8:2::/48"]; name every network that lies behind this router
)~"},
    Row{"EmptyInternalNetworks", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = []
)~") + kMailer,
        R"~(postern.toml:3:21: error: network.internal_networks: found an empty list; expected a list of networks, such as ["203.0.113.0/24", "2001:db8:2::/48"]; name every network that lies behind this router
)~"},
    Row{"MalformedNetworks", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/33", "203.0.113.1-203.0.113.9", "any", "203.0.113.0/255.255.255.0"]
)~") + kMailer,
        R"~(postern.toml:3:22: error: network.internal_networks[0]: found "203.0.113.0/33"; expected a network such as "203.0.113.0/24"; write address/length, such as 203.0.113.0/24
postern.toml:3:40: error: network.internal_networks[1]: found "203.0.113.1-203.0.113.9"; expected a network such as "203.0.113.0/24"; write address/length, such as 203.0.113.0/24
postern.toml:3:67: error: network.internal_networks[2]: found "any"; expected a network such as "203.0.113.0/24"; name the networks that lie behind this router
postern.toml:3:74: error: network.internal_networks[3]: found "203.0.113.0/255.255.255.0"; expected a network such as "203.0.113.0/24"; write address/length, such as 203.0.113.0/24
)~"},
    Row{"EverybodyInternal", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["0.0.0.0/0", "::/0"]
)~") + kMailer,
        R"~(postern.toml:3:22: error: network.internal_networks[0]: found "0.0.0.0/0"; expected the networks behind this router; with this one every host would count as internal: name your own networks
postern.toml:3:35: error: network.internal_networks[1]: found "::/0"; expected the networks behind this router; with this one every host would count as internal: name your own networks
)~"},
    Row{"NetworkWithHostBits", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.25/24"]
)~") + kMailer,
        R"~(postern.toml:3:22: warning: network.internal_networks[0]: found "203.0.113.25/24", which has bits set behind the network's length; the network 203.0.113.0/24 is meant by it; write that
)~"},
    Row{"NetworkTwice", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24", "203.0.113.0/24"]
)~") + kMailer,
        R"~(postern.toml:3:40: warning: network.internal_networks[1]: 203.0.113.0/24 is listed twice; the second changes nothing: remove it, or correct it if another network was meant
)~"},
    Row{"WideNetwork", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24", "128.0.0.0/2", "fc00::/7", "2000::/3"]
)~") + kMailer,
        R"~(postern.toml:3:40: warning: network.internal_networks[1]: 128.0.0.0/2 is far wider than any organisation's own network, and all of it counts as internal; check its length
postern.toml:3:67: error: network.internal_networks[3]: found "2000::/3"; expected the networks behind this router; with this one every host would count as internal: name your own networks
)~"},
    Row{"WholeInternet6", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24", "2000::/3", "::/2", "fc00::/7", "4000::/3"]
)~") + kMailer,
        R"~(postern.toml:3:40: error: network.internal_networks[1]: found "2000::/3"; expected the networks behind this router; with this one every host would count as internal: name your own networks
postern.toml:3:52: error: network.internal_networks[2]: found "::/2"; expected the networks behind this router; with this one every host would count as internal: name your own networks
postern.toml:3:72: warning: network.internal_networks[4]: 4000::/3 is far wider than any organisation's own network, and all of it counts as internal; check its length
)~"},
    Row{"NoMailerInside", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["192.0.2.0/24"]
)~") + kMailer,
        R"~(postern.toml:3:21: error: network.internal_networks: no address of any mailer lies in these networks; expected the mailers to stand behind this router; without that their own mail to the world would be refused as a stranger's: add their network, or correct their addresses
)~"},
    Row{"NoMailer", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)~"),
        R"~(postern.toml: error: mailer: missing; expected at least one [[mailer]] section; nothing behind this router could receive mail without one
)~"},
    Row{"MailerWithSingleBrackets", std::string(R"~([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
[mailer]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:4:1: error: mailer: found a table; expected one or more [[mailer]] sections; write [[mailer]] with two brackets
)~"},
    Row{"MailerThatIsAValue", std::string(R"~(mailer = "mx1"
[network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)~"),
        R"~(postern.toml:1:10: error: mailer: found "mx1"; expected one or more [[mailer]] sections; write [[mailer]] on a line of its own
)~"},
    Row{"MailerListOfValues", std::string(R"~(mailer = [1]
[network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
)~"),
        R"~(postern.toml:1:11: error: mailer[0]: found 1; expected a [[mailer]] section; write [[mailer]] on a line of its own
)~"},
    Row{"EmptyMailer", kNetwork + std::string(R"~([[mailer]]
)~"),
        R"~(postern.toml:4:1: error: mailer[0].name: missing; expected a name of 1 to 64 letters, digits, '.', '_' or '-'; it names the mailer in logs and counters
postern.toml:4:1: error: mailer[0].addresses: missing; expected a list of IP addresses, such as ["203.0.113.25", "2001:db8:2::25"]; name every address that receives mail on this host
postern.toml:4:1: warning: mailer[0]: has no domains, so strangers can write to nobody here; name them in `domains` or in a `domains_file`
)~"},
    Row{"BadName", kNetwork + std::string(R"~([[mailer]]
name = "mx 1"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:5:8: error: mailer[0].name: found "mx 1"; expected a name of 1 to 64 letters, digits, '.', '_' or '-'; it names the mailer in logs and counters
)~"},
    Row{"EmptyAddresses", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = []
domains = ["example.org"]
)~"),
        R"~(postern.toml:6:13: error: mailer[0].addresses: found an empty list; expected a list of IP addresses, such as ["203.0.113.25", "2001:db8:2::25"]; name every address that receives mail on this host
)~"},
    Row{"BadAddresses", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "203.0.113.26/32", "mx.example.org", "203.0.113.256", "0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "fe80::1", "169.254.1.1", "255.255.255.255"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:6:30: error: mailer[0].addresses[1]: found "203.0.113.26/32"; expected an IPv4 or IPv6 address; leave out "/32": a mailer has addresses, not networks
postern.toml:6:49: error: mailer[0].addresses[2]: found "mx.example.org"; expected an IPv4 or IPv6 address; names are not looked up: write the address that the name stands for
postern.toml:6:67: error: mailer[0].addresses[3]: found "203.0.113.256"; expected an IPv4 or IPv6 address; correct it
postern.toml:6:84: error: mailer[0].addresses[4]: found "0.0.0.0", which is no host's address; expected an address of the mail server; correct or remove it
postern.toml:6:95: error: mailer[0].addresses[5]: found "::", which is no host's address; expected an address of the mail server; correct or remove it
postern.toml:6:101: error: mailer[0].addresses[6]: found "127.0.0.1", which is a loopback address, and never leaves its host; expected an address of the mail server; correct or remove it
postern.toml:6:114: error: mailer[0].addresses[7]: found "::1", which is a loopback address, and never leaves its host; expected an address of the mail server; correct or remove it
postern.toml:6:121: error: mailer[0].addresses[8]: found "224.0.0.1", which is a multicast address; expected an address of the mail server; correct or remove it
postern.toml:6:134: error: mailer[0].addresses[9]: found "ff02::1", which is a multicast address; expected an address of the mail server; correct or remove it
postern.toml:6:145: error: mailer[0].addresses[10]: found "fe80::1", which is a link-local address, and is never routed; expected an address of the mail server; correct or remove it
postern.toml:6:156: error: mailer[0].addresses[11]: found "169.254.1.1", which is a link-local address, and is never routed; expected an address of the mail server; correct or remove it
postern.toml:6:171: error: mailer[0].addresses[12]: found "255.255.255.255", which is a reserved or broadcast address; expected an address of the mail server; correct or remove it
)~"},
    Row{"NameTwice", kNetwork + kMailer + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.26"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:9:8: error: mailer[1].name: found "mx1", which is the name of mailer[0] too; expected a name of its own, because counters and logs tell mailers apart by it; rename one
)~"},
    Row{"AddressInTwoMailers", kNetwork + kMailer + std::string(R"~([[mailer]]
name = "mx2"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:10:14: error: mailer[1].addresses: found 203.0.113.25, which "mx1" has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
)~"},
    Row{"AddressTwice", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "::ffff:203.0.113.25"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:6:30: error: mailer[0].addresses: found 203.0.113.25, which this mailer has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
)~"},
    Row{"MailerOutside", kNetwork + kMailer + std::string(R"~([[mailer]]
name = "mx2"
addresses = ["203.0.113.26", "192.0.2.26", "2001:db8::26"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:10:30: warning: mailer[1].addresses: 192.0.2.26 of "mx2" lies outside internal_networks, so what it sends counts as a stranger's; add its network, or correct the address
postern.toml:10:44: warning: mailer[1].addresses: 2001:db8::26 of "mx2" lies outside internal_networks, which hold no IPv6 network, so what it sends counts as a stranger's; add its network, or correct the address
)~"},
    Row{"NoDomains", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
)~"),
        R"~(postern.toml:4:1: warning: mailer[0]: has no domains, so strangers can write to nobody here; name them in `domains` or in a `domains_file`
)~"},
    Row{"BadDomains", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["exa mple.org", "a@example.org", "*", ".example.org", "a.*.org", "[203.0.113.25]", ""]
)~"),
        R"~(postern.toml:7:12: error: mailer[0].domains[0]: found "exa mple.org"; expected a domain such as "example.org", or "*.example.org" for its subdomains; correct or remove it
postern.toml:7:28: error: mailer[0].domains[1]: found "a@example.org"; expected a domain such as "example.org", or "*.example.org" for its subdomains; write the part behind the '@' alone
postern.toml:7:45: error: mailer[0].domains[2]: found "*"; expected a domain such as "example.org", or "*.example.org" for its subdomains; there is no word for every domain: that would be an open relay
postern.toml:7:50: error: mailer[0].domains[3]: found ".example.org"; expected a domain such as "example.org", or "*.example.org" for its subdomains; write "*." in front for its subdomains
postern.toml:7:66: error: mailer[0].domains[4]: found "a.*.org"; expected a domain such as "example.org", or "*.example.org" for its subdomains; a '*' stands only in front, as "*.", for any depth of subdomain
postern.toml:7:77: error: mailer[0].domains[5]: found "[203.0.113.25]"; expected a domain such as "example.org", or "*.example.org" for its subdomains; address literals have a switch of their own, allow_address_literals
postern.toml:7:95: error: mailer[0].domains[6]: found ""; expected a domain such as "example.org", or "*.example.org" for its subdomains; correct or remove it
)~"},
    Row{"DomainTwice", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["example.org", "EXAMPLE.org."]
)~"),
        R"~(postern.toml:7:27: warning: mailer[0].domains[1]: "EXAMPLE.org." is listed twice; the second changes nothing: remove it, or correct it if another domain was meant
)~"},
    Row{"WholeTopLevelDomain", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["*.org"]
)~"),
        R"~(postern.toml:7:12: warning: mailer[0].domains[0]: "*.org" stands for every domain below a top-level domain, and strangers may write to all of them; name your own domains
)~"},
    Row{"NoDomainsFile", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains_file = "/nonexistent/mx1.domains"
)~"),
        R"~(postern.toml:7:16: error: mailer[0].domains_file: found "/nonexistent/mx1.domains", which cannot be read (No such file or directory); expected the path of a text file with one domain a line; create the file or correct the path
)~"},
    Row{"DomainsFileIsADirectory", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains_file = "/"
)~"),
        R"~(postern.toml:7:16: error: mailer[0].domains_file: found "/", which cannot be read (Not a regular file); expected the path of a text file with one domain a line; create the file or correct the path
)~"},
    Row{"DomainsFileIsADevice", kNetwork + std::string(R"~([[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains_file = "/dev/zero"
)~"),
        R"~(postern.toml:7:16: error: mailer[0].domains_file: found "/dev/zero", which cannot be read (Not a regular file); expected the path of a text file with one domain a line; create the file or correct the path
)~"},
    Row{"ExpectedRelays", kNetwork + kMailer + std::string(R"~([inbound]
expected_relays = ["192.0.2.0/24", "filter.example", "0.0.0.0/0", "2001:db8::5"]
)~"),
        R"~(postern.toml:9:36: error: inbound.expected_relays[1]: found "filter.example"; expected a network such as "192.0.2.0/24"; write address/length, or an address alone
postern.toml:9:54: error: inbound.expected_relays[2]: found "0.0.0.0/0"; expected the relays that the site's mail comes through; with this one nothing would ever be noticed: name them
)~"},
    Row{"NoExpectedRelays", kNetwork + kMailer + std::string(R"~([inbound]
expected_relays = []
)~"),
        R"~(postern.toml:9:19: error: inbound.expected_relays: found an empty list; expected a list of networks or addresses, such as ["192.0.2.0/24"]; name those that the site's mail comes through, or leave it out
)~"},
    Row{"LaterMailerKey", kNetwork + kMailer + std::string(R"~(relay_by_mx = true
)~"),
        R"~(postern.toml:8:15: error: mailer[0].relay_by_mx: found true; not available in this version yet; remove it
)~"},
    Row{"PublishedAsNoAddresses", kNetwork + kMailer + std::string(R"~(published_as = []
)~"),
        R"~(postern.toml:8:16: error: mailer[0].published_as: found an empty list; expected a list of IP addresses, such as ["198.51.100.1"]; name the router's own addresses that stand for this mailer, or leave it out
)~"},
    Row{"PublishedAsWhatNoRouterCanHave", kNetwork + kMailer + std::string(R"~(published_as = ["127.0.0.1", "wan0"]
)~"),
        R"~(postern.toml:8:17: error: mailer[0].published_as[0]: found "127.0.0.1", which is a loopback address, and never leaves its host; expected an address of the router; correct or remove it
postern.toml:8:30: error: mailer[0].published_as[1]: found "wan0"; expected an IPv4 or IPv6 address; correct it
)~"},
    Row{"PublishedAsEveryMistakeAtOnce", kNetwork + kMailer + std::string(R"~(published_as = ["198.51.100.1", "2001:db8::1"]
[[mailer]]
name = "mx2"
addresses = ["203.0.113.26"]
published_as = ["198.51.100.1", "203.0.113.25", "203.0.113.26", "198.51.100.2", "::ffff:198.51.100.2"]
domains = ["example.org"]
)~"),
        R"~(postern.toml:8:33: error: mailer[0].published_as: found 2001:db8::1, and the mailer has no IPv6 address of its own to connect on to; expected one in `addresses`; add it there, or remove this one
postern.toml:12:17: error: mailer[1].published_as: found 198.51.100.1, which "mx1" has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
postern.toml:12:33: error: mailer[1].published_as: found 203.0.113.25, which "mx1" has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
postern.toml:12:49: error: mailer[1].published_as: found 203.0.113.26, which this mailer has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
postern.toml:12:81: error: mailer[1].published_as: found 198.51.100.2, which this mailer has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
)~"},
    Row{"SwitchesThatAreNoBooleans", kNetwork + kMailer + std::string(R"~(authenticated_relay = "no"
allow_routing_characters = 1
allow_address_literals = []
)~"),
        R"~(postern.toml:8:23: error: mailer[0].authenticated_relay: found "no"; expected true or false; write it without quotes
postern.toml:9:28: error: mailer[0].allow_routing_characters: found 1; expected true or false; write it without quotes
postern.toml:10:26: error: mailer[0].allow_address_literals: found an empty list; expected true or false; write it without quotes
)~"},
    Row{"LaterSections", kNetwork + kMailer + std::string(R"~([capture]
file = "x"
[http]
listen = "127.0.0.1:9525"
)~"),
        R"~(postern.toml:8:2: error: capture: not available in this version yet; remove it
postern.toml:10:2: error: http: not available in this version yet; remove it
)~"},
    Row{"Observe", kNetwork + kMailer + std::string(R"~([gateway]
observe = true
)~"),
        R"~(postern.toml:9:11: warning: gateway.observe: NOTHING IS REFUSED: everything is judged, counted and logged, and let through all the same, also where posternd died; remove it to have the policy enforced
)~"},
    Row{"ObserveThatIsNoSwitch", kNetwork + kMailer + std::string(R"~([gateway]
observe = "yes"
)~"),
        R"~(postern.toml:9:11: error: gateway.observe: found "yes"; expected true or false; write it without quotes
)~"},
    Row{"BadInbound", kNetwork + kMailer + std::string(R"~([inbound]
unmanaged_destination = "count"
translated_source = "pass"
)~"),
        R"~(postern.toml:9:25: error: inbound.unmanaged_destination: found "count"; expected "reject" or "drop"; correct it, or leave it out for the default
postern.toml:10:21: error: inbound.translated_source: found "pass"; expected "reject", "drop" or "count"; correct it, or leave it out for the default
)~"},
    Row{"BadOutbound", kNetwork + kMailer + std::string(R"~([outbound]
unmanaged_sender = "allow"
require_local_sender = "yes"
)~"),
        R"~(postern.toml:9:20: error: outbound.unmanaged_sender: found "allow"; expected "count", "reject" or "drop"; correct it, or leave it out for the default
postern.toml:10:24: error: outbound.require_local_sender: found "yes"; expected true or false; write it without quotes
)~"},
    Row{"BadSmtp", kNetwork + kMailer + std::string(R"~([smtp]
bare_newline = "fix"
max_errors = 0
max_refused_recipients = "many"
max_sessions = 1.5
connect_timeout = "30"
greeting_timeout = "1d"
command_timeout = 0
reply_timeout = "25h"
data_block_timeout = 1979-05-27
session_timeout = "-5m"
)~"),
        R"~(postern.toml:9:16: error: smtp.bare_newline: found "fix"; expected "normalize" or "reject"; correct it, or leave it out for the default
postern.toml:10:14: error: smtp.max_errors: found 0; expected a whole number from 1 to 10000; correct it, or leave it out for the default
postern.toml:11:26: error: smtp.max_refused_recipients: found "many"; expected a whole number from 1 to 100000; correct it, or leave it out for the default
postern.toml:12:16: error: smtp.max_sessions: found 1.5; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
postern.toml:13:19: error: smtp.connect_timeout: found "30"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:14:20: error: smtp.greeting_timeout: found "1d"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:15:19: error: smtp.command_timeout: found 0; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:16:17: error: smtp.reply_timeout: found "25h"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:17:22: error: smtp.data_block_timeout: found a date or time; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:18:19: error: smtp.session_timeout: found "-5m"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
)~"},
    Row{"BadLimits", kNetwork + kMailer + std::string(R"~([smtp]
unauthorised_pipelining = "allow"
max_recipients = 0
max_idle_commands = 1000001
refusals_before_delay = -1
longest_delay = "0s"
max_sessions_per_mailer = "all"
max_sessions_per_client = 0
)~"),
        R"~(postern.toml:9:27: error: smtp.unauthorised_pipelining: found "allow"; expected "refuse" or "wait"; correct it, or leave it out for the default
postern.toml:10:18: error: smtp.max_recipients: found 0; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
postern.toml:11:21: error: smtp.max_idle_commands: found 1000001; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
postern.toml:12:25: error: smtp.refusals_before_delay: found -1; expected a whole number from 1 to 100000; correct it, or leave it out for the default
postern.toml:13:17: error: smtp.longest_delay: found "0s"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:14:27: error: smtp.max_sessions_per_mailer: found "all"; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
postern.toml:15:27: error: smtp.max_sessions_per_client: found 0; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
)~"},
    Row{"LimitsThatContradictEachOther", kNetwork + kMailer + std::string(R"~([smtp]
max_errors = 5
max_recipients = 99
max_refused_recipients = 5
refusals_before_delay = 9
longest_delay = "10m"
session_timeout = "10m"
max_sessions = 100
max_sessions_per_mailer = 101
max_sessions_per_client = 200
)~"),
        R"~(postern.toml:10:18: warning: smtp.max_recipients: found 99; RFC 5321 (4.5.3.1.8) wants at least 100 taken, and some senders give up below that
postern.toml:12:25: warning: smtp.refusals_before_delay: found 9, but after 9 refusals every session has ended (max_errors and max_refused_recipients), so that nobody is ever delayed; lower it
postern.toml:13:17: warning: smtp.longest_delay: found 600 s, but a session ends after 600 s (session_timeout); lower it
postern.toml:16:27: warning: smtp.max_sessions_per_mailer: found 101, which is never reached, because max_sessions is 100; lower it, or raise max_sessions
postern.toml:17:27: warning: smtp.max_sessions_per_client: found 200, which is never reached, because max_sessions is 100; lower it, or raise max_sessions
)~"},
    Row{"LimitsThatOnlyADefaultContradicts", kNetwork + kMailer + std::string(R"~([smtp]
max_errors = 1
max_refused_recipients = 1
max_sessions = 10
)~"), ""},
    Row{"BadLog", kNetwork + kMailer + std::string(R"~([log]
level = "verbose"
format = { a = 1 }
)~"),
        R"~(postern.toml:9:9: error: log.level: found "verbose"; expected "debug", "info", "warning" or "error"; correct it, or leave it out for the default
postern.toml:10:10: error: log.format: found a table; expected "text" or "json"; correct it, or leave it out for the default
)~"},
    Row{"BadGateway", kNetwork + kMailer + std::string(R"~([gateway]
workers = 257
queue_base = 70000
proxy_ports = [10025]
mark_mask = 0x1ff
routing_table = 254
on_failure = "ajar"
control_socket = "postern.sock"
)~"),
        R"~(postern.toml:9:11: error: gateway.workers: found 257; expected a whole number from 1 to 256; leave it out for one worker a core
postern.toml:10:14: error: gateway.queue_base: found 70000; expected a whole number from 0 to 65535; it is the number of the first NFQUEUE; the default is 25
postern.toml:11:15: error: gateway.proxy_ports: found a list; expected two different ports from 1 to 65535, neither of them 25; the default is [10025, 10026]
postern.toml:12:13: error: gateway.mark_mask: found 511; expected eight adjacent bits of a 32-bit mark; the default is 0xff000000
postern.toml:13:17: error: gateway.routing_table: found 254; expected a whole number from 1 to 4294967295 that is not 253, 254 or 255; the kernel uses those three; the default is 2525
postern.toml:14:14: error: gateway.on_failure: found "ajar"; expected "closed" or "open"; correct it, or leave it out for the default
postern.toml:15:18: error: gateway.control_socket: found "postern.sock"; expected an absolute path of at most 107 octets; the default is "/run/postern/control.sock"
)~"},
    Row{"ProxyPortTwice", kNetwork + kMailer + std::string(R"~([gateway]
proxy_ports = [10025, 10025]
)~"),
        R"~(postern.toml:9:23: error: gateway.proxy_ports: found 10025; expected two different ports from 1 to 65535, neither of them 25; the default is [10025, 10026]
)~"},
    Row{"ProxyPortOfSmtp", kNetwork + kMailer + std::string(R"~([gateway]
proxy_ports = [25, 10026]
)~"),
        R"~(postern.toml:9:16: error: gateway.proxy_ports: found 25; expected two different ports from 1 to 65535, neither of them 25; the default is [10025, 10026]
)~"},
    Row{"MarkMasks", kNetwork + kMailer + std::string(R"~([gateway]
mark_mask = 0
)~"),
        R"~(postern.toml:9:13: error: gateway.mark_mask: found 0; expected eight adjacent bits of a 32-bit mark; the default is 0xff000000
)~"},
    Row{"MarkMaskTooHigh", kNetwork + kMailer + std::string(R"~([gateway]
mark_mask = 0xff00000000
)~"),
        R"~(postern.toml:9:13: error: gateway.mark_mask: found 1095216660480; expected eight adjacent bits of a 32-bit mark; the default is 0xff000000
)~"},
    Row{"MarkMaskWithAHole", kNetwork + kMailer + std::string(R"~([gateway]
mark_mask = 0x1fe01
)~"),
        R"~(postern.toml:9:13: error: gateway.mark_mask: found 130561; expected eight adjacent bits of a 32-bit mark; the default is 0xff000000
)~"},
    Row{"RoutingTableZero", kNetwork + kMailer + std::string(R"~([gateway]
routing_table = 0
)~"),
        R"~(postern.toml:9:17: error: gateway.routing_table: found 0; expected a whole number from 1 to 4294967295 that is not 253, 254 or 255; the kernel uses those three; the default is 2525
)~"},
    Row{"QueuesPastTheLast", kNetwork + kMailer + std::string(R"~([gateway]
workers = 16
queue_base = 65530
)~"),
        R"~(postern.toml:10:14: error: gateway.queue_base: found 65530 with 16 workers; expected the last queue to be at most 65535, one queue a worker; lower it to 65520 or less
)~"},
    Row{"SocketPathTooLong", kNetwork + kMailer + std::string(R"~([gateway]
control_socket = "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
)~"),
        R"~(postern.toml:9:18: error: gateway.control_socket: found "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."; expected an absolute path of at most 107 octets; the default is "/run/postern/control.sock"
)~"},
    Row{"SeveralErrorsAtOnce", std::string(R"~(workers = 4
[network]
external_interfaces = ["wan0", "wan0", "wan*", "averyveryverylonginterface"]
internal_network   = ["203.0.113.0/24"]
[[mailer]]
name      = "m x1"
addresses = ["203.0.113.25", "224.0.0.1", "foo.example.org", 5, "203.0.113.25"]
published_as = ["2001:db8::1"]
domains   = ["example.org", "*.example.org", "a@b.c", "*", "EXAMPLE.ORG."]
starttls = "passt"
authenticated_relay = 1
[inbund]
a=1
[outbound]
unmanaged_sender = "dorp"
[gateway]
mark_mask = 0xff0
proxy_ports = [25, 3]
routing_table = 254
workers = 0
[smtp]
connect_timeout = "30"
greeting_timeout = 0
)~"),
        R"~(postern.toml:1:1: error: workers: unknown key outside any section; it belongs below [gateway]
postern.toml:2:1: error: network.internal_networks: missing; expected a list of networks, such as ["203.0.113.0/24", "2001:db8:2::/48"]; name every network that lies behind this router
postern.toml:3:32: error: network.external_interfaces[1]: found "wan0" a second time; expected every interface once; remove one, or correct it if another was meant
postern.toml:3:40: error: network.external_interfaces[2]: found "wan*"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; patterns are not understood: name every interface
postern.toml:3:48: error: network.external_interfaces[3]: found "averyveryverylonginterface"; expected an interface name of 1 to 15 letters, digits, '.', '_', '-' or '@'; `ip link` lists the names
postern.toml:4:1: error: network.internal_network: unknown key; did you mean "internal_networks"?
postern.toml:6:13: error: mailer[0].name: found "m x1"; expected a name of 1 to 64 letters, digits, '.', '_' or '-'; it names the mailer in logs and counters
postern.toml:7:30: error: mailer[0].addresses[1]: found "224.0.0.1", which is a multicast address; expected an address of the mail server; correct or remove it
postern.toml:7:43: error: mailer[0].addresses[2]: found "foo.example.org"; expected an IPv4 or IPv6 address; names are not looked up: write the address that the name stands for
postern.toml:7:62: error: mailer[0].addresses[3]: found 5; expected a text in double quotes; correct it
postern.toml:7:65: error: mailer[0].addresses: found 203.0.113.25, which this mailer has already; expected every address once, because an address decides which mailer's domains hold; remove one of them
postern.toml:8:17: error: mailer[0].published_as: found 2001:db8::1, and the mailer has no IPv6 address of its own to connect on to; expected one in `addresses`; add it there, or remove this one
postern.toml:9:46: error: mailer[0].domains[2]: found "a@b.c"; expected a domain such as "example.org", or "*.example.org" for its subdomains; write the part behind the '@' alone
postern.toml:9:55: error: mailer[0].domains[3]: found "*"; expected a domain such as "example.org", or "*.example.org" for its subdomains; there is no word for every domain: that would be an open relay
postern.toml:9:60: warning: mailer[0].domains[4]: "EXAMPLE.ORG." is listed twice; the second changes nothing: remove it, or correct it if another domain was meant
postern.toml:10:12: error: mailer[0].starttls: found "passt"; expected "hide", "terminate" or "pass"; correct it, or leave it out for the default
postern.toml:11:23: error: mailer[0].authenticated_relay: found 1; expected true or false; write it without quotes
postern.toml:12:2: error: inbund: unknown section; did you mean [inbound]?
postern.toml:15:20: error: outbound.unmanaged_sender: found "dorp"; expected "count", "reject" or "drop"; correct it, or leave it out for the default
postern.toml:18:16: error: gateway.proxy_ports: found 25; expected two different ports from 1 to 65535, neither of them 25; the default is [10025, 10026]
postern.toml:19:17: error: gateway.routing_table: found 254; expected a whole number from 1 to 4294967295 that is not 253, 254 or 255; the kernel uses those three; the default is 2525
postern.toml:20:11: error: gateway.workers: found 0; expected a whole number from 1 to 256; leave it out for one worker a core
postern.toml:22:19: error: smtp.connect_timeout: found "30"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:23:20: error: smtp.greeting_timeout: found 0; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
)~"}
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(Config, ConfigMistake, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

}  // namespace
}  // namespace postern::gateway
