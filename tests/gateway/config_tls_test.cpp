// The keys of TLS and AUTH: what they become, and every mistake with the whole of what is said about
// it.
#include <gtest/gtest.h>

#include <chrono>
#include <expected>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "gateway/certificate_watch.hpp"
#include "gateway/config.hpp"
#include "tests/gateway/configurations.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::gateway {
namespace {

struct Row {
  std::string name;
  std::string toml;  // behind kLeast, from line 8 on
  std::string said;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class TlsMistake : public ::testing::TestWithParam<Row> {};

TEST_P(TlsMistake, IsNamedWithItsPlaceAndRemedy) {
  MailerIds ids;
  const auto config =
      parse_config(kLeast + GetParam().toml, "postern.toml", ids, Certificates::leave);
  EXPECT_EQ(all_of(config ? config->warnings : config.error()), GetParam().said);
  EXPECT_EQ(config.has_value(), !GetParam().said.contains(": error: "));
}

// clang-format off
const Row kRows[] = {
    Row{"UnknownWords", R"~(starttls = "on"
upstream_tls = "always"
auth_requires_tls = "no"
)~",
        R"~(postern.toml:8:12: error: mailer[0].starttls: found "on"; expected "hide", "terminate" or "pass"; correct it, or leave it out for the default
postern.toml:9:16: error: mailer[0].upstream_tls: found "always"; expected "off", "opportunistic", "require" or "verify"; correct it, or leave it out for the default
postern.toml:10:21: error: mailer[0].auth_requires_tls: found "no"; expected true or false; write it without quotes
)~"},
    Row{"TerminateWithoutCertificate", R"~(starttls = "terminate"
)~",
        R"~(postern.toml:8:12: error: mailer[0].starttls: found "terminate" without a certificate; expected `certificate` and `private_key` beside it; name the mailer's PEM files, or write "hide"
)~"},
    Row{"TerminateWithoutKey", R"~(starttls = "terminate"
certificate = "mx1.pem"
)~",
        R"~(postern.toml:4:1: error: mailer[0].private_key: missing; expected the path of a PEM file, or a list of paths; name the certificate's private key; it may stand in the same file
)~"},
    Row{"TerminateWithAKeyAlone", R"~(starttls = "terminate"
private_key = "mx1.key"
)~",
        R"~(postern.toml:4:1: error: mailer[0].certificate: missing; expected the path of a PEM file, or a list of paths; name the mailer's certificate, in its file the intermediates behind it
)~"},
    Row{"CertificateWithoutTerminate", R"~(certificate = "mx1.pem"
private_key = "mx1.key"
)~",
        R"~(postern.toml:8:15: warning: mailer[0].certificate: not used, because starttls is "hide"; write starttls = "terminate", or remove it
postern.toml:9:15: warning: mailer[0].private_key: not used, because starttls is "hide"; write starttls = "terminate", or remove it
)~"},
    Row{"ListsOfDifferentLength", R"~(starttls = "terminate"
certificate = ["rsa.pem", "ecdsa.pem"]
private_key = "rsa.key"
)~",
        R"~(postern.toml:10:15: error: mailer[0].private_key: found 1, but 2 in `certificate`; expected a private key for each certificate, in the same order; name one for each, the same one twice where two certificates have it
)~"},
    Row{"PathsThatAreNone", R"~(starttls = "terminate"
certificate = ["", 5, "a\u0000b"]
private_key = []
upstream_ca_file = ""
upstream_tls = "verify"
upstream_name = "mx1.example.org"
)~",
        R"~(postern.toml:9:16: error: mailer[0].certificate[0]: found ""; expected the path of a PEM file, or a list of paths; name the mailer's certificate, in its file the intermediates behind it
