// The client's commands, and what becomes of each.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "smtp_proxy/core/dialogue.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

std::string_view without_leading_spaces(std::string_view text) {
  const std::size_t start = text.find_first_not_of(' ');
  return start == std::string_view::npos ? std::string_view{} : text.substr(start);
}

// What follows "FROM:" or "TO:". Real clients write spaces behind the colon; none is sent on.
std::optional<std::string_view> behind_keyword(std::string_view argument,
                                               std::string_view keyword) {
  if (!equals_ignoring_case(argument.substr(0, keyword.size()), keyword)) {
    return std::nullopt;
  }
  return without_leading_spaces(argument.substr(keyword.size()));
}

Reason reason_of(rules::PathError error, Reason malformed) {
  return error == rules::PathError::needs_smtputf8 ? Reason::smtputf8_required : malformed;
}

// Whether a transaction is open, and has a recipient to send a body to, is known when every reply
// before it has come.
bool waits_for_replies(Verb verb) {
  constexpr std::array kWaiting{Verb::mail, Verb::data, Verb::bdat, Verb::starttls, Verb::auth};
  return std::ranges::find(kWaiting, verb) != kWaiting.end();
}

// Commands that must be the last of what the client sends at once (RFC 2920 3.1).
bool is_synchronising(Answer answer) {
  constexpr std::array kSynchronising{Answer::ehlo,
                                      Answer::helo,
                                      Answer::data,
                                      Answer::starttls,
                                      Answer::auth,
                                      Answer::securing_hello,
                                      Answer::securing_starttls};
  return std::ranges::find(kSynchronising, answer) != kSynchronising.end();
}

bool is_hello(Answer answer) {
  return answer == Answer::ehlo || answer == Answer::helo;
}

// A TLS record of a handshake: its type, and the major version that all of them have (RFC 8446 5.1).
constexpr std::string_view kTlsHello{"\x16\x03", 2};

constexpr std::string_view kAuth{"AUTH "};

// BDAT also by other rules than ours, with blanks before it or a tab behind: octets may follow.
bool begins_like_a_chunk(std::string_view line) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto* first = std::ranges::find_if(line, is_letter);
  const auto* last = std::find_if_not(first, line.end(), is_letter);
  return equals_ignoring_case({first, last}, "BDAT");
}

Answer answer_to(Verb verb) {
  switch (verb) {
    case Verb::helo:
      return Answer::helo;
    case Verb::ehlo:
      return Answer::ehlo;
    case Verb::mail:
      return Answer::mail;
    case Verb::rcpt:
      return Answer::rcpt;
    case Verb::data:
      return Answer::data;
    case Verb::rset:
      return Answer::rset;
    case Verb::noop:
      return Answer::noop;
    case Verb::quit:
      return Answer::quit;
    case Verb::starttls:
      return Answer::starttls;
    case Verb::auth:
      return Answer::auth;
    case Verb::bdat:
    case Verb::vrfy:
    case Verb::help:
    case Verb::forbidden:
    case Verb::foreign:
    case Verb::unknown:
      break;
  }
  return Answer::other;
}

std::string to_line(const Chunk& chunk) {
  return "BDAT " + std::to_string(chunk.octets) + (chunk.is_last ? " LAST" : "") + "\r\n";
}

template <typename... Calls>
struct Overloaded : Calls... {
  using Calls::operator()...;
};

}  // namespace

// --- lines

std::size_t Dialogue::read_command(std::string_view input, Output& out) {
  if (skips_line_) {
    out.has_secret = true;  // it may be an AUTH
    return skip_rest_of_line(input, out);
  }
  if (input.starts_with(kTlsHello)) {
    return refuse_the_rest(Reason::not_smtp, input, out);
  }
  const bool is_auth = equals_ignoring_case(input.substr(0, kAuth.size()), kAuth);
  out.has_secret = out.has_secret || is_auth;
  const Line line = take_line(input, is_auth ? kLongestSaslLineOctets : kLongestCommandOctets);
  switch (line.status) {
    case LineStatus::need_more:
      return 0;
    case LineStatus::bare_newline:
      return refuse_the_rest(Reason::bare_newline, input, out);
    case LineStatus::too_long:
      if (begins_like_a_chunk(input.substr(0, kLongestCommandOctets))) {
        return refuse_the_rest(Reason::malformed_chunk, input, out);
      }
      if (observes()) {
        return refuse_the_rest(Reason::line_too_long, input, out);
      }
      skips_line_ = true;
      refuse({.reason = Reason::line_too_long}, out);
      return ends_after_replies_ ? input.size() : skip_rest_of_line(input, out);
    case LineStatus::complete:
      break;
  }
  const Command command = parse_command(line.text);
  if (waits_for_replies(command.spec.verb) && !replies_.empty()) {
    holds_client_ = true;
    return 0;
  }
  on_command(command, input.substr(0, line.consumed), out);
  return line.consumed;
}

