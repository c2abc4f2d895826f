#include "tests/support/hostile_session.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/line.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "tests/support/body_model.hpp"

namespace postern::testing_support {
namespace {

using smtp_proxy::BareNewline;
using smtp_proxy::EarlyTalker;
using smtp_proxy::End;
using smtp_proxy::LineStatus;
using smtp_proxy::Reply;
using smtp_proxy::ReplyStatus;

constexpr std::size_t kLargestPiece = 4096;
// Twice what both backlogs and 128 answers of ours can come to.
constexpr std::size_t kMostHeld = 192UL * 1024;

// "\x01" "3 RCPT" of the gullible server's replies. Replies of ours are printable: no client can
// have its words echoed as one.
struct Tag {
  std::size_t number = 0;
  std::string verb;
};

std::optional<Tag> tag_of(std::string_view reply) {
  const std::size_t hash = reply.find(" \x01");
  if (hash == std::string_view::npos || hash > 10) {
    return std::nullopt;
  }
  Tag tag;
  const char* end = reply.data() + reply.size();
  const auto [rest, error] = std::from_chars(reply.data() + hash + 2, end, tag.number);
  if (error != std::errc{} || rest == end) {
    return std::nullopt;
  }
  const std::string_view verb(rest + 1, static_cast<std::size_t>(end - rest - 1));
  tag.verb = verb.substr(0, verb.find_first_of(" \r"));
  return tag;
}

std::string verb_of(std::string_view line) {
  std::string verb(line.substr(0, line.find(' ')));
  for (char& c : verb) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return verb;
}

// Reads what the client said beside what it was answered: one answer for each command, in order,
// and a 2xx for a message only from the server.
class Replay {
 public:
  Replay(const HostilePlan& plan, const Seen& seen, const GullibleServer& server,
         std::vector<std::string>& broken)
      : plan_(plan), seen_(seen), server_(server), broken_(broken), client_(plan.client) {}

  void run() {
    std::string_view replies = seen_.to_client;
    bool is_greeting = true;
    while (!replies.empty()) {
      const Reply reply = smtp_proxy::take_reply(replies);
      if (reply.status != ReplyStatus::complete) {
        return fail("the client cannot read a reply", replies);
      }
      replies.remove_prefix(reply.text.size());
      if (is_over_) {
        return fail("a reply behind the end", reply.text);
      }
      if (is_greeting) {
        is_over_ = reply.code != 220;
      } else {
        on_reply(reply);
      }
      is_greeting = false;
    }
    check_end();
  }

 private:
  void fail(std::string_view what, std::string_view text) {
    broken_.push_back(std::string(what) + ": " + std::string(text.substr(0, 200)));
  }

  void on_reply(const Reply& reply) {
    const auto tag = tag_of(reply.text);
    if (tag) {
      if (tag->number != ++tags_) {
        fail("the server's replies are not in order", reply.text);
      }
    }
    is_over_ = reply.code == 421;
    if (is_over_ && !tag) {
      return;
    }
    if (is_inside_a_body_) {
      on_body_reply(reply, tag);
    } else {
      on_command_reply(reply, tag);
    }
  }

  void on_body_reply(const Reply& reply, const std::optional<Tag>& tag) {
    const auto body = take_strict_body(client_);
    if (!body) {
      return fail("a reply to a body that has not ended", reply.text);
    }
    is_inside_a_body_ = false;
    client_.remove_prefix(body->consumed);
    const bool is_rejected =
        plan_.setup.settings.bare_newline == BareNewline::reject && has_bare_newline(body->text);
    if (is_rejected) {
      is_over_ = true;
      if (tag || reply.code != 550) {
        fail("a body that was to be rejected", reply.text);
      }
      return;
    }
    if (!tag || tag->verb != "BODY") {
      return fail("the reply to a message is not the server's", reply.text);
    }
    const std::size_t index = bodies_++;
    if (index >= server_.messages().size() ||
        server_.messages()[index] != normalise(unstuff_strictly(body->text))) {
      fail("the server has another message than the client sent", body->text);
    }
  }

