// The proxy between a real socket and a server that obeys whatever it is told.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

class ProxiedDialogue : public EndToEnd {
 protected:
  [[nodiscard]] bool heard(std::string_view word) const {
    for (const std::string& command : scripted->commands()) {
      if (command.contains(word)) {
        return true;
      }
    }
    return false;
  }
};

TEST_F(ProxiedDialogue, AnswersPipelinedCommandsInTheirOrder) {
  start_scripted_server({"--delay", "20"});
  start_posternd();
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(client.say("EHLO stranger.example").contains("PIPELINING")) << client.transcript();
  client.send(
      "MAIL FROM:<a@stranger.example>\r\nRCPT TO:<one@script.example>\r\n"
      "RCPT TO:<victim@far.example>\r\nRCPT TO:<two@script.example>\r\nDATA\r\n");
  for (const char* reply : {"250 ", "250 ", "550 5.7.1 ", "250 ", "354 "}) {
    EXPECT_TRUE(client.read_reply().starts_with(reply)) << reply << "\n" << client.transcript();
  }
  client.send("hello\r\n.\r\nNOOP\r\nQUIT\r\n");
  for (const char* reply : {"250 ", "250 ", "221 "}) {
    EXPECT_TRUE(client.read_reply().starts_with(reply)) << reply << "\n" << client.transcript();
  }
  EXPECT_EQ(client.read_to_end(), "");
  ASSERT_EQ(scripted->messages().size(), 1U);
  EXPECT_EQ(scripted->messages()[0].recipients,
            (std::vector<std::string>{"TO:<one@script.example>", "TO:<two@script.example>"}));
  EXPECT_FALSE(heard("far.example")) << scripted->log();
}

TEST_F(ProxiedDialogue, WorksWithAServerThatDoesNotPipeline) {
  start_scripted_server({"--no-pipelining"});
  start_posternd();
  Connection client = greeted(Side::outside, kIpv6.mx2);
  EXPECT_FALSE(client.say("EHLO stranger.example").contains("PIPELINING")) << client.transcript();
  EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
}

TEST_F(ProxiedDialogue, ShowsOnlyExtensionsItUnderstands) {
  start_scripted_server(
      {"--extension", "STARTTLS", "--extension", "BINARYMIME", "--extension", "AUTH PLAIN LOGIN"});
  start_posternd({.mx2 = "upstream_tls = \"off\"\n"});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  const std::string reply = client.say("EHLO stranger.example");
  EXPECT_TRUE(reply.contains("SIZE 52428800") && reply.contains("8BITMIME")) << reply;
  for (const char* hidden : {"STARTTLS", "BINARYMIME", "AUTH", "XINNER"}) {
    EXPECT_FALSE(reply.contains(hidden)) << reply;
  }
  EXPECT_TRUE(client.say("STARTTLS").starts_with("502")) << client.transcript();
  EXPECT_FALSE(heard("STARTTLS")) << scripted->log();
}

TEST_F(ProxiedDialogue, NeverForwardsARecipientThatSomeServerMightSendOn) {
  start_scripted_server();
  start_posternd({.smtp = "max_errors = 1000\nmax_refused_recipients = 1000\n"
                          "refusals_before_delay = 1000\n"});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  client.say("EHLO stranger.example");
  client.say("MAIL FROM:<someone@script.example>");
  for (const char* argument :
       {"<victim@far.example>", "<@script.example:victim@far.example>",
        "<victim%far.example@script.example>", "<far.example!victim@script.example>",
        "<\"victim@far.example\"@script.example>", "<victim@[192.0.2.1]>", "<victim>",
        "<victim@far.example@script.example>", "<user@script.example>,<victim@far.example>",
        "<user@script.example> <victim@far.example>", "victim@far.example", "<victim@far.example.>",
        "<victim@FAR.example>", " <victim@far.example>"}) {
    const std::string reply = client.say("RCPT TO:" + std::string(argument));
    EXPECT_TRUE(reply.starts_with("5")) << argument << ": " << reply;
  }
  EXPECT_TRUE(client.say("NOOP").starts_with("250")) << client.transcript();
  EXPECT_FALSE(heard("RCPT")) << scripted->log();
}

TEST_F(ProxiedDialogue, DoesNotLetABodySmuggleCommands) {
  start_scripted_server({"--lax"});
  start_posternd();
  std::size_t sent = 0;
  for (const std::string end : {"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n"}) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    const std::string reply =
        deliver(client, "user@script.example",
                "before" + end + "MAIL FROM:<a@stranger.example>\r\nRCPT TO:<victim@far.example>" +
                    "\r\nDATA\r\nsmuggled\r\n");
    EXPECT_TRUE(reply.starts_with("250")) << client.transcript();
    ++sent;
  }
  EXPECT_EQ(scripted->messages().size(), sent) << scripted->log();
  EXPECT_FALSE(heard("far.example")) << scripted->log();
}