std::size_t Dialogue::skip_rest_of_line(std::string_view input, Output& out) {
  const SkippedLine skipped = skip_line(input);
  if (skipped.status == SkippedLine::Status::bare_newline) {
    return refuse_the_rest(Reason::bare_newline, input, out);
  }
  skips_line_ = skipped.status == SkippedLine::Status::need_more;
  if (!skips_line_ && phase_ == Phase::sasl) {
    cancel_auth(Reason::line_too_long, out);
  }
  return skipped.consumed;
}

// Where what follows can no longer be told apart.
std::size_t Dialogue::refuse_the_rest(Reason reason, std::string_view input, Output& out) {
  refuse({.reason = reason, .ends_session = true}, out);
  return observes() ? 0 : input.size();
}

void Dialogue::on_early_talker(Output& out) {
  early_talker_was_told_ = true;
  report_refusal({.reason = Reason::early_talker}, out);
  if (!observes()) {
    out.to_client += render_reply(Reason::early_talker);
    end(Reason::early_talker, out);
  }
}

void Dialogue::on_unauthorised_pipelining(Output& out) {
  if (settings_->unauthorised_pipelining == UnauthorisedPipelining::wait || ends_after_replies_ ||
      std::exchange(pipelining_was_told_, true)) {
    return;
  }
  refuse({.reason = Reason::unauthorised_pipelining, .ends_session = !observes()}, out);
}

// --- commands

void Dialogue::on_command(const Command& command, std::string_view line, Output& out) {
  const Decision decision = decide(command, line.substr(0, line.size() - 2), out);
  if (observes()) {
    return observe_command(decision, command.spec.verb, line, out);
  }
  std::visit(Overloaded{
                 [&](const Forward& to_forward) {
                   if (is_hello(to_forward.answer) && upstream_ == Upstream::untried &&
                       upstream_tls_ != rules::UpstreamTls::off) {
                     return secure_server(to_forward.text, out);
                   }
                   forward(to_forward.text + "\r\n", to_forward.answer, out);
                 },
                 [&](const AnswerHere& ours) { answer(ours.text, out); },
                 [&](const Refusal& refusal) { refuse(refusal, out); },
                 [&](const ChunkDecision& of_chunk) {
                   begin_chunk(of_chunk, to_line(of_chunk.chunk), out);
                 },
                 [&](const BeginTls&) { phase_ = Phase::securing_client; },
                 [&](const BeginAuth& begun) { begin_auth(begun, out); },
             },
             decision);
}

void Dialogue::observe_command(const Decision& decision, Verb verb, std::string_view line,
                               Output& out) {
  if (const auto* of_chunk = std::get_if<ChunkDecision>(&decision)) {
    return begin_chunk(*of_chunk, line, out);
  }
  forward(line, answer_to(verb), out);
  if (verb == Verb::auth) {
    const auto* begun = std::get_if<BeginAuth>(&decision);
    exchange_ = begun == nullptr ? SaslExchange{} : begun->exchange;
  }
  if (const auto* refusal = std::get_if<Refusal>(&decision)) {
    if (verb == Verb::mail) {
      // What it agreed on was not read: nothing is held against its recipients.
      transaction_ = {.is_begun = true, .smtputf8 = offered_.has(Extension::smtputf8)};
    }
    refuse(*refusal, out);
  }
}

Dialogue::Decision Dialogue::decide(const Command& command, std::string_view line, Output& out) {
  const Verb verb = command.spec.verb;
  if (const Reason reason = refusal_of_form(command, line); reason != Reason::none) {
    return begins_like_a_chunk(line)
               ? Refusal{.reason = Reason::malformed_chunk, .ends_session = true}
               : Refusal{.reason = reason};
  }
  if (must_be_secured_first(verb)) {
    return Refusal{.reason = Reason::bad_sequence};
  }
  switch (verb) {
    case Verb::helo:
    case Verb::ehlo:
      return unless_idle(Forward{
          std::string(command.spec.name) + ' ' + std::string(command.argument), answer_to(verb)});
    case Verb::mail:
      return decide_mail(command.argument);
    case Verb::rcpt:
      return decide_rcpt(command.argument, out);
    case Verb::data:
      return decide_data();
    case Verb::bdat:
      return decide_chunk(command.argument);
    case Verb::rset:
    case Verb::noop:
      return unless_idle(Forward{std::string(command.spec.name), answer_to(verb)});
    case Verb::quit:
      return Forward{"QUIT", Answer::quit};
    case Verb::vrfy:
      return unless_idle(AnswerHere{"252 2.0.0 not verified here; RCPT will tell\r\n"});
    case Verb::help:
      return unless_idle(AnswerHere{"214 2.0.0 see RFC 5321\r\n"});
    case Verb::starttls:
      return unless_idle(decide_starttls(command));
    case Verb::auth:
      return decide_auth(command);
    case Verb::forbidden:
      return Refusal{.reason = Reason::forbidden_command, .detail = std::string(command.spec.name)};
    case Verb::foreign:
      return Refusal{.reason = Reason::not_smtp,
                     .detail = std::string(command.spec.name),
                     .ends_session = true};
    case Verb::unknown:
      break;
  }
  return Refusal{.reason = Reason::unknown_command};
}

