// What a right configuration becomes.
#include "gateway/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "gateway/control_socket_path.hpp"
#include "gateway/host.hpp"
#include "tests/gateway/configurations.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;

// Fails the test, and yields defaults, if `toml` is not valid.
Config valid(const std::string& toml, MailerIds& ids) {
  auto config = parse_config(toml, "postern.toml", ids, Certificates::load);
  if (!config) {
    ADD_FAILURE() << all_of(config.error());
    Config none;
    none.policy = std::make_shared<rules::Policy>();
    return none;
  }
  return std::move(*config);
}

Config valid(const std::string& toml) {
  MailerIds ids;
  return valid(toml, ids);
}

rules::IpAddress ip(const char* text) {
  return *rules::IpAddress::parse(text);
}

TEST(Config, HasDefaultsForAllThatIsLeftOut) {
  const Config config = valid(kLeast);
  EXPECT_EQ(all_of(config.warnings), "");
  EXPECT_EQ(config.file, "postern.toml");
  EXPECT_EQ(config.policy->unmanaged_destination, rules::Refusal::reject);
  EXPECT_EQ(config.policy->translated_source, rules::Tolerance::reject);
  EXPECT_EQ(config.policy->unmanaged_sender, rules::Tolerance::count);
  EXPECT_FALSE(config.policy->require_local_sender);
  EXPECT_EQ(config.smtp.bare_newline, smtp_proxy::BareNewline::normalize);
  EXPECT_EQ(config.smtp.command_timeout, smtp_proxy::Settings{}.command_timeout);
  EXPECT_EQ(config.log.level, LogLevel::info);
  EXPECT_EQ(config.log.format, LogFormat::text);
  EXPECT_EQ(config.control_socket, "/run/postern/control.sock");
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 1U, 256U);
  EXPECT_EQ(config.workers, cores);
  nfq::Settings datapath;
  datapath.queue_count = static_cast<std::uint16_t>(cores);
  EXPECT_EQ(config.datapath, datapath);
}

TEST(Config, TakesNetworkAndMailersAsWritten) {
  const Config config = valid(R"([network]
external_interfaces = ["wan0", "eth0.100"]
internal_networks = ["203.0.113.0/24", "2001:db8:2::/48"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "2001:db8:2::25"]
domains = ["Example.ORG", "*.example.org", "bücher.example"]
authenticated_relay = false
relay_by_mx = false
starttls = "hide"
[[mailer]]
name = "mx2"
addresses = ["203.0.113.26"]
domains = ["example.org"]
allow_routing_characters = true
allow_address_literals = true
)");
  EXPECT_EQ(all_of(config.warnings), "");
  const rules::Policy& policy = *config.policy;
  EXPECT_EQ(policy.external_interfaces, (std::vector<std::string>{"wan0", "eth0.100"}));
  EXPECT_TRUE(policy.internal_networks.contains(ip("2001:db8:2::1")));
  EXPECT_FALSE(policy.internal_networks.contains(ip("198.51.100.1")));
  ASSERT_EQ(policy.mailers().size(), 2U);
  const rules::Mailer* mx1 = policy.mailer_at(ip("2001:db8:2::25"));
  ASSERT_NE(mx1, nullptr);
  EXPECT_EQ(mx1->name, "mx1");
  EXPECT_EQ(mx1->domains.size(), 3U);
  EXPECT_TRUE(mx1->domains.matches("example.org"));
  EXPECT_TRUE(mx1->domains.matches("a.b.example.org"));
  EXPECT_TRUE(mx1->domains.matches("xn--bcher-kva.example"));
  EXPECT_FALSE(mx1->domains.matches("example.com"));
  EXPECT_FALSE(mx1->allow_routing_characters);
  EXPECT_FALSE(mx1->allow_address_literals);
  const rules::Mailer* mx2 = policy.mailer_at(ip("203.0.113.26"));
  ASSERT_NE(mx2, nullptr);
  EXPECT_TRUE(mx2->allow_routing_characters);
  EXPECT_TRUE(mx2->allow_address_literals);
}

