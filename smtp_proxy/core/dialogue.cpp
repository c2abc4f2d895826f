#include "smtp_proxy/core/dialogue.hpp"

#include <optional>
#include <string>
#include <utility>

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

// More answers than this and the client waits: what a flood of pipelined commands can make us hold.
constexpr std::size_t kMostOutstandingReplies = 128;

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

Reason reason_of(rules::PathError error) {
  return error == rules::PathError::needs_smtputf8 ? Reason::smtputf8_required
                                                   : Reason::malformed_address;
}

bool is_refusal(std::uint16_t code) {
  return code >= 400;
}

}  // namespace

Dialogue::Dialogue(std::shared_ptr<const rules::Policy> policy, const rules::Mailer& mailer,
                   rules::Zone zone, const Settings& settings)
    : policy_(std::move(policy)),
      mailer_(&mailer),
      settings_(&settings),
      client_{.zone = zone, .authenticated = false} {}

// --- the client's side
// ---------------------------------------------------------------------------------------

bool Dialogue::reads_client() const {
  if (phase_ == Phase::greeting) {
    return settings_->early_talker == EarlyTalker::refuse;
  }
  return !holds_client_ && !ends_after_replies_ && replies_.size() < kMostOutstandingReplies;
}

std::size_t Dialogue::on_client(std::string_view input, Output& out) {
  std::size_t position = 0;
  while (position < input.size() && reads_client()) {
    const std::string_view rest = input.substr(position);
    std::size_t consumed = 0;
    switch (phase_) {
      case Phase::greeting:
        refuse(Reason::early_talker, {}, out);
        end(Reason::early_talker, out);
        return input.size();
      case Phase::commands:
        consumed = read_command(rest, out);
        break;
      case Phase::body:
        consumed = read_body(rest, out);
        break;
      case Phase::quitting:
      case Phase::ended:
        return input.size();
    }
    if (consumed == 0) {
      break;
    }
    ++progress_;
    position += consumed;
  }
  return position;
}

std::size_t Dialogue::read_command(std::string_view input, Output& out) {
  if (skips_line_) {
    const SkippedLine skipped = skip_line(input);
    skips_line_ = !skipped.ended;
    return skipped.consumed;
  }
  const Line line = take_line(input, kLongestCommandOctets);
  switch (line.status) {
    case LineStatus::need_more:
      return 0;
    case LineStatus::bare_newline:
      refuse(Reason::bare_newline, {}, out);
      end_after_replies(Reason::bare_newline, out);
      return input.size();
    case LineStatus::too_long:
      refuse(Reason::line_too_long, {}, out);
      skips_line_ = true;
      return read_command(input, out);
    case LineStatus::complete:
      break;
  }
  const Verb verb = parse_command(line.text).spec.verb;
  if ((verb == Verb::mail || verb == Verb::data) && !replies_.empty()) {
    // Whether a transaction is open, and has a recipient to send a body to, is known when every
    // reply before it has come.
    holds_client_ = true;
    return 0;
  }
  on_command(line.text, out);
  return line.consumed;
}

void Dialogue::on_command(std::string_view line, Output& out) {
  if (has_control_character(line)) {
    return refuse(Reason::control_character, {}, out);
  }
  const Command command = parse_command(line);
  const Verb verb = command.spec.verb;
  const bool is_envelope = verb == Verb::mail || verb == Verb::rcpt;
  if (!is_envelope && has_8bit_character(line)) {
    return refuse(Reason::control_character, {}, out);
  }
  const std::size_t limit_octets =
      is_envelope
          ? command_limit_octets(verb == Verb::mail ? EnvelopeCommand::mail : EnvelopeCommand::rcpt,
                                 offered_)
          : 512;
  if (line.size() + 2 > limit_octets) {
    return refuse(Reason::line_too_long, {}, out);
  }
  if ((command.spec.argument == Argument::none && !command.argument.empty()) ||
      (command.spec.argument == Argument::required && command.argument.empty())) {
    return refuse(Reason::syntax_error, {}, out);
  }
  switch (verb) {
    case Verb::helo:
      return on_hello(command, Answer::helo, out);
    case Verb::ehlo:
      return on_hello(command, Answer::ehlo, out);
    case Verb::mail:
      return on_mail(command.argument, out);
    case Verb::rcpt:
      return on_rcpt(command.argument, out);
    case Verb::data:
      return on_data(out);
    case Verb::rset:
      return forward("RSET", {}, Answer::rset, out);
    case Verb::noop:
      return forward("NOOP", {}, Answer::noop, out);
    case Verb::quit:
      forward("QUIT", {}, Answer::quit, out);
      holds_client_ = false;  // what follows is read and dropped
      phase_ = Phase::quitting;
      return;
    case Verb::vrfy:
      return answer("252 2.0.0 not verified here; RCPT will tell\r\n", out);
    case Verb::help:
      return answer("214 2.0.0 see RFC 5321\r\n", out);
    case Verb::forbidden:
      return refuse(Reason::forbidden_command, command.spec.name, out);
    case Verb::unknown:
      return refuse(Reason::unknown_command, {}, out);
  }
}

