// Sessions in clear.
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "tests/smtp_proxy/session_fixture.hpp"

namespace postern::smtp_proxy {
namespace {

TEST_F(SessionTest, PassesTheGreetingOn) {
  serve();
  server_.send("220 inner\r\n");
  EXPECT_TRUE(run_until("the client is greeted", [&] { return client_.heard == "220 inner\r\n"; }));
}

class PublishedSessionTest : public SessionTest {
 protected:
  PublishedSessionTest() : SessionTest({.name = "inner"}, nullptr, "198.51.100.1") {}
};

TEST_F(PublishedSessionTest, GoesOnToTheMailersOwnAddressAndNamesTheOneThatWasMeant) {
  serve();  // waits for it at the mailer's own
  server_.send("220 inner\r\n");
  EXPECT_TRUE(run_until("the client is greeted", [&] { return client_.heard == "220 inner\r\n"; }));
  EXPECT_EQ(sink_.last_ends.server.address.to_string(), "198.51.100.1");
}

TEST_F(SessionTest, EndsBothSidesWhenTheMailersDirectionThrows) {
  sink_.on_each = [](const rules::Event& event) {
    if (std::holds_alternative<rules::UpstreamFailed>(event)) {
      throw std::runtime_error("out of memory");
    }
  };
  serve();
  server_.send("no reply\r\n");
  EXPECT_TRUE(run_until("both are closed", [&] {
    return client_.has_lost_its_peer && server_.has_lost_its_peer && sink_.is_closed;
  }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::internal_error);
}

TEST_F(SessionTest, EndsBothSidesWhenTheClientsDirectionThrows) {
  sink_.on_each = [](const rules::Event& event) {
    if (std::holds_alternative<rules::CommandRefused>(event)) {
      throw std::runtime_error("out of memory");
    }
  };
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send("NONSENSE\r\n");
  EXPECT_TRUE(run_until("both are closed", [&] {
    return client_.has_lost_its_peer && server_.has_lost_its_peer && sink_.is_closed;
  }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::internal_error);
}

TEST_F(SessionTest, KeepsLittleForAClientThatAsksAndDoesNotListen) {
  settings_->max_idle_commands = 1'000'000;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  std::string questions;
  while (questions.size() < 120'000) {
    questions += "HELP\r\n";
  }
  boost::system::error_code full;
  client_.socket.write_some(net::buffer(questions), full);
  ASSERT_TRUE(run_until("the first is answered", [&] { return client_.heard.size() > 100; }));
  EXPECT_LT(buffers_.output.to_client.capacity(), 200'000U);
}

TEST_F(SessionTest, GoesOnBothWaysBehindAClientThatReadLate) {
  settings_->unauthorised_pipelining = UnauthorisedPipelining::wait;
  settings_->max_idle_commands = 1'000'000;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.heard.clear();
  std::string questions;
  std::size_t answers_octets = 0;
  for (int i = 0; i < 20; ++i) {
    questions += "NOOP\r\n";
    answers_octets += std::string_view("250 ok\r\n").size();
    for (int j = 0; j < 2'000; ++j) {
      questions += "HELP\r\n";
      answers_octets += std::string_view("214 2.0.0 see RFC 5321\r\n").size();
    }
  }
  std::size_t asked = 0;
  std::size_t noops_answered = 0;
  const auto move_on = [&] {
    boost::system::error_code full;
    asked += client_.socket.write_some(net::buffer(questions) + asked, full);
    loop_.step(Clock::now());
    server_.read();
    for (; noops_answered < server_.heard.size() / 6; ++noops_answered) {
      server_.send("250 ok\r\n");
    }
  };
  for (int i = 0; i < 1'000; ++i) {
    move_on();
  }
  ASSERT_LT(noops_answered, 20U) << "the client was never slowed down";
  EXPECT_TRUE(wait_until("everything is answered", [&] {
    for (int i = 0; i < 1'000; ++i) {
      move_on();
      client_.read();
    }
    return client_.heard.size() == answers_octets;
  }));
}

TEST_F(SessionTest, MakesTheClientWaitAfterARefusal) {
  settings_->refusals_before_delay = 1;
  settings_->longest_delay = std::chrono::seconds(1);
  const std::weak_ptr<Session> session = session_;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send("EXPN a\r\nHELP\r\n");
  ASSERT_TRUE(run_until("the first is refused", [&] { return client_.heard.contains("502"); }));
  const Clock::time_point refused = Clock::now();
  for (int i = 0; i < 100; ++i) {
    session.lock()->check_time(refused);
    loop_.step(Clock::now());
    client_.read();
  }
  EXPECT_FALSE(client_.heard.contains("214"));
  session.lock()->check_time(refused + std::chrono::seconds(1));
  EXPECT_TRUE(run_until("the second is answered", [&] { return client_.heard.contains("214"); }));
}

TEST_F(SessionTest, BlamesTheClientThatDoesNotReadAlsoWhileTheMailerOwesAReply) {
  settings_->max_idle_commands = 1'000'000;
  std::size_t upstream_failures = 0;
  sink_.on_each = [&](const rules::Event& event) {
    upstream_failures += std::holds_alternative<rules::UpstreamFailed>(event) ? 1 : 0;
  };
  const std::weak_ptr<Session> session = session_;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send("EHLO client\r\n");
  ASSERT_TRUE(run_until("EHLO came", [&] { return server_.heard == "EHLO client\r\n"; }));
  server_.send("250-inner\r\n250 PIPELINING\r\n");
  ASSERT_TRUE(run_until("EHLO is answered", [&] { return client_.heard.ends_with("NG\r\n"); }));
  server_.heard.clear();
  std::string questions;
  for (int i = 0; i < 200; ++i) {
    questions += "NOOP\r\n";
    for (int j = 0; j < 120; ++j) {
      questions += "HELP\r\n";
    }
  }
  std::size_t asked = 0;
  std::size_t answered = 0;
  for (int idle = 0; idle < 1'000; ++idle) {
    boost::system::error_code full;
    asked += client_.socket.write_some(net::buffer(questions) + asked, full);
    loop_.step(Clock::now());
    server_.read();
    for (; answered < server_.heard.size() / 6; ++answered, idle = 0) {
      server_.send("250 ok\r\n");
    }
  }
  ASSERT_LT(answered, 200U) << "the client was never slowed down";
  session.lock()->check_time(Clock::now() + std::chrono::hours(1));
  session.lock()->check_time(Clock::now() + std::chrono::hours(1));
  EXPECT_TRUE(run_until("the session is closed", [&] { return sink_.is_closed; }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::timeout);
  EXPECT_EQ(upstream_failures, 0U);
}

TEST_F(SessionTest, GivesAMailerTimeThatTakesABodySlowly) {
  settings_->data_block_timeout = std::chrono::seconds(1);
  const std::weak_ptr<Session> session = session_;
  serve();
  server_.send("220 inner\r\n");
  const auto exchange = [&](const std::string& command, const std::string& reply) {
    client_.send(command);
    ASSERT_TRUE(run_until(command, [&] { return server_.heard.ends_with(command); }));
    server_.send(reply);
    ASSERT_TRUE(run_until(reply, [&] { return client_.heard.ends_with(reply); }));
  };
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  exchange("MAIL FROM:<>\r\n", "250 sender\r\n");
  exchange("RCPT TO:<postmaster>\r\n", "250 recipient\r\n");
  exchange("DATA\r\n", "354 go on\r\n");
  const std::string body(WorkBuffers::kReadOctets, 'x');
  client_.socket.non_blocking(true);
  server_.socket.non_blocking(true);
  shrink_send_buffer_of_peer(server_.socket);
  const Clock::time_point begin = Clock::now();
  std::size_t taken = 0;
  for (Clock::time_point now = begin; now < begin + std::chrono::seconds(3); now = Clock::now()) {
    boost::system::error_code error;
    client_.socket.write_some(net::buffer(body), error);
    const auto most = static_cast<std::size_t>((now - begin) / std::chrono::milliseconds(1)) * 16;
    char octets[64];
    error.clear();
    while (taken < most && !error) {
      taken += server_.socket.read_some(net::buffer(octets), error);
    }
    loop_.step(Clock::now());
    session.lock()->check_time(now);
  }
  client_.read();
  EXPECT_TRUE(client_.heard.ends_with("354 go on\r\n")) << client_.heard;
}

TEST_F(SessionTest, CountsNoPieceOfAGreetingAsProgress) {
  const std::weak_ptr<Session> session = session_;
  serve();
  const Clock::time_point connected = Clock::now();
  server_.send("220 in");
  for (int i = 0; i < 100; ++i) {
    loop_.step(Clock::now());
  }
  session.lock()->check_time(connected + settings_->greeting_timeout);
  EXPECT_TRUE(run_until("it is too late", [&] { return client_.heard.starts_with("421 4.4.1"); }));
}

TEST_F(SessionTest, CountsNoPieceOfAnEndlessLineAsProgress) {
  const std::weak_ptr<Session> session = session_;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send(std::string(2'100, 'x'));
  ASSERT_TRUE(run_until("it is refused", [&] { return client_.heard.contains("500 5.5.2"); }));
  const Clock::time_point refused = Clock::now();
  client_.send("more of it");
  for (int i = 0; i < 100; ++i) {
    loop_.step(Clock::now());
  }
  session.lock()->check_time(refused + settings_->command_timeout);
  EXPECT_TRUE(run_until("it is too late", [&] { return client_.heard.contains("421 4.4.2"); }));
}

// A mailer whose connection takes little at once, and a transaction with a recipient.
class ChunkToASlowMailer : public SessionTest {
 protected:
  void begin() {
    serve();
    server_.send("220 inner\r\n");
    ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
    exchange("EHLO client\r\n", "250-inner\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    exchange("MAIL FROM:<>\r\n", "250 sender\r\n");
    exchange("RCPT TO:<postmaster>\r\n", "250 recipient\r\n");
    shrink_send_buffer_of_peer(server_.socket);
  }
  // More than the connection takes while the mailer does not read.
  void send_chunk(const std::string& before = {}) {
    client_.send(before + "BDAT 60000 LAST\r\n" + std::string(60'000, 'q'));
    for (int i = 0; i < 1'000; ++i) {
      loop_.step(Clock::now());
    }
  }
  void exchange(const std::string& command, const std::string& reply) {
    client_.send(command);
    ASSERT_TRUE(run_until(command, [&] { return server_.heard.ends_with(command); }));
    server_.send(reply);
    ASSERT_TRUE(run_until(reply, [&] { return client_.heard.ends_with(reply); }));
  }
  // How the connection ended after all that could be read of it.
  boost::system::error_code end_of_server() {
    boost::system::error_code error;
    char octets[4096];
    server_.socket.non_blocking(true);
    EXPECT_TRUE(wait_until("the mailer's connection ends", [&] {
      loop_.step(Clock::now());
      client_.read();
      error.clear();
      while (!error) {
        server_.heard.append(octets, server_.socket.read_some(net::buffer(octets), error));
      }
      return error != net::error::would_block;
    }));
    return error;
  }
};

TEST_F(ChunkToASlowMailer, IsResetAtAStopThatCutsIt) {
  const std::weak_ptr<Session> session = session_;
  begin();
  send_chunk();
  session.lock()->end_session(rules::Reason::shutting_down);
  EXPECT_EQ(end_of_server(), net::error::connection_reset) << server_.heard.size();
  EXPECT_LT(server_.heard.size(), 60'000U);
}

TEST_F(ChunkToASlowMailer, IsNotAcceptedBeforeItWasSent) {
  begin();
  send_chunk();
  server_.send("250 queued\r\n");
  EXPECT_EQ(end_of_server(), net::error::connection_reset);
  EXPECT_TRUE(run_until("an error is told", [&] { return client_.heard.contains("421 4.3.0"); }));
  EXPECT_FALSE(client_.heard.contains("queued")) << client_.heard;
}

TEST_F(ChunkToASlowMailer, IsCutWhereTheMailerRefusesItBeforeItWasSent) {
  begin();
  send_chunk();
  server_.send("552 too big\r\n");
  EXPECT_EQ(end_of_server(), net::error::connection_reset);
  EXPECT_TRUE(run_until("it is told", [&] { return client_.heard.ends_with("552 too big\r\n"); }));
}

// The mailer may read the rest of a body that it has refused as commands.
TEST_F(ChunkToASlowMailer, IsCutAlsoWhereItIsABody) {
  begin();
  exchange("DATA\r\n", "354 go on\r\n");
  client_.send(std::string(60'000, 'q') + "\r\n.\r\n");
  for (int i = 0; i < 1'000; ++i) {
    loop_.step(Clock::now());
  }
  server_.send("552 too big\r\n");
  EXPECT_EQ(end_of_server(), net::error::connection_reset);
  EXPECT_LT(server_.heard.size(), 60'000U);
  EXPECT_TRUE(run_until("it is told", [&] { return client_.heard.ends_with("552 too big\r\n"); }));
}

TEST_F(ChunkToASlowMailer, IsSentOnBehindAPause) {
  settings_->refusals_before_delay = 1;
  const std::weak_ptr<Session> session = session_;
  begin();
  client_.send("BDAT 2\r\nx");
  ASSERT_TRUE(run_until("a chunk begins", [&] { return server_.heard.ends_with("x"); }));
  send_chunk("yNONSENSE\r\n");
  server_.send("250 two\r\n");
  ASSERT_TRUE(run_until("nonsense is refused", [&] { return client_.heard.contains("500 "); }));
  server_.heard.clear();
  session.lock()->check_time(Clock::now() + std::chrono::seconds(1));
  EXPECT_TRUE(run_until("all of it has come", [&] { return server_.heard.size() >= 60'000; }))
      << server_.heard.size();
}

TEST_F(SessionTest, EndsAtOnceWhenTheClientResetsItsConnectionWhileAReplyIsOwed) {
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send("NOOP\r\n");
  ASSERT_TRUE(run_until("NOOP came", [&] { return server_.heard == "NOOP\r\n"; }));
  client_.socket.set_option(net::socket_base::linger(true, 0));
  client_.socket.close();
  EXPECT_TRUE(wait_until("the session is closed", [&] {
    loop_.step(Clock::now());
    return sink_.is_closed;
  }));
}

TEST_F(SessionTest, IsGoneSoonAfterItsLastReplyThoughTheClientStays) {
  settings_->closing_timeout = std::chrono::seconds(0);
  const std::weak_ptr<Session> session = session_;
  serve();
  server_.send("220 inner\r\n");
  ASSERT_TRUE(run_until("the client is greeted", [&] { return !client_.heard.empty(); }));
  client_.send("a bare\nnewline\r\n");
  EXPECT_TRUE(run_until("the session is gone", [&] {
    if (const auto alive = session.lock()) {
      alive->check_time(Clock::now());
    }
    return sink_.is_closed;
  }));
}

TEST_F(SessionTest, LeavesNothingBehindWhenItIsAbandoned) {
  const std::weak_ptr<Session> session = session_;
  serve();
  session.lock()->abandon(rules::Reason::shutting_down);
  EXPECT_TRUE(run_until("the session is gone", [&] { return session.expired(); }));
  EXPECT_EQ(sink_.closed_for, rules::Reason::shutting_down);
}

}  // namespace
}  // namespace postern::smtp_proxy