TEST(Config, TakesEverySettingAsWritten) {
  const Config config = valid(kLeast + R"(
[inbound]
unmanaged_destination = "drop"
translated_source = "count"
[outbound]
unmanaged_sender = "reject"
require_local_sender = true
[smtp]
bare_newline = "reject"
unauthorised_pipelining = "wait"
max_errors = 1
max_recipients = 500
max_refused_recipients = 20
max_idle_commands = 7
refusals_before_delay = 8
longest_delay = "9s"
max_sessions = 3
max_sessions_per_mailer = 2
max_sessions_per_client = 1
connect_timeout = "4s"
greeting_timeout = "5m"
command_timeout = "6h"
reply_timeout = 7
data_initiation_timeout = "8s"
data_block_timeout = "9s"
data_termination_timeout = "10s"
closing_timeout = "11s"
session_timeout = "24h"
drain_timeout = 86400
[log]
level = "debug"
format = "json"
[gateway]
workers = 256
queue_base = 65280
proxy_ports = [20025, 20026]
mark_mask = 0xff0
routing_table = 4294967295
on_failure = "open"
observe = false
control_socket = "/tmp/postern.sock"
)");
  EXPECT_EQ(config.policy->unmanaged_destination, rules::Refusal::drop);
  EXPECT_EQ(config.policy->translated_source, rules::Tolerance::count);
  EXPECT_EQ(config.policy->unmanaged_sender, rules::Tolerance::reject);
  EXPECT_TRUE(config.policy->require_local_sender);
  EXPECT_FALSE(config.policy->observe);
  EXPECT_EQ(config.smtp.bare_newline, smtp_proxy::BareNewline::reject);
  EXPECT_EQ(config.smtp.unauthorised_pipelining, smtp_proxy::UnauthorisedPipelining::wait);
  EXPECT_EQ(config.smtp.max_errors, 1U);
  EXPECT_EQ(config.smtp.max_recipients, 500U);
  EXPECT_EQ(config.smtp.max_refused_recipients, 20U);
  EXPECT_EQ(config.smtp.max_idle_commands, 7U);
  EXPECT_EQ(config.smtp.refusals_before_delay, 8U);
  EXPECT_EQ(config.smtp.longest_delay, 9s);
  EXPECT_EQ(config.smtp.max_sessions, 3U);
  EXPECT_EQ(config.smtp.max_sessions_per_mailer, 2U);
  EXPECT_EQ(config.smtp.max_sessions_per_client, 1U);
  EXPECT_EQ(all_of(config.warnings), "");
  EXPECT_EQ(config.smtp.connect_timeout, 4s);
  EXPECT_EQ(config.smtp.greeting_timeout, 5min);
  EXPECT_EQ(config.smtp.command_timeout, 6h);
  EXPECT_EQ(config.smtp.reply_timeout, 7s);
  EXPECT_EQ(config.smtp.data_initiation_timeout, 8s);
  EXPECT_EQ(config.smtp.data_block_timeout, 9s);
  EXPECT_EQ(config.smtp.data_termination_timeout, 10s);
  EXPECT_EQ(config.smtp.closing_timeout, 11s);
  EXPECT_EQ(config.smtp.session_timeout, 24h);
  EXPECT_EQ(config.smtp.drain_timeout, 24h);
  EXPECT_EQ(config.log.level, LogLevel::debug);
  EXPECT_EQ(config.log.format, LogFormat::json);
  EXPECT_EQ(config.workers, 256U);
  EXPECT_EQ(config.datapath, (nfq::Settings{.queue_base = 65280,
                                            .queue_count = 256,
                                            .proxy_ports = {20025, 20026},
                                            .mark_mask = 0xff0,
                                            .routing_table = 4294967295,
                                            .on_failure = nfq::OnFailure::open}));
  EXPECT_EQ(config.control_socket, "/tmp/postern.sock");
}

TEST(Config, ObservesOnlyWhenToldTo) {
  EXPECT_FALSE(valid(kLeast).policy->observe);
  EXPECT_TRUE(valid(kLeast + "[gateway]\nobserve = true\n").policy->observe);
}

