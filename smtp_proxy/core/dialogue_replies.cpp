// What the server says, and what the client hears of it.
#include <utility>

#include "smtp_proxy/core/dialogue.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

bool is_refusal(std::uint16_t code) {
  return code >= 400;
}

bool is_intermediate(std::uint16_t code) {
  return code / 100 == 3;
}

}  // namespace

std::size_t Dialogue::on_server(std::string_view input, bool server_is_behind, Output& out) {
  server_is_behind_ = server_is_behind;
  std::size_t position = 0;
  while (position < input.size() && phase_ != Phase::ended && phase_ != Phase::securing_server) {
    const std::string_view rest = input.substr(position);
    if (phase_ == Phase::opaque) {
      out.to_client += rest;
      ++progress_;
      return input.size();
    }
    const Reply reply = take_reply(rest);
    if (reply.status == ReplyStatus::need_more) {
      return position;
    }
    if (reply.status == ReplyStatus::malformed) {
      on_protocol_error({}, out);
      continue;
    }
    ++progress_;
    position += reply.text.size();
    if (phase_ == Phase::greeting) {
      on_greeting(reply, out);
    } else {
      on_reply(reply, out);
    }
  }
  if (phase_ == Phase::securing_server) {
    on_securing_server(input.substr(position), out);
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
    return on_protocol_error(reply.text, out);
  }
  out.to_client += reply.text;
  report_upstream(rules::UpstreamError::refused, out);
  end(Reason::none, out);
}

void Dialogue::on_reply(const Reply& reply, Output& out) {
  if (replies_.empty()) {
    return on_unsolicited(reply, out);
  }
  const Answer answered = replies_.front().answer;
  if (!is_possible(answered, reply.code)) {
    return on_protocol_error(reply.text, out);
  }
  if (is_owed_octets(answered) && !observes()) {
    return on_early_refusal(reply, out);
  }
  replies_.pop();
  apply_reply(answered, reply, out);
  if (phase_ == Phase::ended || phase_ == Phase::opaque) {
    return;
  }
  if (reply.code == 421) {
    return end(Reason::none, out);
  }
  flush_ours(out);
}

void Dialogue::on_unsolicited(const Reply& reply, Output& out) {
  if (is_securing_client()) {
    return end(Reason::none, out);
  }
  if (phase_ == Phase::quitting || client_ended_) {
    out.to_client += observes() ? reply.text : std::string_view{};
    return;
  }
  if (reply.code != 421) {
    return on_protocol_error(reply.text, out);
  }
  out.to_client += reply.text;
  end(Reason::none, out);
}

bool Dialogue::is_possible(Answer answer, std::uint16_t code) const {
  switch (answer) {
    case Answer::data:
      return code == 354 || is_refusal(code);
    case Answer::chunk:
    case Answer::last_chunk:
    case Answer::end_of_data:
      // Nobody can have taken a message that was not sent whole.
      return is_refusal(code) || (code / 100 == 2 && !is_owed_octets(answer));
    case Answer::auth:
      return code == 334 || code == 235 || is_refusal(code);
    case Answer::starttls:
    case Answer::securing_starttls:
      return code == 220 || is_refusal(code);
    case Answer::other:
      return true;
    case Answer::ours:
    case Answer::ehlo:
    case Answer::helo:
    case Answer::mail:
    case Answer::rcpt:
    case Answer::rset:
    case Answer::noop:
    case Answer::quit:
    case Answer::securing_hello:
      break;
  }
  return code / 100 == 2 || is_refusal(code);
}

bool Dialogue::is_owed_octets(Answer answer) const {
  const bool is_of_message =
      answer == Answer::chunk || answer == Answer::last_chunk || answer == Answer::end_of_data;
  return is_of_message && (phase_ == Phase::chunk || server_is_behind_);
}

// Whether the server will read the rest as octets of the message or as commands is not known.
void Dialogue::on_early_refusal(const Reply& reply, Output& out) {
  out.to_client += reply.text;
  end_message(rules::MessageOutcome::refused, out);
  if (reply.code == 421) {
    end(Reason::none, out);  // it would have ended the session anyway
  } else {
    report_upstream(rules::UpstreamError::protocol, out);
    end(Reason::protocol_error, out);
  }
  out.end = End::reset_server;
}