// What can be said without knowing what the command is for.
Reason Dialogue::refusal_of_form(const Command& command, std::string_view line) const {
  const Verb verb = command.spec.verb;
  const bool is_envelope = verb == Verb::mail || verb == Verb::rcpt;
  if (has_control_character(line) || (!is_envelope && has_8bit_character(line))) {
    return Reason::control_character;
  }
  constexpr std::size_t kOrdinaryLimitOctets = 512;
  const auto envelope = verb == Verb::mail ? EnvelopeCommand::mail : EnvelopeCommand::rcpt;
  const std::size_t limit_octets = is_envelope          ? command_limit_octets(envelope, offered_)
                                   : verb == Verb::auth ? kLongestSaslLineOctets
                                                        : kOrdinaryLimitOctets;
  if (line.size() + 2 > limit_octets) {
    return Reason::line_too_long;
  }
  const Argument argument = command.spec.argument;
  const bool is_hello = verb == Verb::helo || verb == Verb::ehlo;
  if ((argument == Argument::none && !command.argument.empty()) ||
      (argument == Argument::required && command.argument.empty()) ||
      (is_hello && command.argument.contains(' '))) {
    return Reason::syntax_error;
  }
  return verb == Verb::unknown ? Reason::unknown_command : Reason::none;
}

Dialogue::Decision Dialogue::unless_idle(Decision decision) {
  if (++idle_commands_ == settings_->max_idle_commands + 1) {
    return Refusal{.reason = Reason::too_many_idle_commands, .ends_session = !observes()};
  }
  return decision;
}

Dialogue::Decision Dialogue::decide_mail(std::string_view argument) {
  if (transaction_.is_open) {
    // The server refuses it too (RFC 5321 4.1.4), but what was judged by the sender, and SMTPUTF8,
    // must stay what the open transaction has.
    return Refusal{.reason = Reason::bad_sequence};
  }
  const auto text = behind_keyword(argument, "FROM:");
  if (!text) {
    return Refusal{.reason = Reason::syntax_error};
  }
  const auto parsed = rules::parse_reverse_path(*text, offered_.has(Extension::smtputf8));
  if (!parsed) {
    return Refusal{.reason = reason_of(parsed.error(), Reason::malformed_sender),
                   .detail = std::string(*text)};
  }
  const auto parameters = parse_parameters(EnvelopeCommand::mail, parsed->rest, offered_);
  if (!parameters) {
    return Refusal{.reason = parameters.error(),
                   .detail = std::string(without_leading_spaces(parsed->rest))};
  }
  const std::string sender = parsed->path.to_string();
  if (has_8bit_character(sender) && !parameters->smtputf8) {
    return Refusal{.reason = Reason::smtputf8_required, .detail = sender};
  }
  if (size_limit_ != 0 && parameters->octets > size_limit_) {
    return Refusal{.reason = Reason::message_too_big};
  }
  transaction_ = {.is_begun = true,
                  .smtputf8 = parameters->smtputf8,
                  .is_binary = parameters->is_binary,
                  .sender_is_refused_for_foreign =
                      policy_->require_local_sender && client_.zone == rules::Zone::internal &&
                      rules::decide_originator(*policy_, parsed->path) != Reason::none};
  return Forward{"MAIL FROM:" + sender + parameters->text, Answer::mail};
}

Dialogue::Decision Dialogue::decide_rcpt(std::string_view argument, Output& out) {
  if ((!transaction_.is_begun && !observes()) || transaction_.chunking != Chunking::none) {
    return Refusal{.reason = Reason::bad_sequence};
  }
  const auto text = behind_keyword(argument, "TO:");
  if (!text) {
    return Refusal{.reason = Reason::syntax_error};
  }
  const auto parsed = rules::parse_forward_path(*text, transaction_.smtputf8);
  if (!parsed) {
    return Refusal{.reason = reason_of(parsed.error(), Reason::malformed_address),
                   .detail = std::string(*text)};
  }
  const auto parameters = parse_parameters(EnvelopeCommand::rcpt, parsed->rest, offered_);
  if (!parameters) {
    return Refusal{.reason = parameters.error(),
                   .detail = std::string(without_leading_spaces(parsed->rest))};
  }
  if (has_8bit_character(parameters->text) && !transaction_.smtputf8) {
    return Refusal{.reason = Reason::smtputf8_required, .detail = parameters->text.substr(1)};
  }
  return decide_recipient(parsed->path, *parameters, out);
}