  void on_command_reply(const Reply& reply, const std::optional<Tag>& tag) {
    const smtp_proxy::Line line = smtp_proxy::take_line(client_, smtp_proxy::kLongestCommandOctets);
    switch (line.status) {
      case LineStatus::need_more:
        return fail("a reply without a command", reply.text);
      case LineStatus::bare_newline:
        is_over_ = true;
        if (tag || reply.code != 500) {
          fail("a bare newline in a command was not refused", reply.text);
        }
        return;
      case LineStatus::too_long: {
        client_.remove_prefix(smtp_proxy::skip_line(client_).consumed);
        if (tag || reply.code != 500) {
          fail("an over-long line was not refused", reply.text);
        }
        return;
      }
      case LineStatus::complete:
        break;
    }
    const std::string verb = verb_of(line.text);
    client_.remove_prefix(line.consumed);
    if (tag && tag->verb != verb) {
      return fail("a reply to another command than " + verb, reply.text);
    }
    if (!tag && reply.code < 400 && !(verb == "VRFY" && reply.code == 252) &&
        !(verb == "HELP" && reply.code == 214)) {
      return fail("a success that the server did not say, to " + verb, reply.text);
    }
    is_inside_a_body_ = reply.code == 354;
    is_over_ |= tag && verb == "QUIT";
  }

  void check_end() {
    // Where the session came to its own end, every command has had its reply.
    if (seen_.end != End::close || seen_.reason != rules::Reason::none || is_over_) {
      return;
    }
    if (is_inside_a_body_) {
      return fail("the session ended gently inside a body", client_);
    }
    if (smtp_proxy::take_line(client_, smtp_proxy::kLongestCommandOctets).status ==
        LineStatus::complete) {
      fail("a command without a reply", client_);
    }
    if (tags_ != server_.replies()) {
      fail("a reply of the server is missing", seen_.to_client);
    }
  }

  const HostilePlan& plan_;
  const Seen& seen_;
  const GullibleServer& server_;
  std::vector<std::string>& broken_;
  std::string_view client_;
  std::size_t tags_ = 0;
  std::size_t bodies_ = 0;
  bool is_inside_a_body_ = false;
  bool is_over_ = false;
};

class Scene {
 public:
  explicit Scene(const HostilePlan& plan)
      : plan_(plan), session_(plan.setup), server_(plan.setup, plan.server) {}

  HostileResult run() {
    if (!plan_.speaks_early) {
      session_.server(server_.take_output(kLargestPiece));
      after_step();
    }
    // Each step moves something; the limit is for the one that does not.
    for (std::size_t step = 0; !session_.has_ended(); ++step) {
      if (!take_turn(step) || step > 100'000) {
        result_.broken.emplace_back("the session is stuck");
        break;
      }
      after_step();
    }
    for (const std::string& misdeed : server_.misdeeds()) {
      result_.broken.push_back("the server " + misdeed);
    }
    if (session_.has_ended() && server_.is_inside_a_body() &&
        result_.seen.end != End::reset_server) {
      result_.broken.emplace_back("the server may take the part for a message");
    }
    Replay(plan_, result_.seen, server_, result_.broken).run();
    return std::move(result_);
  }

 private:
  bool take_turn(std::size_t step) {
    const std::uint8_t choice = plan_.schedule.empty()
                                    ? static_cast<std::uint8_t>(step % 2 == 0 ? 0xfe : 0xff)
                                    : plan_.schedule[step % plan_.schedule.size()];
    const std::size_t size = choice >= 0xfe ? kLargestPiece : 1 + choice / 2;
    const bool prefers_client = choice % 2 == 0;
    return prefers_client ? client_turn(size) || server_turn(size)
                          : server_turn(size) || client_turn(size);
  }

  bool client_turn(std::size_t size) {
    if (sent_ == plan_.client.size()) {
      return !has_client_ended_ && end_client();
    }
    if (!session_.conversation().wants_client_bytes()) {
      return false;
    }
    const std::string_view piece = std::string_view(plan_.client).substr(sent_, size);
    sent_ += piece.size();
    session_.client(piece);
    return true;
  }

  bool end_client() {
    has_client_ended_ = true;
    session_.client_eof();
    return true;
  }

  bool server_turn(std::size_t size) {
    if (server_.has_output()) {
      session_.server(server_.take_output(size));
      return true;
    }
    if (server_.is_closed() || result_.seen.server_was_shut_down) {
      session_.server_eof();
      return true;
    }
    return false;
  }

  void after_step() {
    const Seen seen = session_.take();
    server_.read(seen.to_server);
    result_.seen.to_server += seen.to_server;
    result_.seen.to_client += seen.to_client;
    result_.seen.events.insert(result_.seen.events.end(), seen.events.begin(), seen.events.end());
    result_.seen.server_was_shut_down |= seen.server_was_shut_down;
    result_.seen.end = seen.end;
    result_.seen.reason = seen.reason;
    if (session_.conversation().held_octets() > kMostHeld) {
      result_.broken.emplace_back("too much is held");
    }
  }

