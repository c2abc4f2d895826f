#include "tests/support/replay.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "rules/reason.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "tests/support/body_model.hpp"
#include "tests/support/command_model.hpp"

namespace postern::testing_support {
namespace {

using rules::Reason;
using smtp_proxy::BareNewline;
using smtp_proxy::End;
using smtp_proxy::Reply;
using smtp_proxy::ReplyStatus;
using smtp_proxy::UnauthorisedPipelining;

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

// The first letters, in capitals, whatever stands before them.
std::string first_word(std::string_view line) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const std::size_t begin = std::min(line.find_first_of(kLetters), line.size());
  const std::size_t end = std::min(line.find_first_not_of(kLetters, begin), line.size());
  return upper_case(line.substr(begin, end - begin));
}

bool is_idle(std::string_view verb) {
  return verb == "NOOP" || verb == "RSET" || verb == "VRFY" || verb == "HELP" || verb == "EHLO" ||
         verb == "HELO" || verb == "STARTTLS";
}

// What a client said may stand in the reply, but not at its end.
bool says(const Reply& reply, Reason reason) {
  return reply.text.ends_with(std::string(rules::info(reason).text) + "\r\n");
}

class Replay {
 public:
  explicit Replay(const Course& course)
      : course_(course), settings_(course.plan.setup.settings), client_(course.plan.client) {}

  std::vector<std::string> run() {
    std::string_view replies = course_.seen.to_client;
    for (bool is_greeting = true; !replies.empty() && !is_lost_; is_greeting = false) {
      const Reply reply = smtp_proxy::take_reply(replies);
      if (reply.status != ReplyStatus::complete) {
        fail("the client cannot read a reply", replies);
        return broken_;
      }
      replies.remove_prefix(reply.text.size());
      if (is_over_) {
        fail("a reply behind the end", reply.text);
        return broken_;
      }
      if (is_greeting) {
        is_over_ = reply.code != 220;
      } else {
        on_reply(reply, tag_of(reply.text));
      }
    }
    if (!is_lost_) {
      check_end();
    }
    return broken_;
  }

 private:
  enum class Chunks { none, open, refused };

  struct Transaction {
    bool has_mail = false;
    std::size_t forwarded = 0;  // recipients
    std::size_t accepted = 0;
    bool may_be_forgotten = false;
    Chunks chunks = Chunks::none;
    std::string text;  // of the chunks
  };

  void fail(std::string_view what, std::string_view text) {
    broken_.push_back(std::string(what) + ": " + std::string(text.substr(0, 200)));
  }

  void require(bool holds, std::string_view what, std::string_view text) {
    if (!holds) {
      fail(what, text);
    }
  }

  [[nodiscard]] std::size_t offset() const { return course_.plan.client.size() - client_.size(); }

  // Did the client speak on before this reply of the server came?
  [[nodiscard]] bool spoke_before(const Tag& tag) const {
    return tag.number <= course_.sent_at_reply.size() &&
           course_.sent_at_reply[tag.number - 1] > offset();
  }

  void on_reply(const Reply& reply, const std::optional<Tag>& tag) {
    if (tag && tag->verb == "EXTRA") {
      is_lost_ = true;  // nobody can say any more what answers what
      return;
    }
    if (tag) {
      pass_over_hidden(*tag);
      require(tag->number == ++tags_, "the server's replies are not in order", reply.text);
    }
    if (!tag && reply.code == 421) {
      return on_our_end(reply);
    }
    is_over_ = reply.code == 421;
    if (!tag && reply.text.starts_with("554 5.5.0")) {
      return on_unauthorised(reply);
    }
    require(!must_end_, "a client that did not wait was served", reply.text);
    require(auth_failures_ < settings_.max_auth_failures,
            "a client that failed to authenticate too often was served", reply.text);
    may_end_ = false;
    if (is_inside_a_body_) {
      on_body_reply(reply, tag);
    } else if (is_in_auth_) {
      on_response_reply(reply, tag);
    } else {
      on_command_reply(reply, tag);
    }
  }

