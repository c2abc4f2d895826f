// Limits on sessions: each by itself, all against a plain model, and from many threads at once.
#include "smtp_proxy/session_ledger.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <iterator>
#include <list>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

namespace postern::smtp_proxy {

void PrintTo(const SessionLedger::Applicant& applicant, std::ostream* out) {
  *out << to_label(applicant.zone) << ' ' << applicant.client.to_string() << " to mailer "
       << applicant.mailer;
}

namespace {

using rules::MailerId;
using rules::Reason;
using rules::Zone;
using Ticket = SessionLedger::Ticket;

constexpr MailerId kMx1 = 0;
constexpr MailerId kMx2 = 7;

SessionLedger::Applicant stranger(const char* address, MailerId mailer = kMx1) {
  return {
      .mailer = mailer, .zone = Zone::external, .client = rules::IpAddress::parse(address).value()};
}

SessionLedger::Applicant insider(const char* address, MailerId mailer = kMx1) {
  return {
      .mailer = mailer, .zone = Zone::internal, .client = rules::IpAddress::parse(address).value()};
}

Settings limits(std::size_t in_all, std::size_t of_mailer, std::size_t of_client) {
  Settings settings;
  settings.max_sessions = in_all;
  settings.max_sessions_per_mailer = of_mailer;
  settings.max_sessions_per_client = of_client;
  return settings;
}

class Ledger : public ::testing::Test {
 protected:
  // The reason why not, or none.
  Reason open(const SessionLedger::Applicant& who, const Settings& settings, bool observe = false) {
    auto admission = ledger.admit(who, settings, observe);
    if (admission.ticket) {
      tickets.push_back(std::move(*admission.ticket));
    }
    return admission.reached;
  }
  void close_all() { tickets.clear(); }

  SessionLedger ledger;
  std::vector<Ticket> tickets;
};

TEST_F(Ledger, HoldsTheLimitInAll) {
  const Settings settings = limits(2, 100, 100);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings), Reason::none);
  EXPECT_EQ(open(insider("203.0.113.7", kMx2), settings), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.2"), settings), Reason::too_many_sessions);
  EXPECT_EQ(open(insider("203.0.113.8"), settings), Reason::too_many_sessions);
  EXPECT_EQ(ledger.size(), 2U);
  tickets.pop_back();
  EXPECT_EQ(open(stranger("198.51.100.2"), settings), Reason::none);
}

TEST_F(Ledger, HoldsTheLimitOfEachMailer) {
  const Settings settings = limits(100, 2, 100);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings), Reason::none);
  EXPECT_EQ(open(insider("203.0.113.7"), settings), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.3"), settings), Reason::too_many_mailer_sessions);
  EXPECT_EQ(open(insider("203.0.113.8"), settings), Reason::too_many_mailer_sessions);
  EXPECT_EQ(open(stranger("198.51.100.3", kMx2), settings), Reason::none);
}

TEST_F(Ledger, HoldsTheLimitOfEachStrangerOverAllMailers) {
  const Settings settings = limits(100, 100, 2);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1", kMx2), settings), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings), Reason::too_many_client_sessions);
  EXPECT_EQ(open(stranger("198.51.100.2"), settings), Reason::none);
}

TEST_F(Ledger, TakesAnIpv6NetworkOf64BitsForOneStranger) {
  const Settings settings = limits(100, 100, 2);
  EXPECT_EQ(open(stranger("2001:db8:1:1::1"), settings), Reason::none);
  EXPECT_EQ(open(stranger("2001:db8:1:1:ffff:ffff:ffff:ffff"), settings), Reason::none);
  EXPECT_EQ(open(stranger("2001:db8:1:1:8000::"), settings), Reason::too_many_client_sessions);
  EXPECT_EQ(open(stranger("2001:db8:1:2::1"), settings), Reason::none);
  EXPECT_EQ(open(stranger("2001:db8:1:0::1"), settings), Reason::none);
  EXPECT_EQ(ledger.strangers(), 3U);
}

