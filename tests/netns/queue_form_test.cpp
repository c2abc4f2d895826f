// The queue step, in the form that this kernel has, and with two workers: what scripts/vm runs on a
// distribution's kernel, where that form is nft's own statement.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

const ConfigText kTwoWorkers{.gateway = "workers = 2\n"};

class QueueForm : public EndToEnd {
 protected:
  [[nodiscard]] bool kernel_knows_the_queue_statement() const {
    const char* const statement =
        "table inet form {\n"
        "chain c { type filter hook prerouting priority 0; policy accept; queue to 65535; }\n"
        "}\n";
    return lab.run(Side::router, {"nft", "-c", "-f", "-"}, statement).status == 0;
  }

  // Numbers of the queues that the kernel ever put a packet in.
  [[nodiscard]] std::set<std::int64_t> used_queues() const {
    std::set<std::int64_t> used;
    const Finished listing = lab.run(Side::router, {"cat", "/proc/net/netfilter/nfnetlink_queue"});
    std::istringstream lines(listing.output);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      const std::vector<std::int64_t> row{std::istream_iterator<std::int64_t>(fields), {}};
      constexpr std::size_t kNumber = 0, kPackets = 7;
      if (row.at(kPackets) > 0) {
        used.insert(row[kNumber]);
      }
    }
    return used;
  }

  [[nodiscard]] Connection from(Side side, const std::string& address, const char* to) {
    Route route = lab.route(side, to);
    route.from = address;
    Connection client(route);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    return client;
  }
};

TEST_F(QueueForm, IsTheOneThatTheKernelHasAndIsShown) {
  const bool is_nft = kernel_knows_the_queue_statement();
  start_posternd(kTwoWorkers);
  const Finished status = posternd->postern({"status", "--json"});
  const std::string form = is_nft ? R"("queue_form":"nft")" : R"("queue_form":"xtables")";
  EXPECT_TRUE(status.output.contains(form)) << form << " is not in " << status.output;
  const std::string statement = "queue flags bypass,fanout to 25-26";
  EXPECT_EQ(
      lab.run(Side::router, {"nft", "list", "table", "inet", "postern"}).output.contains(statement),
      is_nft);
  const Finished ruleset = posternd->postern({"ruleset"});
  EXPECT_TRUE(ruleset.output.contains(statement)) << ruleset.output;
}

TEST_F(QueueForm, SpreadsFlowsOverTheWorkersAndEachIsJudged) {
  start_scripted_server();
  const ScriptedServer unmanaged(lab, Side::inside, {kIpv4.unmanaged, kIpv6.unmanaged});
  start_posternd(kTwoWorkers);
  std::vector<std::string> senders;
  for (const Family& family : kFamilies) {
    const std::string network = family.is_v4() ? "198.18.0." : "2001:db8:f000::";
    for (int i = 1; i <= 8; ++i) {
      senders.push_back(network + std::to_string(i));
      Connection client = from(Side::outside, senders.back(), family.mx2);
      const bool is_ours = i % 2 == 0;
      const std::string reply =
          deliver(client, is_ours ? "user@script.example" : "victim@far.example");
      EXPECT_TRUE(reply.starts_with(is_ours ? "250" : "550 5.7.1")) << client.transcript();
      EXPECT_EQ(error_of_connecting(Side::outside, family.unmanaged, 25, senders.back()),
                ECONNREFUSED);
    }
  }
  EXPECT_EQ(used_queues(), (std::set<std::int64_t>{25, 26}));
  EXPECT_EQ(scripted->peers(), senders) << "the mailer hears from the clients themselves";
  EXPECT_EQ(scripted->messages().size(), 8U) << scripted->log();
  EXPECT_FALSE(scripted->log().contains("far.example")) << scripted->log();
  EXPECT_EQ(flows("unmanaged_destination"), 16);
  EXPECT_TRUE(unmanaged.peers().empty()) << unmanaged.log();
}

TEST_F(QueueForm, LetsInternalClientsRelay) {
  start_scripted_server();
  start_posternd(kTwoWorkers);
  for (const Family& family : kFamilies) {
    Connection client = from(Side::office, family.office_client, family.mx2);
    EXPECT_TRUE(deliver(client, "friend@far.example").starts_with("250")) << client.transcript();
    EXPECT_EQ(scripted->peers().back(), family.office_client);
  }
  EXPECT_EQ(scripted->messages().size(), 2U) << scripted->log();
}

}  // namespace
}  // namespace postern::testing