  [[nodiscard]] bool is_to_be_secured() const {
    return course_.plan.setup.upstream_tls != rules::UpstreamTls::off &&
           course_.plan.setup.starttls != rules::Starttls::pass;
  }

  // What the server said while TLS with it was made, behind the client's first hello: one EHLO and one
  // STARTTLS at most, and only the last reply to a hello is the client's; unless it is the end.
  void pass_over_hidden(const Tag& tag) {
    const bool is_of_hello = tag.verb == "EHLO" || tag.verb == "HELO" || tag.verb == "STARTTLS";
    is_answer_to_first_hello_ = is_to_be_secured() && is_of_hello && !has_said_hello_;
    if (!is_answer_to_first_hello_) {
      return;
    }
    has_said_hello_ = true;
    for (const std::string_view hidden : {"EHLO", "STARTTLS"}) {
      if (tags_ + 1 < tag.number && course_.server.answered()[tags_] == hidden) {
        ++tags_;
      }
    }
  }

  void on_our_end(const Reply& reply) {
    is_over_ = true;
    if (says(reply, Reason::auth_failed)) {
      require(auth_failures_ >= settings_.max_auth_failures,
              "too few failed authentications for an end", reply.text);
    }
    if (says(reply, Reason::command_injection)) {
      const ModelLine line = read_model_line(client_);
      const bool is_starttls = line.kind == LineKind::whole &&
                               model_verb(line.text) == "STARTTLS" &&
                               course_.plan.setup.starttls != rules::Starttls::hide;
      require((is_starttls && course_.sent > offset() + line.length) || course_.server.was_wild(),
              "nothing was behind STARTTLS", reply.text);
    }
    if (says(reply, Reason::upstream_not_secured)) {
      require(is_to_be_secured() &&
                  (course_.server_tls_failed ||
                   course_.plan.setup.upstream_tls != rules::UpstreamTls::opportunistic),
              "TLS with the server is asked for that need not be", reply.text);
    }
    if (says(reply, Reason::protocol_error)) {
      require(course_.server.was_wild(), "a server that kept to the protocol is blamed",
              reply.text);
    }
    if (says(reply, Reason::too_many_errors)) {
      require(refusals_ + 1 >= settings_.max_errors, "too few errors for an end", reply.text);
    }
    if (says(reply, Reason::too_many_refused_recipients)) {
      require(refusals_ + 1 >= settings_.max_refused_recipients,
              "too few refused recipients for an end", reply.text);
    }
    if (says(reply, Reason::too_many_idle_commands)) {
      require(is_idle(model_verb(read_model_line(client_).text)) &&
                  idle_at_most_ + 1 > settings_.max_idle_commands,
              "too few idle commands for an end", reply.text);
    }
  }

  void on_unauthorised(const Reply& reply) {
    is_over_ = true;
    const ModelLine line = read_model_line(client_);
    const bool is_in_place = line.kind == LineKind::whole &&
                             must_be_waited_for(model_verb(line.text)) &&
                             line.length < client_.size();
    require(settings_.unauthorised_pipelining == UnauthorisedPipelining::refuse &&
                (must_end_ || may_end_ || is_in_place),
            "a client that waited is refused", reply.text);
  }

  [[nodiscard]] bool must_be_waited_for(std::string_view verb) const {
    return verb == "EHLO" || verb == "HELO" || verb == "DATA" || verb == "AUTH" ||
           (!offers_pipelining_ && verb != "QUIT");
  }