void Dialogue::on_hello(const Command& command, Answer answer, Output& out) {
  if (command.argument.find(' ') != std::string_view::npos) {
    return refuse(Reason::syntax_error, {}, out);
  }
  forward(command.spec.name, command.argument, answer, out);
  holds_client_ = true;  // its answer decides what may follow
}

void Dialogue::on_mail(std::string_view argument, Output& out) {
  if (has_mail_) {
    // The server refuses it too (RFC 5321 4.1.4), but what was judged by the sender, and SMTPUTF8,
    // must stay what the open transaction has.
    return refuse_saying("503 5.5.1 nested MAIL command\r\n", Reason::bad_sequence, {}, out);
  }
  const auto text = behind_keyword(argument, "FROM:");
  if (!text) {
    return refuse(Reason::syntax_error, {}, out);
  }
  const auto parsed = rules::parse_reverse_path(*text, offered_.has(Extension::smtputf8));
  if (!parsed) {
    return refuse(reason_of(parsed.error()), *text, out);
  }
  const auto parameters = parse_parameters(EnvelopeCommand::mail, parsed->rest, offered_);
  if (!parameters) {
    return refuse(parameters.error(), without_leading_spaces(parsed->rest), out);
  }
  const std::string sender = parsed->path.to_string();
  if (has_8bit_character(sender) && !parameters->smtputf8) {
    return refuse(Reason::smtputf8_required, sender, out);
  }
  smtputf8_ = parameters->smtputf8;
  sender_is_refused_for_foreign_ = policy_->require_local_sender &&
                                   client_.zone == rules::Zone::internal &&
                                   rules::decide_originator(*policy_, parsed->path) != Reason::none;
  forward("MAIL", "FROM:" + sender + parameters->text, Answer::mail, out);
}

void Dialogue::on_rcpt(std::string_view argument, Output& out) {
  const auto text = behind_keyword(argument, "TO:");
  if (!text) {
    return refuse(Reason::syntax_error, {}, out);
  }
  const auto parsed = rules::parse_forward_path(*text, smtputf8_);
  if (!parsed) {
    return refuse(reason_of(parsed.error()), *text, out);
  }
  const auto parameters = parse_parameters(EnvelopeCommand::rcpt, parsed->rest, offered_);
  if (!parameters) {
    return refuse(parameters.error(), without_leading_spaces(parsed->rest), out);
  }
  judge_recipient(parsed->path, *parameters, out);
}

void Dialogue::judge_recipient(const rules::ForwardPath& path, const Parameters& parameters,
                               Output& out) {
  rules::RelayDecision decision = rules::decide_relay(client_, *mailer_, path);
  if (decision.forward() && decision.recipient == rules::RecipientClass::foreign &&
      sender_is_refused_for_foreign_) {
    decision.reason = Reason::sender_not_local;
  }
  const std::string recipient = path.to_string();
  out.events.emplace_back(rules::RecipientDecided{.mailer = mailer_->id,
                                                  .zone = client_.zone,
                                                  .decision = decision,
                                                  .recipient = make_printable(recipient)});
  if (decision.forward()) {
    return forward("RCPT", "TO:" + recipient + parameters.text, Answer::rcpt, out);
  }
  if (++refused_recipients_ < settings_->max_refused_recipients) {
    return answer(render_reply(decision.reason, recipient), out);
  }
  answer(render_reply(Reason::too_many_refused_recipients), out);
  end_after_replies(Reason::too_many_refused_recipients, out);
}

void Dialogue::on_data(Output& out) {
  if (accepted_recipients_ == 0) {
    return refuse(Reason::no_valid_recipients, {}, out);
  }
  forward("DATA", {}, Answer::data, out);
  // Bytes behind DATA are commands or a body: the server's answer decides which (RFC 2920 3.1).
  holds_client_ = true;
}

std::size_t Dialogue::read_body(std::string_view input, Output& out) {
  const bool rejects = settings_->bare_newline == BareNewline::reject;
  const Body::Progress progress = body_.read(input, out);
  if (!progress.ended) {
    return progress.consumed;
  }
  if (rejects && body_.saw_bare_newline()) {
    out.events.emplace_back(rules::CommandRefused{.mailer = mailer_->id,
                                                  .zone = client_.zone,
                                                  .reason = Reason::bare_newline,
                                                  .detail = "body"});
    out.to_client += "550 5.6.11 bare CR or LF in the message\r\n";
    end_message(rules::MessageOutcome::refused, out);
    end(Reason::bare_newline, out);
    return progress.consumed;
  }
  out.to_server(".\r\n");
  replies_.push(Answer::end_of_data);
  holds_client_ = !offered_.has(Extension::pipelining);
  phase_ = Phase::commands;
  return progress.consumed;
}

