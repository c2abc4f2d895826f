// Who guesses, and whose account is used from everywhere: by a clock of the test's own, all against
// a plain model, and from many threads at once.
#include "smtp_proxy/auth_ledger.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <map>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

namespace postern::smtp_proxy {

bool operator==(const AuthLedger::FailureVerdict& a, const AuthLedger::FailureVerdict& b) {
  return a.delay == b.delay && a.barred_for == b.barred_for && a.was_barred_now == b.was_barred_now;
}

void PrintTo(const AuthLedger::FailureVerdict& verdict, std::ostream* out) {
  *out << "delay " << verdict.delay.count() << " s, barred for " << verdict.barred_for.count()
       << " s" << (verdict.was_barred_now ? ", now" : "");
}

std::ostream& operator<<(std::ostream& out, const AuthLedger::FailureVerdict& verdict) {
  PrintTo(verdict, &out);
  return out;
}

namespace {

using namespace std::chrono_literals;
using std::chrono::seconds;
using TimePoint = AuthLedger::Clock::time_point;
using Verdict = AuthLedger::FailureVerdict;

rules::IpAddress ip(const std::string& text) {
  return rules::IpAddress::parse(text).value();
}

Verdict waits(seconds delay) {
  return {.delay = delay};
}
Verdict is_barred_now(seconds duration) {
  return {.barred_for = duration, .was_barred_now = true};
}
Verdict is_barred_still(seconds duration) {
  return {.barred_for = duration};
}

class Guessing : public ::testing::Test {
 protected:
  Guessing() {
    limits.max_auth_failures_per_client = 4;
    limits.max_auth_failures_per_user = 3;
    limits.auth_failure_window = 600s;
    limits.auth_refusal_time = 100s;
    limits.longest_delay = 30s;
    limits.max_clients_per_user = 2;
    limits.auth_spread_window = 3600s;
  }

  Verdict fail(const std::string& source, std::string_view user = "") {
    return ledger.note_failure(ip(source), user, limits, now);
  }
  AuthLedger::SuccessVerdict succeed(const std::string& source, std::string_view user) {
    return ledger.note_success(ip(source), user, limits, now);
  }
  bool is_barred(const std::string& source) const { return ledger.is_barred(ip(source), now); }
  void bar(const std::string& source) {
    for (std::size_t i = 1; i < limits.max_auth_failures_per_client; ++i) {
      ASSERT_FALSE(fail(source).was_barred_now);
    }
    ASSERT_TRUE(fail(source).was_barred_now);
  }