void Dialogue::apply_reply(Answer answer, const Reply& reply, Output& out) {
  if (answer == Answer::ehlo || answer == Answer::helo) {
    return apply_hello(answer, reply, out);
  }
  if (answer == Answer::securing_hello) {
    return on_securing_hello(reply, out);
  }
  if (answer == Answer::securing_starttls) {
    return on_securing_starttls(reply, out);
  }
  out.to_client += reply.text;
  switch (answer) {
    case Answer::mail:
      transaction_.is_open = reply.is_positive();
      return;
    case Answer::rcpt:
      transaction_.awaited_recipients -= transaction_.awaited_recipients != 0 ? 1 : 0;
      transaction_.accepted_recipients += reply.is_positive() ? 1 : 0;
      return;
    case Answer::data:
      if (reply.code == 354) {
        begin_body(out);
      }
      return;
    case Answer::end_of_data:
    case Answer::last_chunk:
      return end_transaction(reply, out);
    case Answer::chunk:
      if (!reply.is_positive()) {
        end_message(rules::MessageOutcome::refused, out);
        transaction_.chunking = Chunking::refused;
      }
      return;
    case Answer::rset:
      if (reply.is_positive()) {
        end_message(rules::MessageOutcome::aborted, out);
        transaction_ = {};
      }
      return;
    case Answer::starttls:
      if (reply.is_positive()) {
        become_opaque(observes() ? rules::OpaqueCause::observed : rules::OpaqueCause::starttls,
                      out);
      }
      return;
    case Answer::auth:
      return on_auth_reply(reply, out);
    case Answer::other:
      // Whatever was agreed on, it changes what follows.
      if (is_intermediate(reply.code)) {
        become_opaque(rules::OpaqueCause::observed, out);
      }
      return;
    case Answer::ehlo:
    case Answer::helo:
    case Answer::noop:
    case Answer::quit:
    case Answer::securing_hello:
    case Answer::securing_starttls:
    case Answer::ours:
      return;
  }
}

namespace {

// The first line of a reply to EHLO, which has only the name of the server.
std::string as_reply_to_helo(std::string_view reply) {
  constexpr std::size_t kCodeOctets = 4;
  return "250 " + std::string(reply.substr(kCodeOctets, reply.find('\n') + 1 - kCodeOctets));
}

}  // namespace

// OpenSMTPD takes one hello in a connection, and answers each further one 503 (against RFC 5321 4.1.4).
// Where the proxy says one more on its own account, or the client does because of a TLS that the server
// knows nothing of, what the server said to the first stands.
void Dialogue::apply_hello(Answer answer, const Reply& reply, Output& out) {
  constexpr std::uint16_t kBadSequence = 503;
  const std::string first = std::exchange(first_hello_, {});
  if (reply.is_positive()) {
    accept_hello(answer, reply.text, out);
  } else if (reply.code == kBadSequence && !first.empty() && !transaction_.is_open) {
    accept_hello(answer, answer == Answer::ehlo ? first : as_reply_to_helo(first), out);
  } else {
    out.to_client += reply.text;
  }
}

void Dialogue::accept_hello(Answer answer, std::string_view text, Output& out) {
  FilteredEhlo filtered;
  if (answer == Answer::ehlo) {
    filtered = filter_ehlo(text, ehlo_view());
    if (mailer_->starttls == rules::Starttls::terminate && !client_is_secured_) {
      first_hello_ = text;
    }
  }
  offered_ = filtered.offered;
  size_limit_ = filtered.size_limit;
  const bool is_shown_whole = answer == Answer::helo || observes();
  out.to_client += is_shown_whole ? text : std::string_view(filtered.text);
  end_message(rules::MessageOutcome::aborted, out);
  transaction_ = {};
}

void Dialogue::end_transaction(const Reply& reply, Output& out) {
  end_message(
      reply.is_positive() ? rules::MessageOutcome::accepted : rules::MessageOutcome::refused, out);
  transaction_ = {};
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
  client_must_wait_ = false;
  if (ends_after_replies_) {
    return end(end_reason_, out);
  }
  if (client_ended_ && phase_ == Phase::commands) {
    if (server_has_part_of_a_message()) {
      return end(Reason::none, out);
    }
    out.shut_down_server = true;
  }
}

void Dialogue::on_protocol_error(std::string_view unheard, Output& out) {
  report_upstream(rules::UpstreamError::protocol, out);
  if (observes()) {
    become_opaque(rules::OpaqueCause::observed, out);
    out.to_client += unheard;
    return;
  }
  end_session(Reason::protocol_error, out);
}

}  // namespace postern::smtp_proxy