  void on_body_reply(const Reply& reply, const std::optional<Tag>& tag) {
    const auto body = take_strict_body(client_);
    if (!body) {
      return fail("a reply to a body that has not ended", reply.text);
    }
    is_inside_a_body_ = false;
    client_.remove_prefix(body->consumed);
    const bool is_rejected =
        settings_.bare_newline == BareNewline::reject && has_bare_newline(body->text);
    if (is_rejected) {
      is_over_ = true;
      return require(!tag && reply.code == 550, "a body that was to be rejected", reply.text);
    }
    if (!tag || tag->verb != "BODY") {
      return fail("the reply to a message is not the server's", reply.text);
    }
    may_end_ = !offers_pipelining_ && spoke_before(*tag);
    on_message(normalise(unstuff_strictly(body->text)), reply);
  }

  void on_message(const std::string& text, const Reply& reply) {
    const std::size_t index = bodies_++;
    require(index < course_.server.messages().size() && course_.server.messages()[index] == text,
            "the server has another message than the client sent", text);
    transaction_ = {};
    idle_at_least_ = 0;
    idle_at_most_ = reply.is_positive() ? 0 : idle_at_most_;
  }

  void on_command_reply(const Reply& reply, const std::optional<Tag>& tag) {
    if (client_.starts_with("\x16\x03")) {
      return on_foreign_protocol(reply, tag);
    }
    const ModelLine line = read_model_line(client_);
    switch (line.kind) {
      case LineKind::unfinished:
        return fail("a reply without a command", reply.text);
      case LineKind::bare_newline:
        is_over_ = true;
        return require(!tag && reply.code == 500, "a bare newline in a command was not refused",
                       reply.text);
      case LineKind::too_long:
        ++refusals_;
        if (first_word(client_) == "BDAT") {
          is_over_ = true;
          return require(!tag && reply.code == 501, "a chunk of unknown size was not refused",
                         reply.text);
        }
        // The bare newline behind an over-long line has a reply of its own.
        client_.remove_prefix(line.length);
        return require(!tag && reply.code == 500, "an over-long line was not refused", reply.text);
      case LineKind::whole:
        break;
    }
    const std::string_view word = line.text.substr(0, line.text.find(' '));
    if (is_http_method(word) && is_clean(line.text)) {
      return on_foreign_protocol(reply, tag);
    }
    if (says(reply, Reason::not_smtp)) {
      require(is_http_method(upper_case(word)), "SMTP is taken for another protocol", line.text);
      return on_foreign_protocol(reply, tag);
    }
    client_.remove_prefix(line.length);
    on_command(line.text, reply, tag);
  }

  void on_response_reply(const Reply& reply, const std::optional<Tag>& tag) {
    const ModelLine line = read_model_line(client_, kModelAuthOctets);
    const bool is_broken = line.kind == LineKind::bare_newline || line.is_broken;
    if (is_broken) {
      is_over_ = true;
      return require(!tag && reply.code == 500, "a bare newline in a response was not refused",
                     reply.text);
    }
    const bool has_ended = line.length > 0 && client_.substr(0, line.length).ends_with("\r\n");
    if (!has_ended) {
      return fail("a reply without a response", reply.text);
    }
    note_credential(client_.substr(0, line.length - 2));
    client_.remove_prefix(line.length);
    if (!tag || tag->verb != "AUTH") {
      return fail("the reply to a response is not the server's", reply.text);
    }
    follow_auth(reply, *tag);
  }

  void follow_auth(const Reply& reply, const Tag& tag) {
    is_in_auth_ = reply.code == 334;
    is_authenticated_ |= reply.code == 235;
    require(is_in_auth_ || reply.code == 235 || reply.code >= 400,
            "what AUTH cannot be answered with", reply.text);
    auth_failures_ += reply.code >= 400 ? 1 : 0;
    must_end_ =
        settings_.unauthorised_pipelining == UnauthorisedPipelining::refuse && spoke_before(tag);
  }

  // "smtputf8" is a credential to whom it pleases.
  static bool is_in_a_label(std::string_view credential) {
    return std::ranges::any_of(rules::kReasons, [credential](const rules::ReasonInfo& info) {
      return info.label.contains(credential);
    });
  }