  Settings limits;
  AuthLedger ledger;
  TimePoint now{1000s};
};

TEST_F(Guessing, WaitsTwiceAsLongEachTimeAndIsBarredAtTheLimit) {
  EXPECT_EQ(fail("198.51.100.1"), waits(1s));
  EXPECT_EQ(fail("198.51.100.1"), waits(2s));
  EXPECT_EQ(fail("198.51.100.1"), waits(4s));
  EXPECT_FALSE(is_barred("198.51.100.1"));
  EXPECT_EQ(fail("198.51.100.1"), is_barred_now(100s));
  EXPECT_TRUE(is_barred("198.51.100.1"));
  EXPECT_FALSE(is_barred("198.51.100.2"));
}

TEST_F(Guessing, NeverWaitsLongerThanTheLongestDelay) {
  limits.max_auth_failures_per_client = 200;
  for (const seconds delay : {1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
    EXPECT_EQ(fail("198.51.100.1"), waits(delay));
  }
  for (int i = 0; i < 150; ++i) {
    ASSERT_EQ(fail("198.51.100.1"), waits(30s)) << i;
  }
  limits.longest_delay = 0s;
  EXPECT_EQ(fail("198.51.100.1"), waits(0s));
}

TEST_F(Guessing, StaysBarredForTheTimeAndIsHeardAsBefore) {
  bar("198.51.100.1");
  now += 99s + 1ms;
  EXPECT_TRUE(is_barred("198.51.100.1"));
  EXPECT_EQ(fail("198.51.100.1"), is_barred_still(1s)) << "a session that was there before";
  now += 999ms;
  EXPECT_FALSE(is_barred("198.51.100.1"));
  EXPECT_EQ(fail("198.51.100.1"), waits(1s));
}

TEST_F(Guessing, IsBarredTwiceAsLongWhenItGoesOn) {
  bar("198.51.100.1");
  seconds duration = 100s;
  while (duration < 24h) {
    now += duration;
    duration = std::min<seconds>(2 * duration, 24h);
    limits.auth_failure_window = 1s;
    for (int i = 0; i < 3; ++i) {
      ASSERT_FALSE(fail("198.51.100.1").was_barred_now);
    }
    EXPECT_EQ(fail("198.51.100.1"), is_barred_now(duration));
  }
  now += 24h;
  bar("198.51.100.1");
  EXPECT_EQ(fail("198.51.100.1"), is_barred_still(24h));
  now += 24h + 24h - 1s;
  bar("198.51.100.1");
  EXPECT_EQ(fail("198.51.100.1"), is_barred_still(24h)) << "within a day of the end of the last";
  now += 24h + 24h;
  bar("198.51.100.1");
  EXPECT_EQ(fail("198.51.100.1"), is_barred_still(100s)) << "a day without a bar is forgotten";
}

TEST_F(Guessing, IsBarredAsLongAsTheAdministratorSaysEvenWhereThatIsLongerThanADay) {
  limits.auth_refusal_time = 48h;
  bar("198.51.100.1");
  now += 48h;
  bar("198.51.100.1");
  EXPECT_EQ(fail("198.51.100.1"), is_barred_still(48h));
}

TEST_F(Guessing, ByWayOfAnExpectedRelayOnlyWaits) {
  limits.expected_relays.add(rules::Prefix::parse("198.51.100.0/24").value());
  limits.expected_relays.add(rules::Prefix::parse("2001:db8:1::25").value());
  for (const char* relay : {"198.51.100.1", "2001:db8:1::25"}) {
    Verdict verdict;
    for (std::size_t i = 0; i < 2 * limits.max_auth_failures_per_client; ++i) {
      verdict = fail(relay);
      ASSERT_FALSE(verdict.was_barred_now) << relay;
    }
    EXPECT_EQ(verdict, waits(limits.longest_delay)) << relay;
    EXPECT_FALSE(is_barred(relay)) << relay;
  }
  EXPECT_EQ(fail("2001:db8:1::26"), waits(limits.longest_delay)) << "it is refused with its /64";
  bar("198.51.101.1");
  bar("2001:db8:1:1::25");
}

TEST_F(Guessing, IsForgottenWithItsWindow) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(fail("198.51.100.1"), waits(1s));
    now += 300s;
    EXPECT_EQ(fail("198.51.100.1"), waits(2s));
    now += 299s;
    EXPECT_EQ(fail("198.51.100.1"), waits(4s));
    now += 1s;
  }
}

TEST_F(Guessing, IsOfAnIpv6NetworkOf64Bits) {
  fail("2001:db8:1:1::1");
  fail("2001:db8:1:1::2");
  fail("2001:db8:1:1:ffff::");
  EXPECT_EQ(fail("2001:db8:1:2::1"), waits(1s));
  EXPECT_EQ(fail("2001:db8:1:1:8000::1"), is_barred_now(100s));
  EXPECT_TRUE(is_barred("2001:db8:1:1:1234::"));
  EXPECT_FALSE(is_barred("2001:db8:1:2::1"));
  fail("198.51.100.1");
  EXPECT_EQ(fail("::ffff:198.51.100.1"), waits(2s));
}

TEST_F(Guessing, OfOneUserFromEverywhereCostsTheLongestDelayAndBarsNobody) {
  EXPECT_EQ(fail("198.51.100.1", "tim"), waits(1s));
  EXPECT_EQ(fail("198.51.100.2", "Tim"), waits(1s));
  EXPECT_EQ(fail("198.51.100.3", "TIM"), waits(1s));
  EXPECT_EQ(fail("198.51.100.4", "tim"), waits(30s));
  EXPECT_EQ(fail("198.51.100.5", "tom"), waits(1s));
  EXPECT_EQ(fail("198.51.100.6", ""), waits(1s));
  for (int i = 1; i <= 6; ++i) {
    EXPECT_FALSE(is_barred("198.51.100." + std::to_string(i)));
  }
  now += 600s;
  EXPECT_EQ(fail("198.51.100.7", "tim"), waits(1s));
}

TEST_F(Guessing, OfABarredSourceStillCountsForTheUser) {
  bar("198.51.100.1");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(fail("198.51.100.1", "tim"), is_barred_still(100s));
  }
  EXPECT_EQ(fail("198.51.100.2", "tim"), waits(30s));
}

