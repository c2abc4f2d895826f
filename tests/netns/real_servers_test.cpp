// The hostile sessions of tests/netns/hostile, to the mail servers that people have. Each of them
// would relay for the whole world, so only Postern stands between.
#include "tests/netns/real_servers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/hostile_files.hpp"

namespace postern::testing {
namespace {

// Whether nobody could take it for anybody's outside the domains of HostileFile::config().
bool is_local(std::string recipient) {
  std::ranges::transform(recipient, recipient.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::size_t at = recipient.rfind('@');
  const std::string local_part = recipient.substr(0, at);
  if (local_part.find_first_of("@%!:") != std::string::npos) {
    return false;
  }
  if (at == std::string::npos) {
    return local_part == "postmaster";
  }
  const std::string domain = recipient.substr(at + 1);
  return domain == "example.org" || domain.ends_with(".example.org") ||
         domain == "xn--bcher-kva.example" || domain == "bücher.example";
}

template <typename Server>
class OpenRelay : public EndToEnd {
 protected:
  Server server{lab};

  std::vector<std::string> foreign_recipients() {
    std::vector<std::string> recipients = server.recipients();
    std::erase_if(recipients, is_local);
    return recipients;
  }
};

TYPED_TEST_SUITE(OpenRelay, RealServers, RealServerName);

// Otherwise the other test would show nothing.
TYPED_TEST(OpenRelay, RelaysForAStrangerWhereNobodyStandsBetween) {
  for (const Family& family : kFamilies) {
    Connection client = this->connect(Side::inside, family.mx1);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "victim@far.example").starts_with("250")) << client.transcript();
  }
  EXPECT_TRUE(wait_until("both are accepted", [&] { return this->server.accepted() == 2; }))
      << this->server.log();
  EXPECT_EQ(this->foreign_recipients(),
            (std::vector<std::string>{"victim@far.example", "victim@far.example"}))
      << this->server.log();
}

TYPED_TEST(OpenRelay, NeverHearsOfAForeignRecipientThroughPostern) {
  this->start_scripted_server();
  std::size_t acknowledged = 0;
  std::vector<HostileFile> files = hostile_files();
  std::ranges::stable_sort(files, {}, &HostileFile::settings);
  std::string settings;
  for (const HostileFile& file : files) {
    if (!this->posternd || settings != file.settings()) {
      settings = file.settings();
      this->start_posternd(file.config());
    }
    const Finished sessions = run_hostile_sessions(this->lab, file);
    EXPECT_EQ(sessions.status, 0) << sessions.output;
    acknowledged += count_acknowledged(sessions);
    EXPECT_EQ(this->foreign_recipients(), std::vector<std::string>{}) << file.path;
  }
  // What clients were told of has arrived.
  EXPECT_GT(acknowledged, 100U);
  EXPECT_TRUE(wait_until("all are logged", [&] { return this->server.accepted() >= acknowledged; }))
      << this->server.accepted() << " messages of " << acknowledged;
  EXPECT_GT(this->server.recipients().size(), acknowledged);
}

}  // namespace
}  // namespace postern::testing