  // Every piece that has octets of it was told of, and no event has it.
  void note_credential(std::string_view credential) {
    if (credential == "*") {
      return;
    }
    const auto begin = static_cast<std::size_t>(credential.data() - course_.plan.client.data());
    const std::size_t end = begin + credential.size();
    std::size_t piece_begin = 0;
    for (const GivenPiece& piece : course_.pieces) {
      const bool overlaps = piece_begin < end && begin < piece.end;
      require(!overlaps || piece.is_secret, "a credential was read and not told of", credential);
      piece_begin = piece.end;
    }
    const std::string& client = course_.plan.client;
    const bool is_said_once = client.find(credential) == client.rfind(credential);
    // No other word of an event looks like this.
    const bool is_telling = is_said_once && credential.size() >= 8 && is_model_base64(credential) &&
                            credential.find_first_of("0123456789") != std::string_view::npos &&
                            upper_case(credential) != credential && !is_in_a_label(credential);
    for (const std::string& event : course_.seen.events) {
      require(!is_telling || !event.contains(credential), "an event holds a credential", event);
    }
  }

  void on_foreign_protocol(const Reply& reply, const std::optional<Tag>& tag) {
    is_over_ = true;
    require(!tag && reply.code == 554, "another protocol than SMTP was not refused", reply.text);
  }

  void on_command(std::string_view line, const Reply& reply, const std::optional<Tag>& tag) {
    const std::string verb = model_verb(line);
    const bool is_end_of_securing =
        is_answer_to_first_hello_ && tag && reply.code == 421 && (verb == "EHLO" || verb == "HELO");
    if (tag && tag->verb != verb && !is_end_of_securing) {
      return fail("a reply to another command than " + verb, reply.text);
    }
    count_idle(verb, tag.has_value(), reply);
    if (verb == "BDAT") {
      return on_chunk(line, reply, tag);
    }
    if (verb == "AUTH" && line.size() > 5) {
      const std::size_t space = line.find(' ', line.find_first_not_of(' ', 5));
      note_credential(line.substr(std::min(space, line.size() - 1) + 1));
    }
    if (!tag) {
      return check_our_answer(verb, line, reply);
    }
    if (verb == "STARTTLS") {
      require(!spoke_before(*tag), "what was said in clear may count in TLS", client_);
      // From here on it is nobody's to read.
      is_lost_ = reply.is_positive();
      return require(course_.plan.setup.starttls == rules::Starttls::pass,
                     "the server's STARTTLS is shown", reply.text);
    }
    if (verb == "AUTH") {
      require(may_authenticate(), "an AUTH went on that was not due", line);
      return follow_auth(reply, *tag);
    }
    follow(verb, reply);
    must_end_ = settings_.unauthorised_pipelining == UnauthorisedPipelining::refuse &&
                must_be_waited_for(verb) && spoke_before(*tag);
    if (verb == "EHLO" || verb == "HELO") {
      begin_anew(verb, reply);
    }
    is_inside_a_body_ = reply.code == 354;
    is_over_ |= verb == "QUIT";
  }

  // Whether a refused one counts is not said: between the two numbers both are right.
  void count_idle(std::string_view verb, bool is_forwarded, const Reply& reply) {
    if (!is_idle(verb)) {
      return;
    }
    ++idle_at_most_;
    idle_at_least_ += is_forwarded || reply.code < 400 ? 1 : 0;
    require(idle_at_least_ <= settings_.max_idle_commands, "more idle commands than may be",
            reply.text);
  }