TEST(MailerIds, StayWithTheNameOverReloads) {
  MailerIds ids;
  const std::string second = R"([[mailer]]
name = "mx2"
addresses = ["203.0.113.26"]
domains = ["example.org"]
)";
  const Config before = valid(kLeast + second, ids);
  ASSERT_FALSE(parse_config(kLeast + second + "[bad]\n", "postern.toml", ids, Certificates::load));
  std::string renamed = kLeast;
  renamed.replace(renamed.find("mx1"), 3, "new");
  const Config after = valid(renamed + second, ids);
  EXPECT_EQ(after.policy->mailer_at(ip("203.0.113.26"))->id,
            before.policy->mailer_at(ip("203.0.113.26"))->id);
  EXPECT_NE(after.policy->mailer_at(ip("203.0.113.25"))->id,
            before.policy->mailer_at(ip("203.0.113.25"))->id);
  EXPECT_EQ(ids.names(), (std::vector<std::string>{"mx1", "mx2", "new"}));
}

// A mailer whose domains stand in a file beside the configuration.
class DomainsFile : public ::testing::Test {
 protected:
  std::expected<Config, Diagnostics> load(std::string_view domains) {
    folder_.write("mx1.domains", domains);
    std::string toml = kLeast;
    const std::string inline_domains = "domains = [\"example.org\"]\n";
    toml.replace(toml.find(inline_domains), inline_domains.size(),
                 inline_domains + "domains_file = \"mx1.domains\"\n");
    return load_config(folder_.write("postern.toml", toml), ids_, Certificates::load);
  }
  [[nodiscard]] std::string file() const { return (folder_.path() / "mx1.domains").string(); }

  postern::testing::TemporaryFolder folder_;
  MailerIds ids_;
};

TEST_F(DomainsFile, IsFoundBesideTheConfigurationAndAddsToTheList) {
  const auto config = load("\xef\xbb\xbf# ours\n\n  example.net  # main\r\n*.Example.NET\n#end");
  ASSERT_TRUE(config) << all_of(config.error());
  EXPECT_EQ(all_of(config->warnings), "");
  const rules::DomainSet& domains = config->policy->mailers().front().domains;
  EXPECT_EQ(domains.size(), 3U);
  EXPECT_TRUE(domains.matches("example.net"));
  EXPECT_TRUE(domains.matches("a.example.net"));
  EXPECT_TRUE(domains.matches("example.org"));
  EXPECT_EQ(config->mailer_sources.front().first_domains,
            (std::vector<std::string>{"example.org", "example.net", "*.Example.NET"}));
}

TEST_F(DomainsFile, ErrorsCarryItsOwnLines) {
  const auto config = load("example.net\n  exa mple.com # x\n\nexample.net\n*\n");
  ASSERT_FALSE(config);
  EXPECT_EQ(
      all_of(config.error()),
      file() +
          ":2:3: error: mailer[0].domains_file: found \"exa mple.com\"; expected a domain such as "
          "\"example.org\", or \"*.example.org\" for its subdomains; correct or remove it\n" +
          file() +
          ":4:1: warning: mailer[0].domains_file: \"example.net\" is listed twice; the second "
          "changes nothing: remove it, or correct it if another domain was meant\n" +
          file() +
          ":5:1: error: mailer[0].domains_file: found \"*\"; expected a domain such as "
          "\"example.org\", or \"*.example.org\" for its subdomains; there is no word for every "
          "domain: that would be an open relay\n");
}

TEST_F(DomainsFile, NamesTwentyBadLinesAndCountsTheRest) {
  std::string bad;
  for (int i = 0; i < 1000; ++i) {
    bad += "a b\n";
  }
  const auto config = load(bad);
  ASSERT_FALSE(config);
  ASSERT_EQ(config.error().size(), 21U);
  EXPECT_EQ(config.error().back().to_string(),
            file() + ": error: mailer[0].domains_file: and 980 more bad lines");
}

TEST_F(DomainsFile, OfAMillionLinesLoads) {
  std::string many;
  for (int i = 0; i < 1'000'000; ++i) {
    many += "d" + std::to_string(i) + ".example.net\n";
  }
  const auto config = load(many);
  ASSERT_TRUE(config) << all_of(config.error());
  EXPECT_EQ(config->policy->mailers().front().domains.size(), 1'000'001U);
  EXPECT_TRUE(config->policy->mailers().front().domains.matches("d999999.example.net"));
}