TEST_F(Guessing, IsNotForgivenForOneAccountOfOnesOwn) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(fail("198.51.100.1", "tim").was_barred_now);
    (void)succeed("198.51.100.1", "mallory");
    (void)succeed("198.51.100.1", "tim");
  }
  EXPECT_EQ(fail("198.51.100.1", "tim"), is_barred_now(100s));
}

TEST_F(Guessing, TakesTheLimitsOfTheMoment) {
  fail("198.51.100.1");
  fail("198.51.100.1");
  limits.max_auth_failures_per_client = 2;
  EXPECT_EQ(fail("198.51.100.1"), is_barred_now(100s));
}

TEST_F(Guessing, IsNotFlushedOutBySprayingOnceItIsBarred) {
  AuthLedger small({.sources = 4, .barred = 2, .users = 4, .places = 4});
  const auto fail_at = [&](const std::string& source) {
    return small.note_failure(ip(source), "", limits, now);
  };
  for (int i = 0; i < 4; ++i) {
    (void)fail_at("198.51.100.1");
  }
  for (int i = 0; i < 1000; ++i) {
    now += 1ms;
    (void)fail_at("2001:db8:" + std::to_string(i) + "::1");
  }
  EXPECT_TRUE(small.is_barred(ip("198.51.100.1"), now));
  // Whoever was not caught is forgotten, the one who was silent for longest first.
  EXPECT_EQ(fail_at("2001:db8:996::1"), waits(2s));
  EXPECT_EQ(fail_at("2001:db8:995::1"), waits(1s));
  // Only by as many guessers as there is room for barred ones.
  for (const std::string source : {"198.51.100.2", "198.51.100.3"}) {
    for (int i = 0; i < 4; ++i) {
      (void)fail_at(source);
    }
  }
  EXPECT_FALSE(small.is_barred(ip("198.51.100.1"), now));
  EXPECT_TRUE(small.is_barred(ip("198.51.100.2"), now));
  EXPECT_TRUE(small.is_barred(ip("198.51.100.3"), now));
}

TEST_F(Guessing, IsHeldNoLongerThanItMatters) {
  for (int i = 0; i < 50; ++i) {
    fail("2001:db8:" + std::to_string(i) + "::1", "user" + std::to_string(i));
  }
  bar("198.51.100.1");
  EXPECT_EQ(ledger.size().sources, 50U) << "a barred one is in the other table";
  EXPECT_EQ(ledger.size().users, 50U);
  EXPECT_EQ(ledger.size().barred, 1U);
  now += 100s + 24h;
  bar("198.51.100.2");
  EXPECT_EQ(ledger.size().barred, 1U);
  fail("198.51.100.3", "tim");
  EXPECT_EQ(ledger.size().sources, 1U);
  EXPECT_EQ(ledger.size().users, 1U);
}

// ---- one account, many places

class Spreading : public Guessing {};