  void check_our_answer(std::string_view verb, std::string_view line, const Reply& reply) {
    ++refusals_;
    if (verb == "STARTTLS") {
      return on_our_starttls(line, reply);
    }
    if (verb == "AUTH") {
      return on_refused_auth(line, reply);
    }
    if (reply.code < 400) {
      return require((verb == "VRFY" && reply.code == 252) || (verb == "HELP" && reply.code == 214),
                     "a success that the server did not say", reply.text);
    }
    if (reply.code == 452) {
      require(verb == "RCPT" && transaction_.forwarded >= settings_.max_recipients,
              "too few recipients to refuse one more", reply.text);
    }
    if (reply.code == 552) {
      const auto size = model_number(parameter_of(line, "SIZE").value_or(""));
      require(verb == "MAIL" && size && size_limit_ > 0 && *size > size_limit_,
              "the message is not too big", reply.text);
    }
  }

  void on_our_starttls(std::string_view line, const Reply& reply) {
    const rules::Starttls mode = course_.plan.setup.starttls;
    const bool terminates = mode == rules::Starttls::terminate;
    if (reply.code >= 400) {
      const bool may_begin = terminates && !client_is_secured_ && !transaction_.has_mail &&
                             upper_case(line) == "STARTTLS" && !course_.client_was_not_admitted;
      return require(!may_begin, "STARTTLS is refused that is due", reply.text);
    }
    require(reply.code == 220 && terminates && !client_is_secured_ && !transaction_.has_mail,
            "TLS that is not due", reply.text);
    client_is_secured_ = true;
    if (!course_.client_tls_at) {
      is_over_ = true;
      return;
    }
    require(*course_.client_tls_at == offset(), "what was said in clear counts in TLS", client_);
    transaction_ = {};
    offers_pipelining_ = offers_chunking_ = offers_auth_ = is_authenticated_ = false;
    size_limit_ = 0;
  }

  // By the mailer's settings, whatever the server offers.
  [[nodiscard]] bool is_auth_allowed() const {
    const SessionSetup& setup = course_.plan.setup;
    const bool lacks_tls = setup.auth_requires_tls && !client_is_secured_;
    if (setup.zone == rules::Zone::internal) {
      return !lacks_tls || !course_.plan.server.shows_auth_only_in_tls;
    }
    return setup.authenticated_relay && !lacks_tls;
  }

  [[nodiscard]] bool may_authenticate() const {
    return is_auth_allowed() && offers_auth_ && !is_authenticated_ && !transaction_.has_mail;
  }

  void on_refused_auth(std::string_view line, const Reply& reply) {
    const bool is_due = may_authenticate() && is_clean_auth(line) && read_model_auth(line);
    require(reply.code >= 400 && !is_due, "an AUTH is refused that is due", reply.text);
    require(reply.code != 538 || course_.plan.setup.auth_requires_tls, "TLS is asked for in vain",
            reply.text);
  }

  [[nodiscard]] static bool is_clean_auth(std::string_view line) {
    return std::ranges::all_of(line, [](char c) { return c >= ' ' && c <= '~'; });
  }

  // The server's reply to what went on.
  void follow(std::string_view verb, const Reply& reply) {
    if (verb == "RCPT" || verb == "DATA") {
      require(transaction_.chunks == Chunks::none, "RCPT or DATA went on behind BDAT", reply.text);
    }
    if (verb == "RCPT") {
      ++transaction_.forwarded;
      transaction_.accepted += reply.is_positive() ? 1 : 0;
      require(transaction_.accepted <= settings_.max_recipients, "more recipients than may be",
              reply.text);
    }
    // Refused or not, some servers forget the recipients with it.
    transaction_.may_be_forgotten |=
        verb == "DATA" || verb == "RSET" || verb == "EHLO" || verb == "HELO";
    if (verb == "RSET" && reply.is_positive()) {
      transaction_ = {};
    }
    if (verb == "MAIL" && reply.is_positive()) {
      transaction_ = {.has_mail = true};
    }
  }