postern.toml:9:20: error: mailer[0].certificate[1]: found 5; expected a text in double quotes; correct it
postern.toml:9:23: error: mailer[0].certificate[2]: found "a\x00b"; expected the path of a PEM file, or a list of paths; name the mailer's certificate, in its file the intermediates behind it
postern.toml:10:15: error: mailer[0].private_key: found an empty list; expected the path of a PEM file, or a list of paths; name the certificate's private key; it may stand in the same file
postern.toml:11:20: error: mailer[0].upstream_ca_file: found ""; expected the path of a PEM file; name the certificate of who issued the mailer's, or leave it out for the system's
)~"},
    Row{"VerifyWithoutName", R"~(upstream_tls = "verify"
)~",
        R"~(postern.toml:8:16: error: mailer[0].upstream_tls: found "verify" without a name to verify; expected `upstream_name` beside it; write the name that the mailer's certificate has
)~"},
    Row{"NamesThatNoCertificateHas", R"~(upstream_name = "mx 1"
[[mailer]]
name = "mx2"
addresses = ["203.0.113.26"]
domains = ["example.org"]
upstream_name = "203.0.113.26"
)~",
        R"~(postern.toml:8:17: error: mailer[0].upstream_name: found "mx 1"; expected a name such as "mx1.example.org"; write the name that the mailer's own certificate has
postern.toml:13:17: error: mailer[1].upstream_name: found "203.0.113.26"; expected a name such as "mx1.example.org"; write the name that the mailer's own certificate has
)~"},
    Row{"CaFileWithoutVerify", R"~(upstream_tls = "require"
upstream_ca_file = "ca.pem"
)~",
        R"~(postern.toml:9:20: error: mailer[0].upstream_ca_file: found with upstream_tls = "require", which verifies nothing; expected "verify"; write that, or remove this
)~"},
    Row{"NameWithoutTls", R"~(upstream_tls = "off"
upstream_name = "mx1.example.org"
)~",
        R"~(postern.toml:9:17: warning: mailer[0].upstream_name: not used, because upstream_tls is "off"; remove one of them
)~"},
    Row{"Pass", R"~(starttls = "pass"
)~",
        R"~(postern.toml:8:12: warning: mailer[0].starttls: NOTHING IS JUDGED BEHIND STARTTLS: whoever says it writes to whom it likes, as far as the mailer's own rules let it, and guesses passwords uncounted; write "terminate" with a certificate to have the policy hold inside TLS, or "hide"
)~"},
    Row{"PassWithTlsOfItsOwn", R"~(starttls = "pass"
upstream_tls = "require"
)~",
        R"~(postern.toml:8:12: warning: mailer[0].starttls: NOTHING IS JUDGED BEHIND STARTTLS: whoever says it writes to whom it likes, as far as the mailer's own rules let it, and guesses passwords uncounted; write "terminate" with a certificate to have the policy hold inside TLS, or "hide"
postern.toml:9:16: error: mailer[0].upstream_tls: found "require" with starttls = "pass"; expected none, because it is the client's own TLS that goes to the mailer; remove it, or write starttls = "terminate"
)~"},
    Row{"PasswordsInClear", R"~(authenticated_relay = true
auth_requires_tls = false
)~",
        R"~(postern.toml:9:21: warning: mailer[0].auth_requires_tls: found false: passwords cross the Internet in clear, for everybody on the way to read; remove it
)~"},
    Row{"AuthThatNobodyCanUse", R"~(authenticated_relay = true
)~",
        R"~(postern.toml:8:23: warning: mailer[0].authenticated_relay: found true, but nobody outside can authenticate, because auth_requires_tls holds and starttls is "hide"; write starttls = "terminate" with a certificate, or remove it
)~"},
    Row{"AuthWithPass", R"~(authenticated_relay = true
starttls = "pass"
)~",
        R"~(postern.toml:8:23: warning: mailer[0].authenticated_relay: found true, but it changes nothing: in clear AUTH is refused, because auth_requires_tls holds, and behind STARTTLS nothing is judged; write starttls = "terminate" with a certificate, or remove it
postern.toml:9:12: warning: mailer[0].starttls: NOTHING IS JUDGED BEHIND STARTTLS: whoever says it writes to whom it likes, as far as the mailer's own rules let it, and guesses passwords uncounted; write "terminate" with a certificate to have the policy hold inside TLS, or "hide"
)~"},
    Row{"Observe", R"~(starttls = "terminate"
certificate = "mx1.pem"
private_key = "mx1.key"
upstream_tls = "require"
[gateway]
observe = true
)~",
        R"~(postern.toml:8:12: warning: mailer[0].starttls: not done while [gateway] observe = true: STARTTLS goes to the mailer, and the session is passed on unread from there