TEST_F(Ledger, TakesAMappedAddressForTheIpv4AddressThatItIs) {
  const Settings settings = limits(100, 100, 1);
  EXPECT_EQ(open(stranger("::ffff:198.51.100.1"), settings), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings), Reason::too_many_client_sessions);
  EXPECT_EQ(open(stranger("::ffff:198.51.100.2"), settings), Reason::none);
}

TEST_F(Ledger, HasNoLimitForOneInternalClient) {
  const Settings settings = limits(100, 100, 1);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(open(insider("203.0.113.7"), settings), Reason::none);
  }
  // Nor do they count for a stranger who comes under the same address.
  EXPECT_EQ(open(stranger("203.0.113.7"), settings), Reason::none);
  EXPECT_EQ(open(stranger("203.0.113.7"), settings), Reason::too_many_client_sessions);
}

TEST_F(Ledger, TakesTheLimitsOfTheMoment) {
  EXPECT_EQ(open(stranger("198.51.100.1"), limits(100, 100, 2)), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1"), limits(100, 100, 2)), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1"), limits(100, 100, 1)), Reason::too_many_client_sessions);
  tickets.pop_back();
  EXPECT_EQ(open(stranger("198.51.100.1"), limits(100, 100, 1)), Reason::too_many_client_sessions);
  EXPECT_EQ(open(stranger("198.51.100.1"), limits(100, 100, 2)), Reason::none);
}

TEST_F(Ledger, OnlyObservesAllLimitsButThatInAll) {
  const Settings settings = limits(4, 2, 1);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings, true), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.1"), settings, true), Reason::too_many_client_sessions);
  EXPECT_EQ(open(stranger("198.51.100.2"), settings, true), Reason::too_many_mailer_sessions);
  EXPECT_EQ(ledger.size(), 3U) << "observed ones live and are counted";
  EXPECT_EQ(open(stranger("198.51.100.3", kMx2), settings, true), Reason::none);
  EXPECT_EQ(open(stranger("198.51.100.3", kMx2), settings, true), Reason::too_many_sessions);
  EXPECT_EQ(ledger.size(), 4U);
}

TEST_F(Ledger, HoldsNothingOfSessionsThatAreOver) {
  for (int i = 0; i < 100; ++i) {
    const std::string address = "2001:db8:0:" + std::to_string(i) + "::1";
    EXPECT_EQ(open(stranger(address.c_str(), static_cast<MailerId>(i)), limits(100, 1, 1)),
              Reason::none);
  }
  EXPECT_EQ(ledger.strangers(), 100U);
  close_all();
  EXPECT_EQ(ledger.size(), 0U);
  EXPECT_EQ(ledger.strangers(), 0U);
}

TEST_F(Ledger, GivesAPlaceBackOnceHoweverOftenItsTicketMoves) {
  auto admission = ledger.admit(stranger("198.51.100.1"), limits(9, 9, 9), false);
  {
    const Ticket moved(std::move(*admission.ticket));
    EXPECT_EQ(ledger.size(), 1U);
  }
  EXPECT_EQ(ledger.size(), 0U);
  admission.ticket.reset();
  EXPECT_EQ(ledger.size(), 0U);
}

// The same in the plainest way: a list of who lives, counted anew each time.
struct Model {
  std::vector<SessionLedger::Applicant> live;

  static std::string stranger_name(const rules::IpAddress& client) {
    const auto bytes = client.bytes();
    return {bytes.begin(), bytes.begin() + std::min<std::ptrdiff_t>(8, std::ssize(bytes))};
  }
  [[nodiscard]] Reason reached(const SessionLedger::Applicant& who,
                               const Settings& settings) const {
    const auto of_mailer = std::ranges::count(live, who.mailer, &SessionLedger::Applicant::mailer);
    const auto of_stranger = std::ranges::count_if(live, [&](const auto& other) {
      return other.zone == Zone::external && other.client.is_v4() == who.client.is_v4() &&
             stranger_name(other.client) == stranger_name(who.client);
    });
    if (live.size() >= settings.max_sessions) {
      return Reason::too_many_sessions;
    }
    if (who.zone == Zone::external &&
        static_cast<std::size_t>(of_stranger) >= settings.max_sessions_per_client) {
      return Reason::too_many_client_sessions;
    }
    return static_cast<std::size_t>(of_mailer) >= settings.max_sessions_per_mailer
               ? Reason::too_many_mailer_sessions
               : Reason::none;
  }
};