  void begin_anew(std::string_view verb, const Reply& reply) {
    if (!reply.is_positive()) {
      return;
    }
    const GullibleServer::Habits& habits = course_.plan.server;
    const bool is_ehlo = verb == "EHLO";
    transaction_ = {};
    offers_pipelining_ = is_ehlo && habits.offers_pipelining;
    offers_chunking_ = is_ehlo && habits.offers_chunking;
    size_limit_ = is_ehlo ? habits.size_limit() : 0;
    const std::string shown = upper_case(reply.text);
    require(shown.contains("CHUNKING\r") == offers_chunking_,
            "CHUNKING is not shown as it is offered", reply.text);
    require(shown.contains("BINARYMIME\r") == (offers_chunking_ && habits.offers_binarymime),
            "BINARYMIME is not shown as it is offered", reply.text);
    offers_auth_ = is_ehlo && is_auth_allowed() && !habits.auth.empty() &&
                   (course_.server.is_in_tls() || !habits.shows_auth_only_in_tls);
    require(shown.contains("AUTH ") == offers_auth_, "AUTH is not shown as it may be used",
            reply.text);
    const rules::Starttls mode = course_.plan.setup.starttls;
    const bool shows_starttls = (mode == rules::Starttls::terminate && !client_is_secured_) ||
                                (mode == rules::Starttls::pass && habits.offers_starttls);
    require(shown.contains("STARTTLS") == (is_ehlo && shows_starttls),
            "STARTTLS is not shown as it may be used", reply.text);
  }

  [[nodiscard]] std::vector<int> why_not_due(const ModelChunk& chunk) const {
    std::vector<int> codes;
    if (!offers_chunking_) {
      codes.push_back(502);
    }
    if (!transaction_.has_mail || transaction_.may_be_forgotten ||
        transaction_.chunks == Chunks::refused) {
      codes.push_back(503);
    }
    if (transaction_.accepted == 0) {
      codes.push_back(554);
    }
    if (size_limit_ > 0 &&
        (chunk.octets > size_limit_ || transaction_.text.size() > size_limit_ - chunk.octets)) {
      codes.push_back(552);
    }
    return codes;
  }

  void on_chunk(std::string_view line, const Reply& reply, const std::optional<Tag>& tag) {
    const auto chunk = read_model_chunk(line);
    if (!chunk || !is_clean(line)) {
      is_over_ = true;
      return require(!tag && (reply.code == 501 || (!is_clean(line) && reply.code == 500)),
                     "a chunk of unknown size was not refused", reply.text);
    }
    const std::vector<int> wrong = why_not_due(*chunk);
    if (tag) {
      require(wrong.empty(), "a chunk went on that was not due", reply.text);
      return on_forwarded_chunk(*chunk, reply, *tag);
    }
    ++refusals_;
    require(std::ranges::find(wrong, reply.code) != wrong.end(),
            "a chunk is refused that is due, or for another reason", reply.text);
    if (client_.size() < chunk->octets) {
      return fail("a chunk is refused before its octets have come", reply.text);
    }
    client_.remove_prefix(chunk->octets);
    if (transaction_.has_mail && reply.code != 502) {
      transaction_.chunks = Chunks::refused;
    }
  }

  void on_forwarded_chunk(const ModelChunk& chunk, const Reply& reply, const Tag& tag) {
    const bool is_early = client_.size() < chunk.octets ||
                          course_.sent_at_reply[tag.number - 1] < offset() + chunk.octets;
    if (is_early) {
      is_over_ = true;
      require(reply.code >= 400, "a chunk is accepted before its octets have come", reply.text);
      return require(course_.seen.end == End::reset_server || reply.code == 421,
                     "the server may take the rest of a chunk for commands", reply.text);
    }
    transaction_.text += client_.substr(0, chunk.octets);
    client_.remove_prefix(chunk.octets);
    must_end_ = settings_.unauthorised_pipelining == UnauthorisedPipelining::refuse &&
                must_be_waited_for("BDAT") && spoke_before(tag);
    if (chunk.is_last) {
      const std::string text = transaction_.text;
      on_message(text, reply);
    } else {
      transaction_.chunks = reply.is_positive() ? Chunks::open : Chunks::refused;
    }
  }

