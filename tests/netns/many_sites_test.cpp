// Hundreds of mailers, networks and interfaces, and reloads that change them under traffic.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

constexpr int kMailers = 300;
constexpr int kNetworks = 500;
constexpr int kInterfaces = 200;

// `set`: 0 or 1; the two have nothing in common but the lab's own and the mailers' network.
ConfigText many(int set) {
  ConfigText config{.more_networks = ", \"10.200.0.0/16\""};
  const std::string first = std::to_string(2 * set);
  for (int i = 0; i < kInterfaces; ++i) {
    config.more_interfaces += ", \"ext" + first + "." + std::to_string(i) + "\"";
  }
  for (int i = 0; i < kNetworks; ++i) {
    config.more_networks += ", \"10." + std::to_string(110 + 2 * set + i / 250) + "." +
                            std::to_string(i % 250) + ".0/24\"";
  }
  for (int i = 0; i < kMailers; ++i) {
    const std::string high = std::to_string(10 * set + i / 200);
    const std::string low = std::to_string(i % 200 + 1);
    config.more_mailers += "[[mailer]]\nname = \"site" + first + "-" + std::to_string(i) +
                           "\"\naddresses = [\"10.200." + high + "." + low + "\", \"2001:db8:2:f" +
                           high + "::" + low + "\"]\ndomains = [\"site" + std::to_string(i) +
                           ".example\"]\n";
  }
  return config;
}

enum class Expected { greeting, refusal };

// Connects again and again, for as long as it lives, and remembers what it did not expect.
class Traffic {
 public:
  Traffic(Route route, Expected expected)
      : thread_([this, route = std::move(route), expected](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            Connection client(route, expected == Expected::greeting ? kPatience : kDropPatience);
            const bool is_greeted = client.error() == 0 && client.read_reply().starts_with("220");
            if (is_greeted != (expected == Expected::greeting)) {
              const std::lock_guard lock(mutex_);
              surprises_ += "error " + std::to_string(client.error()) + ": " + client.transcript();
            }
            ++tries_;
          }
        }) {}

  [[nodiscard]] int tries() const { return tries_; }
  [[nodiscard]] std::string surprises() const {
    const std::lock_guard lock(mutex_);
    return surprises_;
  }

 private:
  std::atomic<int> tries_ = 0;
  mutable std::mutex mutex_;
  std::string surprises_;
  std::jthread thread_;
};

class ManySites : public EndToEnd {
 protected:
  [[nodiscard]] std::size_t count_in_set(const char* set, std::string_view word) const {
    const std::string text =
        lab.run(Side::router, {"nft", "list", "set", "inet", "postern", set}).output;
    std::size_t count = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
      ++count;
    }
    return count;
  }
};

TEST_F(ManySites, AreInstalledAndAnswerWithinTheTimeOfAFew) {
  start_scripted_server();
  start_postfix();
  start_posternd(many(0));
  EXPECT_EQ(count_in_set("mailers4", "10.200."), std::size_t{kMailers});
  EXPECT_EQ(count_in_set("mailers6", "2001:db8:2:f"), std::size_t{kMailers});
  EXPECT_EQ(count_in_set("external_interfaces", "ext0."), std::size_t{kInterfaces});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
}

// 300 mailers that do not answer: their silence is waited for once, not 600 times.
TEST_F(ManySites, AreAskedAtOnceWhetherTheyAnswer) {
  const Finished routed =
      lab.run(Side::router, {"ip", "route", "add", "10.200.0.0/16", "via", kIpv4.unmanaged});
  ASSERT_EQ(routed.status, 0) << routed.output;
  start_posternd(many(0));
  const auto begin = std::chrono::steady_clock::now();
  const Finished status = posternd->postern({"status"});
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(status.status, 1) << status.output;
  EXPECT_TRUE(status.output.contains("and 282 more mailers, 282 of them not reachable"))
      << status.output;
  EXPECT_LT(took, std::chrono::seconds(8));
}

TEST_F(ManySites, AreChangedByAReloadThatNoConnectionNotices) {
  start_scripted_server();
  start_posternd(many(0));
  Connection held = greeted(Side::outside, kIpv6.mx2);
  ASSERT_TRUE(held.say("EHLO stranger.example").starts_with("250")) << held.transcript();
  ASSERT_TRUE(held.say("MAIL FROM:<someone@stranger.example>").starts_with("250"));
  Route misplaced = lab.route(Side::outside, kIpv4.mx2);
  misplaced.from = kIpv4.misplaced;
  {
    const Traffic v4(lab.route(Side::outside, kIpv4.mx2), Expected::greeting);
    const Traffic v6(lab.route(Side::outside, kIpv6.mx2), Expected::greeting);
    const Traffic internal(lab.route(Side::office, kIpv4.mx2), Expected::greeting);
    const Traffic forged(misplaced, Expected::refusal);
    for (int i = 1; i <= 6; ++i) {
      posternd->write_config(many(i % 2).to_toml(lab));
      const Finished reload = posternd->postern({"reload"});
      ASSERT_EQ(reload.status, 0) << reload.output;
    }
    for (const Traffic* traffic : {&v4, &v6, &internal, &forged}) {
      const int before = traffic->tries();
      EXPECT_TRUE(wait_until("traffic goes on", [&] { return traffic->tries() > before + 2; }));
      EXPECT_EQ(traffic->surprises(), "");
    }
  }
  EXPECT_EQ(count_in_set("mailers4", "10.200."), std::size_t{kMailers});
  EXPECT_TRUE(held.say("RCPT TO:<user@script.example>").starts_with("250")) << held.transcript();
  ASSERT_TRUE(held.say("DATA").starts_with("354")) << held.transcript();
  EXPECT_TRUE(held.say("Subject: x\r\n\r\nx\r\n.").starts_with("250")) << held.transcript();
}

}  // namespace
}  // namespace postern::testing