  const HostilePlan& plan_;
  SmtpSession session_;
  GullibleServer server_;
  HostileResult result_;
  std::size_t sent_ = 0;
  bool has_client_ended_ = false;
};

// Takes the front of a script.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  [[nodiscard]] bool empty() const { return text_.empty(); }
  [[nodiscard]] std::uint8_t octet() {
    if (text_.empty()) {
      return 0;
    }
    const auto octet = static_cast<std::uint8_t>(text_[0]);
    text_.remove_prefix(1);
    return octet;
  }
  [[nodiscard]] std::string_view take(std::size_t size) {
    const std::string_view taken = text_.substr(0, size);
    text_.remove_prefix(taken.size());
    return taken;
  }
  [[nodiscard]] std::vector<std::uint8_t> list() {
    const std::string_view octets = take(octet() % 32);
    return {octets.begin(), octets.end()};
  }

 private:
  std::string_view text_;
};

void perform(std::uint8_t act, Reader& script, SmtpSession& session) {
  switch (act % 16) {
    case 0:
      return session.client_eof();
    case 1:
      return session.server_eof();
    case 2:
      return session.timeout();
    case 3:
      return session.end_session(rules::Reason::shutting_down);
    case 4:
      return session.unreachable(rules::UpstreamError::timed_out);
    case 5:
      return session.server("220 mx\r\n");
    case 6:
      return session.server("250-mx\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 DSN\r\n");
    case 7:
      return session.server("354 go on\r\n");
    case 8:
    case 9:
      return session.server("250 ok\r\n");
    case 10:
      return session.server("550 no\r\n");
    case 11:
    case 12:
      return session.server(script.take(script.octet()));
    default:
      if (session.conversation().wants_client_bytes()) {
        session.client(script.take(script.octet()));
      }
  }
}

}  // namespace

HostileResult run_hostile(const HostilePlan& plan) {
  return Scene(plan).run();
}

std::vector<std::string> run_chaos(const SessionSetup& setup, std::string_view script) {
  SmtpSession session(setup);
  GullibleServer server(setup, {.moods = {}, .offers_pipelining = true, .is_mute = true});
  std::vector<std::string> broken;
  Reader reader(script);
  while (!reader.empty() && !session.has_ended()) {
    perform(reader.octet(), reader, session);
    const Seen seen = session.take();
    // The first thing that the client hears after DATA went on is the answer to it.
    if (server.awaits_data_reply() && !seen.to_client.empty()) {
      server.on_data_reply(seen.to_client.starts_with("354"));
    }
    server.read(seen.to_server);
    for (std::string_view replies = seen.to_client; !replies.empty();) {
      const Reply reply = smtp_proxy::take_reply(replies);
      if (reply.status != ReplyStatus::complete) {
        broken.push_back("the client cannot read a reply: " + std::string(replies));
        break;
      }
      replies.remove_prefix(reply.text.size());
    }
    if (session.conversation().held_octets() > kMostHeld) {
      broken.emplace_back("too much is held");
    }
    if (session.has_ended() && server.is_inside_a_body() && seen.end != End::reset_server) {
      broken.emplace_back("the server may take the part for a message");
    }
  }
  for (const std::string& misdeed : server.misdeeds()) {
    broken.push_back("the server " + misdeed);
  }
  return broken;
}

SessionSetup setup_from(std::uint8_t flags) {
  SessionSetup setup;
  setup.settings.bare_newline = (flags & 1U) != 0 ? BareNewline::reject : BareNewline::normalize;
  setup.settings.early_talker = (flags & 2U) != 0 ? EarlyTalker::wait : EarlyTalker::refuse;
  setup.zone = (flags & 4U) != 0 ? rules::Zone::internal : rules::Zone::external;
  setup.require_local_sender = (flags & 8U) != 0;
  setup.allow_address_literals = (flags & 16U) != 0;
  setup.settings.max_errors = (flags & 32U) != 0 ? 3 : 1000;
  setup.settings.max_refused_recipients = (flags & 64U) != 0 ? 3 : 1000;
  setup.settings.unauthorised_pipelining = smtp_proxy::UnauthorisedPipelining::wait;
  setup.settings.refusals_before_delay = 100'000;
  setup.settings.max_idle_commands = 100'000;
  return setup;
}

HostilePlan plan_from(std::string_view input) {
  Reader reader(input);
  HostilePlan plan;
  plan.setup = setup_from(reader.octet());
  const std::uint8_t flags = reader.octet();
  plan.server.offers_pipelining = flags % 4 != 0;
  plan.speaks_early = flags >= 250;
  plan.server.moods = reader.list();
  plan.schedule = reader.list();
  plan.client = reader.take(input.size());
  return plan;
}

}  // namespace postern::testing_support