TEST_F(Spreading, IsToldOnceAWindow) {
  EXPECT_EQ(succeed("198.51.100.1", "tim").sources, 1U);
  EXPECT_EQ(succeed("198.51.100.1", "tim").sources, 1U);
  EXPECT_EQ(succeed("198.51.100.2", "TIM").sources, 2U);
  EXPECT_FALSE(succeed("198.51.100.2", "tim").spread_now) << "the limit itself is allowed";
  now += 60s;
  const auto third = succeed("198.51.100.3", "tim");
  EXPECT_EQ(third.sources, 3U);
  EXPECT_TRUE(third.spread_now);
  EXPECT_FALSE(succeed("198.51.100.4", "tim").spread_now);
  EXPECT_FALSE(succeed("198.51.100.5", "tom").spread_now) << "another one";
  now += 3599s;
  EXPECT_FALSE(succeed("198.51.100.6", "tim").spread_now);
  for (const auto* source : {"198.51.100.7", "198.51.100.8"}) {
    EXPECT_FALSE(succeed(source, "tim").spread_now);
  }
  now += 1s;
  EXPECT_TRUE(succeed("198.51.100.9", "tim").spread_now) << "a window after it was told last";
}

TEST_F(Spreading, CountsOnlyThePlacesWithinTheWindow) {
  (void)succeed("198.51.100.1", "tim");
  now += 1800s;
  (void)succeed("198.51.100.2", "tim");
  now += 1799s;
  EXPECT_EQ(succeed("198.51.100.2", "tim").sources, 2U);
  now += 1s;
  EXPECT_EQ(succeed("198.51.100.3", "tim").sources, 2U) << "the first is an hour old";
  now += 3600s;
  EXPECT_EQ(succeed("198.51.100.3", "tim").sources, 1U);
}

TEST_F(Spreading, TakesAnIpv6NetworkOf64BitsForOnePlace) {
  (void)succeed("2001:db8:1:1::1", "tim");
  EXPECT_EQ(succeed("2001:db8:1:1::2", "tim").sources, 1U);
  EXPECT_EQ(succeed("2001:db8:1:2::2", "tim").sources, 2U);
}

TEST_F(Spreading, OfNobodyIsNothing) {
  for (int i = 1; i < 9; ++i) {
    const auto verdict = succeed("198.51.100." + std::to_string(i), "");
    EXPECT_EQ(verdict.sources, 0U);
    EXPECT_FALSE(verdict.spread_now);
  }
  EXPECT_EQ(ledger.size().places, 0U);
}

// ---- against the plainest way to say it

struct Model {
  struct Counted {
    TimePoint began;
    std::size_t count = 0;
  };
  struct Barred {
    TimePoint end;
    seconds duration{0};
  };
  std::map<std::string, Counted> of_source;
  std::map<std::string, Counted> of_user;
  std::map<std::string, Barred> barred;
  std::map<std::string, std::map<std::string, TimePoint>> places;
  std::map<std::string, TimePoint> told;

  static std::size_t count(Counted& counted, TimePoint now, seconds window) {
    if (counted.count == 0 || now >= counted.began + window) {
      counted = {.began = now, .count = 0};
    }
    return ++counted.count;
  }

  Verdict fail(const std::string& source, const std::string& user, const Settings& limits,
               TimePoint now) {
    const std::size_t users =
        user.empty() ? 0 : count(of_user[user], now, limits.auth_failure_window);
    if (barred.contains(source) && now < barred[source].end) {
      return is_barred_still(std::chrono::ceil<seconds>(barred[source].end - now));
    }
    const std::size_t sources = count(of_source[source], now, limits.auth_failure_window);
    if (sources >= limits.max_auth_failures_per_client) {
      of_source.erase(source);
      const bool again = barred.contains(source) && now < barred[source].end + 24h;
      const seconds duration =
          again ? std::min<seconds>(2 * barred[source].duration, 24h) : limits.auth_refusal_time;
      barred[source] = {.end = now + duration, .duration = duration};
      return is_barred_now(duration);
    }
    seconds delay = 1s;
    for (std::size_t i = 1; i < sources; ++i) {
      delay = std::min(2 * delay, limits.longest_delay);
    }
    return waits(users > limits.max_auth_failures_per_user ? limits.longest_delay : delay);
  }