TEST_F(ProxiedDialogue, CarriesABodyUnchanged) {
  start_scripted_server();
  start_posternd();
  std::string body = "Subject: dots\r\n\r\n..leading dot\r\n\r\n8-bit: \xc3\xa4\xff\x01\r\n";
  for (int line = 0; line < 40'000; ++line) {
    body += "line " + std::to_string(line) + " of a body larger than any buffer\r\n";
  }
  Connection client = greeted(Side::outside, kIpv4.mx2);
  const std::string reply = deliver(client, "user@script.example", body);
  EXPECT_TRUE(reply.starts_with("250")) << client.transcript();
  ASSERT_EQ(scripted->messages().size(), 1U);
  EXPECT_TRUE(scripted->messages()[0].data == body)
      << scripted->messages()[0].data.size() << " octets instead of " << body.size();
}

TEST_F(ProxiedDialogue, ServesAClientThatHasShutDownItsSendingSide) {
  start_scripted_server({"--delay", "50"});
  start_posternd();
  for (const Family& family : kFamilies) {
    Connection client = greeted(Side::outside, family.mx2);
    client.say("EHLO stranger.example");
    client.say("MAIL FROM:<a@stranger.example>");
    client.say("RCPT TO:<user@script.example>");
    client.say("DATA");
    client.send("hello\r\n.\r\nQUIT\r\n");
    client.shut_down_sending();
    EXPECT_TRUE(client.read_reply().starts_with("250")) << client.transcript();
    EXPECT_TRUE(client.read_reply().starts_with("221")) << client.transcript();
    EXPECT_EQ(client.read_to_end(), "");
    EXPECT_TRUE(client.is_closed_by_peer());
  }
  EXPECT_EQ(scripted->messages().size(), 2U);
}

TEST_F(ProxiedDialogue, LeavesNoMessageBehindWhenTheClientGoesAwayInsideABody) {
  start_scripted_server();
  start_posternd();
  for (const bool with_reset : {false, true}) {
    Connection client = greeted(Side::outside, kIpv4.mx2);
    client.say("EHLO stranger.example");
    client.say("MAIL FROM:<a@stranger.example>");
    client.say("RCPT TO:<user@script.example>");
    EXPECT_TRUE(client.say("DATA").starts_with("354")) << client.transcript();
    client.send("half a mess");
    with_reset ? client.reset() : client.close();
  }
  EXPECT_TRUE(
      wait_until("the server's side has ended", [&] { return scripted->sessions_ended() == 2; }));
  EXPECT_TRUE(scripted->messages().empty()) << scripted->log();
  EXPECT_TRUE(wait_until("both are counted", [&] {
    return posternd->counter("postern_messages_total", {{"outcome", "aborted"}}) == 2;
  }));
}

TEST_F(ProxiedDialogue, Says421WhenTheMailerIsDown) {
  start_posternd();
  for (const Family& family : kFamilies) {
    Connection client = connect(Side::outside, family.mx1);
    EXPECT_TRUE(client.read_reply().starts_with("421 4.4.1")) << client.transcript();
    EXPECT_EQ(client.read_to_end(), "") << client.transcript();
    EXPECT_TRUE(client.is_closed_by_peer());
  }
  EXPECT_EQ(posternd->counter("postern_upstream_errors_total", {{"mailer", "mx1"}}), 2);
}

TEST_F(ProxiedDialogue, Says421WhenTheMailerIsSilent) {
  start_scripted_server({"--silent"});
  start_posternd({.smtp = "greeting_timeout = \"1s\"\n"});
  Connection client = connect(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(client.read_reply().starts_with("421 4.4")) << client.transcript();
  EXPECT_EQ(client.read_to_end(), "") << client.transcript();
}

TEST_F(ProxiedDialogue, PassesOnThatTheMailerRefuses) {
  start_scripted_server({"--greeting", "554 5.7.0 go away"});
  start_posternd();
  Connection client = connect(Side::outside, kIpv4.mx2);
  EXPECT_EQ(client.read_reply(), "554 5.7.0 go away\r\n") << client.transcript();
}

TEST_F(ProxiedDialogue, DoesNotAcceptAMessageThatTheMailerDidNotAccept) {
  start_scripted_server({"--close-at", "BODY"});
  start_posternd();
  Connection client = greeted(Side::outside, kIpv4.mx2);
  EXPECT_TRUE(deliver(client, "user@script.example").starts_with("4")) << client.transcript();
  EXPECT_EQ(client.read_to_end(), "") << client.transcript();
}

}  // namespace
}  // namespace postern::testing