TEST(LoadConfig, SaysWhyAFileCannotBeRead) {
  MailerIds ids;
  const auto config = load_config("/nonexistent/postern.toml", ids, Certificates::load);
  ASSERT_FALSE(config);
  EXPECT_EQ(all_of(config.error()),
            "/nonexistent/postern.toml: error: cannot be read (No such file or directory); "
            "expected the configuration; name another file, or see postern.toml(5) for how to "
            "write one\n");
}

TEST(ControlSocketPath, IsReadWithoutJudgingTheRest) {
  const postern::testing::TemporaryFolder folder;
  EXPECT_EQ(control_socket_path(folder.write("a", "x = 1\n[gateway]\ncontrol_socket = \"/s\"")),
            "/s");
  EXPECT_EQ(control_socket_path(folder.write("b", "[gateway]\n")), std::nullopt);
  EXPECT_EQ(control_socket_path(folder.write("c", "[gateway\n")), std::nullopt);
  EXPECT_EQ(control_socket_path(folder.path() / "none"), std::nullopt);
}

TEST(CheckAgainstHost, RefusesTheRoutersOwnAddress) {
  const Config config = valid(R"([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "203.0.113.1"]
domains = ["example.org"]
)");
  EXPECT_EQ(all_of(check_against_host(config, {ip("203.0.113.2")})), "");
  EXPECT_EQ(all_of(check_against_host(config, {ip("203.0.113.2"), ip("203.0.113.1")})),
            "postern.toml:6:30: error: mailer[0].addresses: found 203.0.113.1, which is this "
            "router's own address; expected the mail server's, or the proxy would connect to "
            "itself; write that here, and the router's in `published_as` if it stands for this "
            "mailer\n");
}

TEST(CheckAgainstHost, OnlyWarnsOfAPublishedAddressThatIsNotThereYet) {
  const Config config = valid(R"([network]
external_interfaces = ["wan0"]
internal_networks = ["192.168.1.0/24"]
[[mailer]]
name = "mx1"
addresses = ["192.168.1.25"]
published_as = ["198.51.100.1", "198.51.100.3"]
domains = ["example.org"]
)");
  const std::vector<rules::IpAddress> own = {ip("192.168.1.1"), ip("198.51.100.1")};
  EXPECT_EQ(all_of(check_against_host(config, own)), "");
  EXPECT_EQ(all_of(warn_against_host(config, own)),
            "postern.toml:7:33: warning: mailer[0].published_as: 198.51.100.3 is no address of "
            "this router now, so that nothing comes in for it; correct it, unless the router gets "
            "it later\n");
  EXPECT_EQ(all_of(warn_against_host(config, {})), "") << "where the kernel does not tell";
}

TEST(Config, TakesTheRelaysThatAreExpected) {
  const Config config = valid(kLeast + R"([inbound]
expected_relays = ["192.0.2.0/24", "2001:db8::5"]
)");
  EXPECT_TRUE(config.smtp.expected_relays.contains(ip("192.0.2.77")));
  EXPECT_TRUE(config.smtp.expected_relays.contains(ip("2001:db8::5")));
  EXPECT_FALSE(config.smtp.expected_relays.contains(ip("2001:db8::6")));
  EXPECT_TRUE(valid(kLeast).smtp.expected_relays.empty());
}

TEST(Config, FindsAMailerByTheAddressesThatItIsPublishedAs) {
  const Config config = valid(R"([network]
external_interfaces = ["wan0"]
internal_networks = ["192.168.1.0/24", "fd00::/64"]
[[mailer]]
name = "mx1"
addresses = ["fd00::25", "192.168.1.25", "192.168.1.26"]
published_as = ["198.51.100.1", "2001:db8::1"]
domains = ["example.org"]
)");
  const rules::Mailer* mailer = config.policy->mailer_at(ip("198.51.100.1"));
  ASSERT_NE(mailer, nullptr);
  EXPECT_EQ(mailer->published_as, (std::vector{ip("198.51.100.1"), ip("2001:db8::1")}));
  EXPECT_EQ(config.policy->mailer_at(ip("2001:db8::1")), mailer);
  EXPECT_EQ(all_of(config.warnings), "");
}

TEST(LocalAddresses, HoldTheLoopbackAddress) {
  const auto addresses = local_addresses();
  EXPECT_NE(std::ranges::find(addresses, ip("127.0.0.1")), addresses.end());
}

}  // namespace
}  // namespace postern::gateway