  AuthLedger::SuccessVerdict succeed(const std::string& source, const std::string& user,
                                     const Settings& limits, TimePoint now) {
    if (user.empty()) {
      return {};
    }
    auto& of_this = places[user];
    of_this[source] = now;
    std::erase_if(of_this,
                  [&](const auto& item) { return now >= item.second + limits.auth_spread_window; });
    const bool is_many = of_this.size() > limits.max_clients_per_user;
    const bool tells =
        is_many && (!told.contains(user) || now >= told[user] + limits.auth_spread_window);
    if (tells) {
      told[user] = now;
    }
    return {.sources = of_this.size(), .spread_now = tells};
  }
};

Settings any_limits() {
  Settings limits;
  limits.max_auth_failures_per_client = *rc::gen::inRange<std::size_t>(1, 6);
  limits.max_auth_failures_per_user = *rc::gen::inRange<std::size_t>(1, 6);
  limits.auth_failure_window = seconds(*rc::gen::inRange(1, 60));
  limits.auth_refusal_time = seconds(*rc::gen::inRange(1, 60));
  limits.longest_delay = seconds(*rc::gen::inRange(1, 40));
  limits.max_clients_per_user = *rc::gen::inRange<std::size_t>(1, 4);
  limits.auth_spread_window = seconds(*rc::gen::inRange(1, 90));
  return limits;
}

struct Step {
  bool succeeds;
  std::uint16_t source;
  std::uint16_t user;  // 0: not known
  std::uint32_t pause_milliseconds;
};

void showValue(const Step& step, std::ostream& out) {
  out << (step.succeeds ? "success" : "failure") << " of user " << step.user << " at source "
      << step.source << ", then " << step.pause_milliseconds << " ms";
}