postern.toml:11:16: warning: mailer[0].upstream_tls: not done while [gateway] observe = true: the mailer is sent what the client sends, as it comes
postern.toml:13:11: warning: gateway.observe: NOTHING IS REFUSED: everything is judged, counted and logged, and let through all the same, also where posternd died; remove it to have the policy enforced
)~"},
    Row{"BadLimits", R"~([smtp]
handshake_timeout = "0s"
max_handshakes = 0
max_auth_failures = 0
max_auth_failures_per_client = 100001
max_auth_failures_per_user = -1
auth_failure_window = "2d"
auth_refusal_time = "long"
max_clients_per_user = "many"
auth_spread_window = 0
)~",
        R"~(postern.toml:9:21: error: smtp.handshake_timeout: found "0s"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:10:18: error: smtp.max_handshakes: found 0; expected a whole number from 1 to 1000000; correct it, or leave it out for the default
postern.toml:11:21: error: smtp.max_auth_failures: found 0; expected a whole number from 1 to 10000; correct it, or leave it out for the default
postern.toml:12:32: error: smtp.max_auth_failures_per_client: found 100001; expected a whole number from 1 to 100000; correct it, or leave it out for the default
postern.toml:13:30: error: smtp.max_auth_failures_per_user: found -1; expected a whole number from 1 to 100000; correct it, or leave it out for the default
postern.toml:14:23: error: smtp.auth_failure_window: found "2d"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:15:21: error: smtp.auth_refusal_time: found "long"; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
postern.toml:16:24: error: smtp.max_clients_per_user: found "many"; expected a whole number from 1 to 100000; correct it, or leave it out for the default
postern.toml:17:22: error: smtp.auth_spread_window: found 0; expected a time from 1s to 24h, such as "30s", "5m" or "2h", or a whole number of seconds; correct it, or leave it out for the default
)~"},
    Row{"LimitsThatContradictEachOther", R"~([smtp]
max_sessions = 100
max_sessions_per_mailer = 100
max_handshakes = 101
handshake_timeout = "10m"
session_timeout = "10m"
max_auth_failures = 11
max_auth_failures_per_client = 10
)~",
        R"~(postern.toml:11:18: warning: smtp.max_handshakes: found 101, which is never reached, because max_sessions is 100; lower it, or raise max_sessions
postern.toml:12:21: warning: smtp.handshake_timeout: found 600 s, but a session ends after 600 s (session_timeout); lower it
postern.toml:14:21: warning: smtp.max_auth_failures: found 11, which no stranger reaches, because max_auth_failures_per_client is 10; lower it, or raise that
)~"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(Config, TlsMistake, ::testing::ValuesIn(kRows),
                         [](const ::testing::TestParamInfo<Row>& row) { return row.param.name; });

// Fails the test if `toml` is not valid, or warned of.
Config valid(const std::string& toml) {
  MailerIds ids;
  auto config = parse_config(kLeast + toml, "/etc/postern/postern.toml", ids, Certificates::leave);
  EXPECT_EQ(all_of(config ? config->warnings : config.error()), "");
  return config ? std::move(*config) : Config{.policy = std::make_shared<rules::Policy>()};
}

TEST(ConfigTls, HidesStarttlsAndSecuresTheMailersSideByDefault) {
  const Config config = valid("");
  const rules::Mailer& mailer = config.policy->mailers().at(0);
  EXPECT_EQ(mailer.starttls, rules::Starttls::hide);
  EXPECT_EQ(mailer.upstream_tls, rules::UpstreamTls::opportunistic);
  EXPECT_FALSE(mailer.authenticated_relay);
  EXPECT_TRUE(mailer.auth_requires_tls);
  const TlsSource& source = config.tls_sources.at(0);
  EXPECT_TRUE(source.certificates.empty());
  ASSERT_TRUE(source.upstream);
  EXPECT_FALSE(source.upstream->verifies);
  EXPECT_EQ(source.upstream->name, "");
  EXPECT_TRUE(source.files().empty());
}