  [[nodiscard]] bool has_whole_command() const {
    const ModelLine line =
        is_in_auth_ ? read_model_line(client_, kModelAuthOctets) : read_model_line(client_);
    if (line.kind != LineKind::whole || is_in_auth_) {
      return line.kind == LineKind::whole;
    }
    const auto chunk = read_model_chunk(line.text);
    return model_verb(line.text) != "BDAT" || !chunk ||
           client_.size() - line.length >= chunk->octets;
  }

  void check_end() {
    require(!must_end_ || is_over_, "a client that did not wait was served", client_);
    const Seen& seen = course_.seen;
    // Where the session came to its own end, every command has had its reply.
    if (seen.end != End::close || seen.reason != Reason::none || is_over_) {
      return;
    }
    require(!is_inside_a_body_, "the session ended gently inside a body", client_);
    // Some servers close instead of saying 221.
    const bool is_quitting =
        course_.server.is_closed() && model_verb(read_model_line(client_).text) == "QUIT";
    require(is_quitting || !has_whole_command(), "a command without a reply", client_);
    require(tags_ == course_.server.replies() || course_.server.was_wild(),
            "a reply of the server is missing", seen.to_client);
  }

  const Course& course_;
  const smtp_proxy::Settings& settings_;
  std::vector<std::string> broken_;
  std::string_view client_;
  std::size_t tags_ = 0;
  std::size_t bodies_ = 0;
  std::size_t refusals_ = 0;  // and other answers of ours
  std::size_t idle_at_least_ = 0;
  std::size_t idle_at_most_ = 0;
  std::uint64_t size_limit_ = 0;
  bool offers_pipelining_ = false;
  bool offers_chunking_ = false;
  bool offers_auth_ = false;
  bool has_said_hello_ = false;
  bool is_answer_to_first_hello_ = false;
  bool client_is_secured_ = false;
  bool is_in_auth_ = false;
  bool is_authenticated_ = false;
  std::size_t auth_failures_ = 0;
  Transaction transaction_;
  bool is_inside_a_body_ = false;
  bool must_end_ = false;  // the client did not wait: the next reply says so
  bool may_end_ = false;
  bool is_over_ = false;
  bool is_lost_ = false;
};

}  // namespace

std::vector<std::string> replay(const Course& course) {
  return Replay(course).run();
}

std::vector<std::string> replay_observed(const Course& course) {
  std::vector<std::string> broken;
  const std::string& to_client = course.seen.to_client;
  const std::string& to_server = course.seen.to_server;
  // That the server is gone is told all the same.
  const std::string_view own =
      std::string_view(to_client).substr(std::min(to_client.size(), course.server_said.size()));
  if (!to_client.starts_with(course.server_said) && !course.server_said.starts_with(to_client)) {
    broken.push_back("the client hears something else than the server said: " + to_client);
  }
  if (!own.empty() && !own.starts_with("421 4.4.")) {
    broken.push_back("the client hears more than the server said: " + std::string(own));
  }
  if (!course.plan.client.starts_with(to_server)) {
    broken.push_back("the server hears something else than the client said: " + to_server);
  }
  const bool has_gone_by_itself = !course.server.is_closed() && course.seen.server_was_shut_down;
  // A piece of a line that will never be whole may stay behind.
  const std::string_view unheard =
      std::string_view(course.plan.client)
          .substr(std::min(to_server.size(), course.sent),
                  course.sent - std::min(to_server.size(), course.sent));
  if (has_gone_by_itself && unheard.contains('\n')) {
    broken.push_back("the server has not heard all that the client said: " + to_server);
  }
  if (has_gone_by_itself && to_client.size() < course.server_said.size()) {
    broken.push_back("the client has not heard all that the server said: " + to_client);
  }
  return broken;
}

}  // namespace postern::testing_support