rc::Gen<std::vector<Step>> any_steps(std::uint16_t sources, std::uint16_t users) {
  const auto pause = rc::gen::oneOf(rc::gen::just(0U), rc::gen::inRange(0U, 20'000U),
                                    rc::gen::element(1'000U, 60'000U, 86'400'000U));
  return rc::gen::container<std::vector<Step>>(
      rc::gen::construct<Step>(rc::gen::weightedElement<bool>({{3, false}, {1, true}}),
                               rc::gen::inRange<std::uint16_t>(0, sources),
                               rc::gen::inRange<std::uint16_t>(0, users), pause));
}

// Half of them IPv6, where only the first 64 bits tell them apart.
std::string address_of(std::uint16_t source, std::uint32_t salt) {
  return source % 2 == 0
             ? "198.51." + std::to_string(source / 256) + '.' + std::to_string(source % 256)
             : "2001:db8:0:" + std::to_string(source % 10'000) + "::" + std::to_string(salt % 9);
}

std::string name_of(std::uint16_t user, std::uint32_t salt) {
  return user == 0 ? "" : (salt % 2 == 0 ? "User" : "user") + std::to_string(user);
}

TEST(AuthLedgerProperty, DecidesAsTheModelDoes) {
  const auto holds = [] {
    const Settings limits = any_limits();
    AuthLedger ledger;
    Model model;
    TimePoint now{};
    for (const Step& step : *any_steps(4, 4)) {
      const auto source = ip(address_of(step.source, step.pause_milliseconds));
      const std::string user = name_of(step.user, step.pause_milliseconds);
      const std::string place = std::to_string(step.source);
      const std::string account = name_of(step.user, 0);
      if (step.succeeds) {
        const auto got = ledger.note_success(source, user, limits, now);
        const auto wanted = model.succeed(place, account, limits, now);
        RC_ASSERT(got.sources == wanted.sources);
        RC_ASSERT(got.spread_now == wanted.spread_now);
      } else {
        RC_ASSERT(ledger.note_failure(source, user, limits, now) ==
                  model.fail(place, account, limits, now));
      }
      RC_ASSERT(ledger.is_barred(source, now) ==
                (model.barred.contains(place) && now < model.barred[place].end));
      now += std::chrono::milliseconds(step.pause_milliseconds);
    }
  };
  EXPECT_TRUE(rc::check("a ledger decides as a plain one with room for all does", holds));
}

TEST(AuthLedgerProperty, HoldsItsBoundsAndBarsNobodyBelowTheLimit) {
  const auto holds = [] {
    const Settings limits = any_limits();
    const AuthLedger::Capacity capacity{.sources = *rc::gen::inRange<std::size_t>(1, 5),
                                        .barred = *rc::gen::inRange<std::size_t>(1, 3),
                                        .users = *rc::gen::inRange<std::size_t>(1, 5),
                                        .places = *rc::gen::inRange<std::size_t>(1, 5)};
    AuthLedger ledger(capacity);
    std::map<std::uint16_t, std::vector<TimePoint>> failures;
    TimePoint now{};
    for (const Step& step : *any_steps(9, 9)) {
      const auto source = ip(address_of(step.source, step.pause_milliseconds));
      const std::string user = name_of(step.user, step.pause_milliseconds);
      if (step.succeeds) {
        RC_ASSERT(ledger.note_success(source, user, limits, now).sources <= capacity.places);
      } else {
        failures[step.source].push_back(now);
        if (ledger.note_failure(source, user, limits, now).was_barred_now) {
          const auto recent = std::ranges::count_if(failures[step.source], [&](TimePoint then) {
            return now - then < limits.auth_failure_window;
          });
          RC_ASSERT(static_cast<std::size_t>(recent) >= limits.max_auth_failures_per_client);
          RC_ASSERT(ledger.is_barred(source, now));
        }
      }
      const AuthLedger::Capacity size = ledger.size();
      RC_ASSERT(size.sources <= capacity.sources);
      RC_ASSERT(size.barred <= capacity.barred);
      RC_ASSERT(size.users <= capacity.users);
      RC_ASSERT(size.places <= capacity.places);
      now += std::chrono::milliseconds(step.pause_milliseconds);
    }
  };
  EXPECT_TRUE(rc::check("no sequence breaks the bounds or bars too early", holds));
}

// ---- from many threads

// Every worker hears of failures of one guesser, and of others, and asks for every new flow.
TEST(AuthLedgerThreads, BarOnceAndLoseNoFailure) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kRounds = 500;
  Settings limits;
  limits.max_auth_failures_per_client = kThreads * kRounds / 2;
  limits.auth_refusal_time = 1h;
  limits.max_clients_per_user = 3;
  const TimePoint now = AuthLedger::Clock::now();
  AuthLedger ledger;
  std::atomic<std::size_t> barred = 0;
  std::atomic<std::size_t> heard_as_barred = 0;
  std::atomic<std::size_t> spread = 0;
  std::barrier start(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const auto own = ip("198.51.100." + std::to_string(i));
        start.arrive_and_wait();
        for (std::size_t round = 0; round < kRounds; ++round) {
          const bool was_refused = ledger.is_barred(ip("2001:db8:1::1"), now);
          const auto verdict = ledger.note_failure(ip("2001:db8:1::1"), "tim", limits, now);
          barred += verdict.was_barred_now ? 1 : 0;
          heard_as_barred += verdict.barred_for > 0s ? 1 : 0;
          EXPECT_TRUE(!was_refused || verdict.barred_for > 0s);
          spread += ledger.note_success(own, "tim", limits, now).spread_now ? 1 : 0;
          EXPECT_FALSE(ledger.is_barred(own, now));
        }
      });
    }
  }
  EXPECT_EQ(barred, 1U);
  EXPECT_EQ(heard_as_barred, kThreads * kRounds - limits.max_auth_failures_per_client + 1);
  EXPECT_EQ(spread, 1U);
  EXPECT_TRUE(ledger.is_barred(ip("2001:db8:1::1"), now));
}

}  // namespace
}  // namespace postern::smtp_proxy