// Few enough of each kind that they meet.
rc::Gen<SessionLedger::Applicant> any_applicant() {
  const auto address = rc::gen::element<std::string>(
      "198.51.100.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1:1::1",
      "::ffff:198.51.100.2", "c633:6401::");
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange<MailerId>(0, 3), rc::gen::arbitrary<bool>(), address),
      [](const auto& parts) {
        const auto& [mailer, internal, client] = parts;
        return internal ? insider(client.c_str(), mailer) : stranger(client.c_str(), mailer);
      });
}

TEST(LedgerProperty, DecidesAsTheModelDoes) {
  const auto holds = [](const std::vector<std::pair<bool, std::uint32_t>>& steps) {
    SessionLedger ledger;
    std::list<Ticket> tickets;
    Model model;
    for (const auto& [opens, place] : steps) {
      if (!opens && !tickets.empty()) {
        const auto at = static_cast<std::ptrdiff_t>(place % tickets.size());
        tickets.erase(std::next(tickets.begin(), at));
        model.live.erase(model.live.begin() + at);
      } else {
        const auto who = *any_applicant();
        const Settings settings =
            limits(*rc::gen::inRange<std::size_t>(1, 12), *rc::gen::inRange<std::size_t>(1, 6),
                   *rc::gen::inRange<std::size_t>(1, 4));
        const bool observe = *rc::gen::weightedElement<bool>({{3, false}, {1, true}});
        const Reason expected = model.reached(who, settings);
        auto admission = ledger.admit(who, settings, observe);
        RC_ASSERT(admission.reached == expected);
        RC_ASSERT(admission.ticket.has_value() ==
                  (expected == Reason::none || (observe && expected != Reason::too_many_sessions)));
        if (admission.ticket) {
          tickets.push_back(std::move(*admission.ticket));
          model.live.push_back(who);
        }
      }
      RC_ASSERT(ledger.size() == model.live.size());
    }
  };
  EXPECT_TRUE(rc::check("a ledger decides as a plain list of sessions does", holds));
}

// Every thread opens and ends sessions of the same client with the same mailer, as connections
// spread over workers do; none of the limits may ever be passed, and all places must come back.
TEST(LedgerThreads, NeverLetMoreThanTheLimitsThroughAndLoseNoPlace) {
  constexpr std::size_t kThreads = 8;
  constexpr int kRounds = 4000;
  constexpr std::size_t kOfClient = 3;
  const Settings settings = limits(100, 100, kOfClient);
  SessionLedger ledger;
  std::atomic<std::size_t> live = 0;
  std::atomic<std::size_t> most = 0;
  std::atomic<std::size_t> refused = 0;
  std::barrier start(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        for (int round = 0; round < kRounds; ++round) {
          auto admission = ledger.admit(stranger("2001:db8:1::1"), settings, false);
          if (!admission.ticket) {
            refused.fetch_add(1);
            std::this_thread::yield();
            continue;
          }
          const std::size_t now = live.fetch_add(1) + 1;
          for (std::size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
          }
          std::this_thread::yield();
          live.fetch_sub(1);
        }
      });
    }
  }
  EXPECT_EQ(most, kOfClient) << "of " << kThreads << " threads, refused " << refused << " times";
  EXPECT_GT(refused, 0U);
  EXPECT_EQ(ledger.size(), 0U);
  EXPECT_EQ(ledger.strangers(), 0U);
}

}  // namespace
}  // namespace postern::smtp_proxy