TEST(ConfigTls, TakesPairsOfFilesThatStartFromItsDirectory) {
  const Config config = valid(R"(starttls = "terminate"
certificate = ["tls/rsa.pem", "/ssl/ecdsa.pem"]
private_key = ["tls/rsa.key", "/ssl/ecdsa.key"]
upstream_tls = "verify"
upstream_name = "MX1.Example.Org."
upstream_ca_file = "ca.pem"
authenticated_relay = true
)");
  const rules::Mailer& mailer = config.policy->mailers().at(0);
  EXPECT_EQ(mailer.starttls, rules::Starttls::terminate);
  EXPECT_EQ(mailer.upstream_tls, rules::UpstreamTls::verify);
  EXPECT_TRUE(mailer.authenticated_relay);
  const TlsSource& source = config.tls_sources.at(0);
  EXPECT_EQ(source.mailer, mailer.id);
  EXPECT_EQ(source.mailer_name, "mx1");
  EXPECT_EQ(source.files(), (std::vector<std::filesystem::path>{
                                "/etc/postern/tls/rsa.pem", "/etc/postern/tls/rsa.key",
                                "/ssl/ecdsa.pem", "/ssl/ecdsa.key", "/etc/postern/ca.pem"}));
  ASSERT_TRUE(source.upstream);
  EXPECT_TRUE(source.upstream->verifies);
  EXPECT_EQ(source.upstream->name, "mx1.example.org");
}

// STARTTLS has to be there for the client to pass on.
TEST(ConfigTls, LeavesTheMailersSideInClearWherePassed) {
  MailerIds ids;
  const auto config =
      parse_config(kLeast + "starttls = \"pass\"\n", "postern.toml", ids, Certificates::leave);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->policy->mailers().at(0).upstream_tls, rules::UpstreamTls::off);
  EXPECT_FALSE(config->tls_sources.at(0).upstream);
}

TEST(ConfigTls, TakesEveryLimitAsWritten) {
  const smtp_proxy::Settings smtp = valid(R"([smtp]
handshake_timeout = "11s"
max_handshakes = 12
max_auth_failures = 13
max_auth_failures_per_client = 14
max_auth_failures_per_user = 15
auth_failure_window = "16s"
auth_refusal_time = "17s"
max_clients_per_user = 18
auth_spread_window = "19s"
)")
                                        .smtp;
  using std::chrono::seconds;
  EXPECT_EQ(smtp.handshake_timeout, seconds(11));
  EXPECT_EQ(smtp.max_handshakes, 12U);
  EXPECT_EQ(smtp.max_auth_failures, 13U);
  EXPECT_EQ(smtp.max_auth_failures_per_client, 14U);
  EXPECT_EQ(smtp.max_auth_failures_per_user, 15U);
  EXPECT_EQ(smtp.auth_failure_window, seconds(16));
  EXPECT_EQ(smtp.auth_refusal_time, seconds(17));
  EXPECT_EQ(smtp.max_clients_per_user, 18U);
  EXPECT_EQ(smtp.auth_spread_window, seconds(19));
}

// --- what the files hold --------------------------------------------------------------------------

using postern::testing::MadeCertificate;

MadeCertificate certificate_of(const std::string& name, std::chrono::hours ends) {
  return MadeCertificate({.names = {name}, .common_name = name, .key = {}, .ends = ends});
}

class CertificateFilesOfConfig : public ::testing::Test {
 protected:
  void write(const std::string& name, const MadeCertificate& made) {
    files_.write(name + ".pem", made.pem());
    files_.write(name + ".key", made.key_pem());
  }
  std::expected<Config, Diagnostics> load(const std::string& toml) {
    return load_config(files_.write("postern.toml", kLeast + toml), ids_, Certificates::load);
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return (files_.path() / name).string();
  }

  static constexpr std::chrono::hours kYear{24 * 365};
  postern::testing::TemporaryFolder files_;
  MailerIds ids_;
};

TEST_F(CertificateFilesOfConfig, AreLoadedForTheirMailer) {
  ids_.id_of("another");
  write("mx1", certificate_of("mx1.example.org", kYear));
  const auto config = load(R"(starttls = "terminate"
certificate = "mx1.pem"
private_key = "mx1.key"
)");
  ASSERT_TRUE(config) << all_of(config.error());
  EXPECT_EQ(all_of(config->warnings), "");
  const rules::MailerId id = config->policy->mailers().at(0).id;
  EXPECT_EQ(id, 1U);
  const auto& tls = config->tls->at(id);
  ASSERT_NE(tls.towards_clients, nullptr);
  EXPECT_EQ(tls.towards_clients->certificates().at(0).names,
            std::vector<std::string>{"mx1.example.org"});
  EXPECT_NE(tls.towards_mailer, nullptr);  // opportunistic
  ASSERT_EQ(config->tls_sources.at(0).seen.size(), 2U);
  EXPECT_EQ(config->tls_sources.at(0).seen.at(1), look_at(path("mx1.key")));
}