void Dialogue::on_client_eof(Output& out) {
  client_ended_ = true;
  switch (phase_) {
    case Phase::greeting:
    case Phase::body:
      return end(Reason::none, out);
    case Phase::commands:
      out.shut_down_server = replies_.empty();
      return;
    case Phase::quitting:
    case Phase::ended:
      // After QUIT the server closes first: the socket left in TIME_WAIT is then its own, and the
      // client's address does not run out of ports on this leg.
      return;
  }
}

// --- the server's side
// ---------------------------------------------------------------------------------------

std::size_t Dialogue::on_server(std::string_view input, Output& out) {
  std::size_t position = 0;
  while (position < input.size() && phase_ != Phase::ended) {
    const Reply reply = take_reply(input.substr(position));
    if (reply.status == ReplyStatus::need_more) {
      return position;
    }
    if (reply.status == ReplyStatus::malformed) {
      on_protocol_error(out);
      break;
    }
    ++progress_;
    position += reply.text.size();
    if (phase_ == Phase::greeting) {
      on_greeting(reply, out);
    } else {
      on_reply(reply, out);
    }
  }
  return phase_ == Phase::ended ? input.size() : position;
}

void Dialogue::on_greeting(const Reply& reply, Output& out) {
  if (reply.code == 220) {
    out.to_client += reply.text;
    phase_ = Phase::commands;
    return;
  }
  if (!is_refusal(reply.code)) {
    return on_protocol_error(out);
  }
  out.to_client += reply.text;
  report_upstream(rules::UpstreamError::refused, out);
  end(Reason::none, out);
}

void Dialogue::on_reply(const Reply& reply, Output& out) {
  if (replies_.empty()) {
    if (phase_ == Phase::quitting || client_ended_) {
      return;
    }
    if (reply.code != 421) {
      return on_protocol_error(out);
    }
    out.to_client += reply.text;
    return end(Reason::none, out);
  }
  const Answer answered = replies_.front().answer;
  if (!is_possible(answered, reply.code)) {
    return on_protocol_error(out);
  }
  replies_.pop();
  apply_reply(answered, reply, out);
  if (phase_ == Phase::ended) {
    return;
  }
  if (reply.code == 421) {
    return end(Reason::none, out);
  }
  flush_ours(out);
}

bool Dialogue::is_possible(Answer answer, std::uint16_t code) const {
  if (answer == Answer::data) {
    return code == 354 || is_refusal(code);
  }
  return code / 100 == 2 || is_refusal(code);
}

void Dialogue::apply_reply(Answer answer, const Reply& reply, Output& out) {
  const bool is_filtered = answer == Answer::ehlo && reply.is_positive();
  if (!is_filtered) {
    out.to_client += reply.text;
  }
  switch (answer) {
    case Answer::ehlo:
      if (is_filtered) {
        FilteredEhlo filtered = filter_ehlo(reply.text);
        offered_ = filtered.offered;
        out.to_client += filtered.text;
        smtputf8_ = false;
        reset_transaction();
      }
      return;
    case Answer::helo:
      if (reply.is_positive()) {
        offered_ = {};
        smtputf8_ = false;
        reset_transaction();
      }
      return;
    case Answer::mail:
      if (reply.is_positive()) {
        has_mail_ = true;
        accepted_recipients_ = 0;  // a lax server takes RCPT before MAIL, and forgets it here
      }
      return;
    case Answer::rcpt:
      accepted_recipients_ += reply.is_positive() ? 1 : 0;
      return;
    case Answer::data:
      if (reply.code == 354) {
        body_ = Body(settings_->bare_newline);
        message_is_open_ = true;
        phase_ = Phase::body;
        if (client_ended_) {
          end(Reason::none, out);
        }
      }
      return;
    case Answer::end_of_data:
      end_message(
          reply.is_positive() ? rules::MessageOutcome::accepted : rules::MessageOutcome::refused,
          out);
      reset_transaction();
      return;
    case Answer::rset:
      if (reply.is_positive()) {
        reset_transaction();
      }
      return;
    case Answer::noop:
    case Answer::quit:
    case Answer::ours:
      return;
  }
}

void Dialogue::on_server_eof(Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  // Some servers close instead of saying 221.
  const bool only_quit_is_open = replies_.empty() || replies_.front().answer == Answer::quit;
  const bool is_expected = only_quit_is_open && (phase_ == Phase::quitting || client_ended_);
  if (is_expected) {
    return end(Reason::none, out);
  }
  on_unreachable(rules::UpstreamError::lost, out);
}

// --- both
// ----------------------------------------------------------------------------------------------------