Dialogue::Decision Dialogue::decide_recipient(const rules::ForwardPath& path,
                                              const Parameters& parameters, Output& out) {
  rules::RelayDecision decision = rules::decide_relay(client_, *mailer_, path);
  Counts counts = Counts::as_refused_recipient;
  if (decision.forward() && decision.recipient == rules::RecipientClass::foreign &&
      transaction_.sender_is_refused_for_foreign) {
    decision.reason = Reason::sender_not_local;
  }
  if (decision.forward() && transaction_.recipients() >= settings_->max_recipients) {
    // A long list is no offence: its sender comes back with the rest (RFC 5321 4.5.3.1.10).
    decision.reason = Reason::too_many_recipients;
    counts = Counts::as_neither;
  }
  const std::string recipient = path.to_string();
  out.events.emplace_back(rules::RecipientDecided{.mailer = mailer_->id,
                                                  .zone = client_.zone,
                                                  .decision = decision,
                                                  .recipient = make_printable(recipient),
                                                  .observed = observes() && !decision.forward()});
  if (decision.forward()) {
    return Forward{"RCPT TO:" + recipient + parameters.text, Answer::rcpt};
  }
  return Refusal{.reason = decision.reason, .detail = recipient, .counts = counts};
}

// --- refusals and answers

void Dialogue::forward(std::string_view line, Answer answer, Output& out) {
  out.to_server(line);
  replies_.push(answer);
  if (is_synchronising(answer) || answer == Answer::rset) {
    transaction_.is_begun = false;  // also if it is refused: some servers reset all the same
  }
  let_client_wait(is_synchronising(answer));
  if (answer == Answer::rcpt) {
    ++transaction_.awaited_recipients;
  } else if (answer == Answer::quit) {
    holds_client_ = false;  // what follows is read and dropped
    client_must_wait_ = false;
    phase_ = Phase::quitting;
  }
}

// A server that did not offer PIPELINING gets one command at a time, whatever the client does.
// Bytes behind DATA are commands or a body: the server's answer decides which (RFC 2920 3.1).
void Dialogue::let_client_wait(bool is_synchronising) {
  holds_client_ = is_synchronising || !offered_.has(Extension::pipelining);
  client_must_wait_ = holds_client_;
}

void Dialogue::answer(std::string text, Output& out) {
  if (replies_.empty()) {
    out.to_client += text;
  } else {
    replies_.push_ours(std::move(text));
  }
}

void Dialogue::refuse(const Refusal& refusal, Output& out) {
  if (refusal.counts == Counts::as_error) {
    report_refusal(refusal, out);
  }
  const Reason limit = count_refusal(refusal.counts);
  if (observes()) {
    if (limit != Reason::none) {
      report_refusal({.reason = limit}, out);
    }
    if (refusal.ends_session) {
      become_opaque(rules::OpaqueCause::observed, out);
    }
    return;
  }
  if (limit != Reason::none) {
    answer(render_reply(limit), out);
    return end_after_replies(limit, out);
  }
  answer(render_reply(refusal.reason, refusal.detail), out);
  if (refusal.ends_session) {
    return end_after_replies(refusal.reason, out);
  }
  if (refusal.counts != Counts::as_neither) {
    pause_after_refusal();
  }
}

// The limit that this refusal reaches, if any.
Reason Dialogue::count_refusal(Counts counts) {
  switch (counts) {
    case Counts::as_error:
      return ++errors_ == settings_->max_errors ? Reason::too_many_errors : Reason::none;
    case Counts::as_refused_recipient:
      return ++refused_recipients_ == settings_->max_refused_recipients
                 ? Reason::too_many_refused_recipients
                 : Reason::none;
    case Counts::as_neither:
      break;
  }
  return Reason::none;
}

void Dialogue::pause_after_refusal() {
  if (errors_ + refused_recipients_ < settings_->refusals_before_delay) {
    return;
  }
  pause_ = std::clamp(pause_ * 2, std::chrono::seconds(1), settings_->longest_delay);
  is_paused_ = true;
}

void Dialogue::end_after_replies(Reason reason, Output& out) {
  if (!ends_after_replies_) {
    ends_after_replies_ = true;
    end_reason_ = reason;
  }
  flush_ours(out);
}

}  // namespace postern::smtp_proxy
