// Who guesses passwords is slowed down, thrown out and kept out, and no password is left anywhere.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/sasl_client.hpp"

namespace postern::testing {
namespace {

const Account kGuess{.name = "user@script.example", .password = "wrong"};

class Guessing : public WithTls {
 protected:
  Guessing() { start_scripted_server({"--password", "secret"}); }

  void start(const std::string& smtp, const std::string& inbound = {}) {
    start_posternd({.mx2 = "authenticated_relay = true\nauth_requires_tls = false\n",
                    .inbound = inbound,
                    .smtp = "longest_delay = \"1s\"\n" + smtp});
  }
  [[nodiscard]] Connection connect_from(const std::string& source, const std::string& to) {
    Route route = lab.route(Side::outside, to);
    route.from = source;
    return Connection(route);
  }
  // The reply to one attempt in a session of its own.
  std::string attempt(Connection client, const Account& account) {
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH")) << client.transcript();
    const std::string reply = authenticate(client, "PLAIN", account);
    EXPECT_TRUE(reply.starts_with("235") || reply.starts_with("535")) << client.transcript();
    return reply;
  }
};

TEST_F(Guessing, EndsTheSessionAtTheLimit) {
  start("max_auth_failures = 3\n");
  Connection client = greeted(Side::outside, kIpv4.mx2);
  client.say("EHLO stranger.example");
  for (int attempt = 0; attempt < 3; ++attempt) {
    EXPECT_TRUE(authenticate(client, "LOGIN", kGuess).starts_with("535")) << client.transcript();
  }
  EXPECT_TRUE(client.read_reply().starts_with("421 4.7.0")) << client.transcript();
  EXPECT_EQ(client.read_to_end(), "") << client.transcript();
  EXPECT_EQ(posternd->counter("postern_auth_total", {{"result", "refused"}}), 3);
  EXPECT_EQ(posternd->counter("postern_sources_barred_total"), 0);
}

TEST_F(Guessing, KeepsTheSourceOutForAWhile) {
  struct Sources {
    const Family& family;
    std::string guesser;
    std::string neighbour;  // to whom it is done, too
    std::string other;
  };
  for (const Sources& sources :
       {Sources{kIpv4, "198.18.7.1", "198.18.7.1", "198.18.7.2"},
        Sources{kIpv6, "2001:db8:f000:1::1", "2001:db8:f000:1:2::3", "2001:db8:f000:2::1"}}) {
    start("max_auth_failures_per_client = 2\nauth_refusal_time = \"5s\"\n");
    for (int failure = 0; failure < 2; ++failure) {
      attempt(connect_from(sources.guesser, sources.family.mx2), kGuess);
    }
    EXPECT_TRUE(wait_until("the source is barred", [&] {
      return posternd->counter("postern_sources_barred_total", {{"mailer", "mx2"}}) == 1;
    }));
    EXPECT_EQ(connect_from(sources.neighbour, sources.family.mx2).error(), ECONNREFUSED);
    EXPECT_TRUE(wait_until("the kernel refuses it by itself", [&] {
      EXPECT_EQ(connect_from(sources.neighbour, sources.family.mx2).error(), ECONNREFUSED);
      return posternd->counter("postern_kernel_packets_total", {{"counter", "barred"}}) > 0;
    }));
    Connection other = connect_from(sources.other, sources.family.mx2);
    EXPECT_TRUE(other.read_reply().starts_with("220")) << other.transcript();
    EXPECT_TRUE(wait_until("it is let in again", [&] {
      return connect_from(sources.guesser, sources.family.mx2).read_reply().starts_with("220");
    }));
  }
}

TEST_F(Guessing, IsHeldAgainByATableThatWasPutBack) {
  start("max_auth_failures_per_client = 2\n");
  const auto is_held = [&](const char* set, const char* source) {
    return lab.run(Side::router, {"nft", "list", "set", "inet", "postern", set})
        .output.contains(source);
  };
  const auto both_are_held = [&] {
    return is_held("barred4", "198.18.7.1 timeout") &&
           is_held("barred6", "2001:db8:f000:1:: timeout");
  };
  for (int failure = 0; failure < 2; ++failure) {
    attempt(connect_from("198.18.7.1", kIpv4.mx2), kGuess);
    attempt(connect_from("2001:db8:f000:1::1", kIpv6.mx2), kGuess);
  }
  ASSERT_TRUE(wait_until("the kernel holds both", both_are_held));
  ASSERT_EQ(lab.run(Side::router, {"nft", "flush", "ruleset"}).status, 0);
  EXPECT_TRUE(wait_until("the table is back", [&] {
    return posternd->counter("postern_kernel_restored_total", {{"what", "table"}}) == 1;
  }));
  EXPECT_TRUE(wait_until("the kernel holds both again", both_are_held));
}

TEST_F(Guessing, ByWayOfAnExpectedRelayCostsTimeAlone) {
  start("max_auth_failures_per_client = 2\n",
        "expected_relays = [\"198.18.7.1\", \"2001:db8:f000:1::/64\"]\n");
  for (int failure = 0; failure < 3; ++failure) {
    attempt(connect_from("198.18.7.1", kIpv4.mx2), kGuess);
    attempt(connect_from("2001:db8:f000:1::1", kIpv6.mx2), kGuess);
  }
  EXPECT_EQ(posternd->counter("postern_auth_total", {{"result", "refused"}}), 6);
  EXPECT_EQ(posternd->counter("postern_sources_barred_total"), 0);
}

TEST_F(Guessing, DoesNotKeepInternalClientsOut) {
  start("max_auth_failures_per_client = 2\n");
  for (int failure = 0; failure < 4; ++failure) {
    attempt(connect(Side::office, kIpv4.mx2), kGuess);
  }
  EXPECT_EQ(posternd->counter("postern_sources_barred_total"), 0);
  EXPECT_TRUE(attempt(connect(Side::office, kIpv4.mx2), {.name = "u", .password = "secret"})
                  .starts_with("235"));
}

TEST_F(Guessing, ReportsAnAccountThatIsUsedFromEverywhere) {
  start("max_clients_per_user = 3\n");
  const auto spread = [&] {
    return posternd->counter("postern_accounts_spread_total", {{"mailer", "mx2"}});
  };
  for (int source = 1; source <= 6; ++source) {
    attempt(connect_from("198.18.8." + std::to_string(source), kIpv4.mx2),
            {.name = "stolen@script.example", .password = "secret"});
    EXPECT_EQ(spread(), source > 3 ? 1 : 0) << "after " << source << " sources";
  }
  EXPECT_TRUE(posternd->log().contains("stolen@script.example")) << posternd->log();
}

// --- what is left of a password

// What is larger holds no data of the process: it is what a sanitizer notes about its memory.
constexpr std::uint64_t kLargestMapping = std::uint64_t{4} << 30U;

// Where one of `words` stands in the memory of the process, as "word at address (mapping)".
std::vector<std::string> found_in_memory(pid_t process, const std::vector<std::string>& words) {
  std::vector<std::string> found;
  const std::string folder = "/proc/" + std::to_string(process);
  const int memory = ::open((folder + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    char writable = '-';
    if (std::sscanf(line.c_str(), "%lx-%lx r%c", &begin, &end, &writable) != 3 || writable != 'w') {
      continue;
    }
    if (end - begin > kLargestMapping) {
      continue;
    }
    std::string octets(end - begin, '\0');
    const ssize_t count = ::pread(memory, octets.data(), octets.size(), static_cast<off_t>(begin));
    octets.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    for (const std::string& word : words) {
      if (octets.contains(word)) {
        const std::size_t at = octets.find(word);
        found.push_back(word + " in " + line + ": " +
                        ::testing::PrintToString(octets.substr(at < 100 ? 0 : at - 100, 200)));
      }
    }
  }
  ::close(memory);
  return found;
}

class NoPassword : public WithTls {
 protected:
  // A password for each session, so that it can be told which one was kept.
  Account next_account(bool is_right) {
    const std::string password = (is_right ? "right-horse-" : "wrong-horse-") +
                                 std::to_string(accounts_.size()) + "-battery-staple";
    accounts_.push_back({.name = "walter@script.example", .password = password});
    return accounts_.back();
  }
  // In each form in which it went over the wire: the ends of PLAIN's, whose beginning is no secret.
  [[nodiscard]] std::vector<std::string> secrets() const {
    std::vector<std::string> words;
    for (const Account& account : accounts_) {
      const std::string plain = plain_response(account);
      words.insert(words.end(), {account.password, to_base64(account.password).substr(0, 16),
                                 plain.substr(plain.size() / 2)});
    }
    return words;
  }
  [[nodiscard]] Connection session(bool in_tls) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    if (in_tls) {
      EXPECT_TRUE(secure(client));
    }
    EXPECT_TRUE(client.say("EHLO stranger.example").contains("AUTH")) << client.transcript();
    return client;
  }
  void start(std::vector<std::string> options) {
    options.insert(options.end(), {"--certificate", inner_certificate.certificate, "--key",
                                   inner_certificate.private_key, "--password", "right"});
    start_scripted_server(std::move(options));
    start_posternd({.mx2 = terminate("authenticated_relay = true\nauth_requires_tls = false\n"),
                    .smtp = "max_auth_failures_per_client = 1000\nlongest_delay = \"1s\"\n"
                            "drain_timeout = \"1s\"\n",
                    .gateway = "[log]\nlevel = \"debug\"\n"});
  }
  void expect_forgotten() {
    // It would be found.
    for (const pid_t process : {posternd->process().pid(), posternd->proxy_pid()}) {
      EXPECT_NE(found_in_memory(process, {"script.example"}), std::vector<std::string>{});
      EXPECT_EQ(found_in_memory(process, secrets()), std::vector<std::string>{});
    }
    const std::string told = posternd->log() + posternd->postern({"blocked", "--json"}).output +
                             posternd->postern({"counters", "--json"}).output +
                             posternd->postern({"status", "--json"}).output;
    for (const std::string& secret : secrets()) {
      EXPECT_FALSE(told.contains(secret)) << secret << "\n" << told;
    }
  }

 private:
  std::vector<Account> accounts_;
};

TEST_F(NoPassword, IsLeftOfSessionsThatAreOver) {
  start({});
  for (const bool in_tls : {false, true}) {
    for (const bool is_right : {false, true}) {
      for (const char* mechanism : {"PLAIN", "PLAIN-LATE", "LOGIN", "LOGIN-EARLY"}) {
        Connection client = session(in_tls);
        EXPECT_TRUE(authenticate(client, mechanism, next_account(is_right))
                        .starts_with(is_right ? "235" : "535"))
            << client.transcript();
        client.close();  // a guesser would wait for the reply to QUIT
      }
    }
  }
  expect_forgotten();
}

TEST_F(NoPassword, IsLeftOfSessionsThatGoOn) {
  start({});
  std::vector<Connection> clients;
  for (const bool in_tls : {false, true}) {
    for (const char* mechanism : {"PLAIN", "LOGIN"}) {
      clients.push_back(session(in_tls));
      EXPECT_TRUE(authenticate(clients.back(), mechanism, next_account(true)).starts_with("235"));
    }
  }
  expect_forgotten();
}

TEST_F(NoPassword, IsLeftWhileASlowServerThinks) {
  start({"--hold-auth"});
  std::vector<Connection> clients;
  for (const bool in_tls : {false, true}) {
    clients.push_back(session(in_tls));
    clients.back().send("AUTH PLAIN " + plain_response(next_account(true)) + "\r\n");
    clients.push_back(session(in_tls));
    EXPECT_TRUE(clients.back().say("AUTH PLAIN").starts_with("334"));
    clients.back().send(plain_response(next_account(true)) + "\r\n");
  }
  EXPECT_TRUE(wait_until("the server has them", [&] {
    return std::ranges::count_if(scripted->commands(), [](const std::string& line) {
             return line.starts_with("AUTH");
           }) == 4;
  }));
  // The responses to a challenge are no commands of the server's: wait until ours is through.
  EXPECT_TRUE(wait_until(
      "nothing is left", [&] { return found_in_memory(posternd->proxy_pid(), secrets()).empty(); },
      std::chrono::seconds{3}));
  expect_forgotten();
}

TEST_F(NoPassword, IsLeftOfExchangesThatWereBrokenOff) {
  start({});
  int sessions = 0;
  for (const bool in_tls : {false, true}) {
    for (const bool with_reset : {false, true}) {
      // Inside the command, inside a response, before the answer.
      for (const std::string end : {"", "\r\n"}) {
        for (const bool is_early : {false, true}) {
          Connection client = session(in_tls);
          const Account account = next_account(false);
          if (is_early) {
            client.send("AUTH PLAIN " + plain_response(account) + end);
          } else {
            EXPECT_TRUE(client.say("AUTH PLAIN").starts_with("334")) << client.transcript();
            client.send(plain_response(account) + end);
          }
          with_reset ? client.reset() : client.close();
          ++sessions;
        }
      }
      // A line that is no base64 and one that is too long.
      for (const std::string& junk : {"!" + next_account(false).password,
                                      next_account(false).password + std::string(13'000, 'A')}) {
        Connection client = session(in_tls);
        EXPECT_TRUE(client.say("AUTH PLAIN").starts_with("334")) << client.transcript();
        EXPECT_TRUE(client.say(junk).starts_with("5")) << client.transcript();
        client.close();
        ++sessions;
      }
    }
  }
  EXPECT_TRUE(wait_until("all have ended", [&] {
    return posternd->counter("postern_sessions_open") == 0 &&
           std::cmp_equal(scripted->sessions_ended(), sessions);
  }));
  expect_forgotten();
}

}  // namespace
}  // namespace postern::testing