TEST_F(CertificateFilesOfConfig, AreNotLookedAtForWhoOnlyAsksAboutThePolicy) {
  const auto config =
      parse_config(kLeast + "starttls = \"terminate\"\ncertificate = \"a\"\nprivate_key = \"b\"\n",
                   path("postern.toml"), ids_, Certificates::leave);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->tls->at(0).towards_clients, nullptr);
}

TEST_F(CertificateFilesOfConfig, AreNamedWhereTheyAreWrong) {
  write("good", certificate_of("mx1.example.org", kYear));
  write("other", certificate_of("mx2.example.org", kYear));
  const auto config = load(R"(starttls = "terminate"
certificate = ["good.pem", "other.pem", "none.pem"]
private_key = ["good.key",
  "good.key", "good.pem"]
)");
  ASSERT_FALSE(config);
  const std::string file = path("postern.toml");
  const std::string said = all_of(config.error());
  for (const std::string& line :
       {file + ":9:41: error: mailer[0].certificate[2]: \"" + path("none.pem") +
            "\" cannot be read (No such file or directory); ",
        file + ":11:3: error: mailer[0].private_key[1]: \"" + path("good.key") +
            "\" does not belong to the certificate; ",
        file + ":11:15: error: mailer[0].private_key[2]: \"" + path("good.pem") +
            "\" holds no private key in PEM; "}) {
    EXPECT_TRUE(said.contains(line)) << line << "is not in\n" << said;
  }
  EXPECT_FALSE(said.contains("[0]: \"" + path("good"))) << said;
  EXPECT_TRUE(ids_.names().empty());
}

TEST_F(CertificateFilesOfConfig, AreOnlyWarnedOfWhereTheyExpire) {
  write("mx1", certificate_of("mx1.example.org", std::chrono::hours(-1)));
  const auto config = load(R"(starttls = "terminate"
certificate = "mx1.pem"
private_key = "mx1.key"
)");
  ASSERT_TRUE(config) << all_of(config.error());
  const std::string said = all_of(config->warnings);
  EXPECT_TRUE(said.starts_with(path("postern.toml") + ":9:15: warning: mailer[0].certificate: \"" +
                               path("mx1.pem") + "\" expired on "))
      << said;
}

TEST_F(CertificateFilesOfConfig, AreNamedWhereNoAuthorityIsInThem) {
  files_.write("ca.pem", "nothing");
  const auto config = load(R"(upstream_tls = "verify"
upstream_name = "mx1.example.org"
upstream_ca_file = "ca.pem"
)");
  ASSERT_FALSE(config);
  const std::string said = all_of(config.error());
  EXPECT_TRUE(said.starts_with(path("postern.toml") +
                               ":10:20: error: mailer[0].upstream_ca_file: \"" + path("ca.pem") +
                               "\" holds no certificate in PEM; "))
      << said;
}

// The certificate that the clients see is that of the file, also where it was renewed meanwhile.
TEST_F(CertificateFilesOfConfig, AreWatched) {
  write("old", certificate_of("old.example.org", kYear));
  write("new", certificate_of("new.example.org", kYear));
  std::filesystem::create_directory(files_.path() / "live");
  const auto link_to = [this](const std::string& name) {
    for (const char* kind : {".pem", ".key"}) {
      const auto link = files_.path() / "live" / (std::string("mx1") + kind);
      std::filesystem::remove(link);
      std::filesystem::create_symlink(path(name + kind), link);
    }
  };
  link_to("old");
  const auto config = load(R"(starttls = "terminate"
certificate = "live/mx1.pem"
private_key = "live/mx1.key"
)");
  ASSERT_TRUE(config) << all_of(config.error());
  const auto now = std::chrono::system_clock::now();
  CertificateWatch watch;
  watch.use(config->tls_sources, config->tls, now);
  EXPECT_EQ(watch.look(now).contexts, nullptr);
  link_to("new");
  EXPECT_EQ(watch.look(now).contexts, nullptr);
  const auto found = watch.look(now);
  ASSERT_NE(found.contexts, nullptr);
  EXPECT_EQ(found.contexts->at(0).towards_clients->certificates().at(0).names,
            std::vector<std::string>{"new.example.org"});
  EXPECT_EQ(config->tls->at(0).towards_clients->certificates().at(0).names,
            std::vector<std::string>{"old.example.org"});
}

}  // namespace
}  // namespace postern::gateway