void Dialogue::forward(std::string_view verb, std::string_view argument, Answer answer,
                       Output& out) {
  out.to_server(verb);
  if (!argument.empty()) {
    out.to_server(" ");
    out.to_server(argument);
  }
  out.to_server("\r\n");
  replies_.push(answer);
  // A server that did not offer PIPELINING gets one command at a time, whatever the client does.
  holds_client_ = !offered_.has(Extension::pipelining);
}

void Dialogue::answer(std::string text, Output& out) {
  if (replies_.empty()) {
    out.to_client += text;
  } else {
    replies_.push_ours(std::move(text));
  }
}

void Dialogue::refuse(Reason reason, std::string_view detail, Output& out) {
  refuse_saying(render_reply(reason, detail), reason, detail, out);
}

void Dialogue::refuse_saying(std::string text, Reason reason, std::string_view detail,
                             Output& out) {
  out.events.emplace_back(rules::CommandRefused{.mailer = mailer_->id,
                                                .zone = client_.zone,
                                                .reason = reason,
                                                .detail = make_printable(detail)});
  if (++errors_ < settings_->max_errors) {
    return answer(std::move(text), out);
  }
  answer(render_reply(Reason::too_many_errors), out);
  end_after_replies(Reason::too_many_errors, out);
}

void Dialogue::flush_ours(Output& out) {
  while (!replies_.empty() && replies_.front().answer == Answer::ours) {
    out.to_client += replies_.front().text;
    replies_.pop();
  }
  if (!replies_.empty()) {
    return;
  }
  holds_client_ = false;
  if (ends_after_replies_) {
    return end(end_reason_, out);
  }
  if (client_ended_ && phase_ == Phase::commands) {
    out.shut_down_server = true;
  }
}

void Dialogue::end_after_replies(Reason reason, Output& out) {
  if (!ends_after_replies_) {
    ends_after_replies_ = true;
    end_reason_ = reason;
  }
  flush_ours(out);
}

void Dialogue::end(Reason reason, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  const bool is_inside_body = phase_ == Phase::body;
  end_message(rules::MessageOutcome::aborted, out);
  replies_.clear();
  phase_ = Phase::ended;
  out.end = is_inside_body ? End::reset_server : End::close;
  out.reason = reason;
}

void Dialogue::end_message(rules::MessageOutcome outcome, Output& out) {
  if (!message_is_open_) {
    return;
  }
  message_is_open_ = false;
  out.events.emplace_back(rules::MessageEnded{
      .mailer = mailer_->id, .zone = client_.zone, .outcome = outcome, .octets = body_.octets()});
}

void Dialogue::on_protocol_error(Output& out) {
  report_upstream(rules::UpstreamError::protocol, out);
  end_session(Reason::protocol_error, out);
}

void Dialogue::on_unreachable(rules::UpstreamError error, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  report_upstream(error, out);
  end_session(phase_ == Phase::greeting ? Reason::upstream_unreachable : Reason::upstream_lost,
              out);
}

void Dialogue::on_timeout(Output& out) {
  switch (wait()) {
    case Wait::greeting:
    case Wait::reply:
    case Wait::data_initiation:
    case Wait::data_termination:
      return on_unreachable(rules::UpstreamError::timed_out, out);
    case Wait::command:
    case Wait::data_block:
      return end_session(Reason::timeout, out);
    case Wait::closing:
      return end(Reason::none, out);
  }
}

void Dialogue::end_session(Reason reason, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  out.to_client += render_reply(reason);
  end(reason, out);
}

void Dialogue::report_upstream(rules::UpstreamError error, Output& out) const {
  out.events.emplace_back(rules::UpstreamFailed{.mailer = mailer_->id, .error = error});
}

void Dialogue::reset_transaction() {
  has_mail_ = false;
  accepted_recipients_ = 0;
}

Wait Dialogue::wait() const {
  if (phase_ == Phase::greeting) {
    return Wait::greeting;
  }
  if (phase_ == Phase::body) {
    return Wait::data_block;
  }
  if (phase_ == Phase::ended) {
    return Wait::closing;
  }
  if (replies_.empty()) {
    return phase_ == Phase::quitting || client_ended_ ? Wait::closing : Wait::command;
  }
  switch (replies_.front().answer) {
    case Answer::data:
      return Wait::data_initiation;
    case Answer::end_of_data:
      return Wait::data_termination;
    case Answer::ours:
    case Answer::ehlo:
    case Answer::helo:
    case Answer::mail:
    case Answer::rcpt:
    case Answer::rset:
    case Answer::noop:
    case Answer::quit:
      break;
  }
  return Wait::reply;
}

bool Dialogue::is_between_transactions() const {
  return phase_ == Phase::greeting || (phase_ == Phase::commands && replies_.empty() && !has_mail_);
}

}  // namespace postern::smtp_proxy
