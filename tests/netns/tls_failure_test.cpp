// TLS that breaks inside a message, on either side: nothing that was acknowledged is lost, nothing that
// was not is stored.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

constexpr const char* kUser = "user@script.example";

enum class Break { reset, end_of_stream, close_notify, wrong_record, half_a_record, clear_text };

struct Way {
  const char* name;
  Break how;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

constexpr Way kWays[] = {{"Reset", Break::reset},
                         {"EndOfStream", Break::end_of_stream},
                         {"CloseNotify", Break::close_notify},
                         {"WrongRecord", Break::wrong_record},
                         {"HalfARecord", Break::half_a_record},
                         {"ClearText", Break::clear_text}};

void break_tls(Connection& client, Break how) {
  using namespace std::string_literals;
  switch (how) {
    case Break::reset:
      client.reset();
      return;
    case Break::end_of_stream:
      client.shut_down_sending();
      return;
    case Break::close_notify:
      client.say_close_notify();
      client.shut_down_sending();
      return;
    case Break::wrong_record:  // what it says does not carry the right authentication tag
      client.send_in_clear("\x17\x03\x03\x00\x20"s + std::string(32, '.'));
      return;
    case Break::half_a_record:
      client.send_in_clear("\x17\x03\x03\x01\x00"s + std::string(100, '.'));
      client.shut_down_sending();
      return;
    case Break::clear_text:
      client.send_in_clear("\r\n.\r\nQUIT\r\n");
      return;
  }
}

class BrokenTls : public WithTls, public ::testing::WithParamInterface<std::tuple<Way, bool>> {
 protected:
  void start_server(std::vector<std::string> options = {}) {
    options.insert(options.end(), {"--certificate", inner_certificate.certificate, "--key",
                                   inner_certificate.private_key});
    start_scripted_server(std::move(options));
  }
  void start_in_message(Connection& client, std::string_view content) {
    ASSERT_TRUE(secure(client));
    client.say("EHLO stranger.example");
    client.say("MAIL FROM:<a@stranger.example>");
    client.say(std::string("RCPT TO:<") + kUser + ">");
    ASSERT_TRUE(client.say("DATA").starts_with("354")) << client.transcript();
    client.send(content);
  }
};

TEST_P(BrokenTls, LeavesNoMessageBehindWhenTheClientBreaksIt) {
  const auto& [way, is_secured_behind] = GetParam();
  // One that would take the end of the stream for the end of a line.
  start_server({"--lax"});
  start_posternd({.mx2 = terminate(is_secured_behind ? "" : "upstream_tls = \"off\"\n"),
                  .smtp = "data_block_timeout = \"2s\"\n"});
  std::int64_t broken = 0;
  for (const std::string content :
       {"half a li", "a line\r\n", "a line\r\n.", "a line\r\n.\r", "", "a line\n"}) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    start_in_message(client, content);
    break_tls(client, way.how);
    ++broken;
    if (way.how != Break::reset) {
      const std::string said = client.read_to_end();
      EXPECT_FALSE(said.contains("250")) << said << client.transcript();
    }
  }
  EXPECT_TRUE(wait_until("all have ended on the server's side", [&] {
    return std::cmp_equal(scripted->sessions_ended(), broken);
  })) << posternd->log();
  EXPECT_TRUE(scripted->messages().empty()) << scripted->log();
  EXPECT_TRUE(wait_until("all are counted", [&] {
    return posternd->counter("postern_messages_total", {{"outcome", "aborted"}}) == broken;
  }));
  // Others are served.
  Connection client = greeted(Side::outside, kIpv4.mx2);
  ASSERT_TRUE(secure(client));
  EXPECT_TRUE(deliver(client, kUser).starts_with("250")) << client.transcript();
  EXPECT_EQ(scripted->messages().size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(EveryWay, BrokenTls,
                         ::testing::Combine(::testing::ValuesIn(kWays), ::testing::Bool()),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param).name) +
                                  (std::get<1>(row.param) ? "TlsBehind" : "ClearBehind");
                         });

TEST_F(BrokenTls, IsNoMessageAcceptedWhenTheServerBreaksIt) {
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--break-tls-at", "DATA"},
        {"--break-tls-at", "BODY"},
        {"--close-at", "DATA"},
        {"--close-at", "BODY"}}) {
    SCOPED_TRACE(options[0] + " " + options[1]);
    start_server(options);
    start_posternd({.mx2 = terminate("upstream_tls = \"require\"\n")});
    Connection client = greeted(Side::outside, kIpv6.mx2);
    ASSERT_TRUE(secure(client));
    client.say("EHLO stranger.example");
    client.say("MAIL FROM:<a@stranger.example>");
    client.say(std::string("RCPT TO:<") + kUser + ">");
    std::string reply = client.say("DATA");
    if (reply.starts_with("354")) {
      std::string body;
      for (int line = 0; line < 20'000; ++line) {
        body += "line " + std::to_string(line) + "\r\n";
      }
      client.send(body + ".\r\n");
      reply = client.read_reply();
    }
    EXPECT_TRUE(reply.starts_with("421 4.")) << client.transcript();
    EXPECT_TRUE(scripted->messages().empty()) << scripted->log();
    client.close();
    scripted.reset();
  }
}

// What the client was told of has arrived, whatever becomes of its connection.
TEST_F(BrokenTls, LosesNothingThatWasAcknowledged) {
  start_server();
  start_posternd({.mx2 = terminate()});
  std::size_t acknowledged = 0;
  for (const Way& way : kWays) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    ASSERT_TRUE(secure(client));
    for (int message = 0; message < 3; ++message) {
      EXPECT_TRUE(deliver(client, kUser, "number " + std::to_string(++acknowledged) + "\r\n")
                      .starts_with("250"))
          << client.transcript();
    }
    break_tls(client, way.how);
  }
  const auto stored = scripted->messages();
  ASSERT_EQ(stored.size(), acknowledged);
  for (std::size_t number = 1; number <= acknowledged; ++number) {
    EXPECT_EQ(stored[number - 1].data, "number " + std::to_string(number) + "\r\n");
  }
}

}  // namespace
}  // namespace postern::testing
