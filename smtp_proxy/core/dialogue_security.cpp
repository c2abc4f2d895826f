// TLS with either side, and AUTH.
#include "smtp_proxy/core/dialogue.hpp"

namespace postern::smtp_proxy {

using rules::Reason;
using rules::UpstreamTls;

// --- TLS with the client

Dialogue::Decision Dialogue::decide_starttls(const Command& command) const {
  const rules::Starttls mode = mailer_->starttls;
  if (mode == rules::Starttls::hide ||
      (mode == rules::Starttls::pass && !offered_.has(Extension::starttls))) {
    return Refusal{.reason = Reason::forbidden_command, .detail = std::string(command.spec.name)};
  }
  if (!command.argument.empty()) {
    return Refusal{.reason = Reason::syntax_error};  // RFC 3207 4
  }
  if (client_is_secured_ || transaction_.is_open) {
    return Refusal{.reason = Reason::bad_sequence};
  }
  if (mode == rules::Starttls::pass) {
    return Forward{"STARTTLS", Answer::starttls};
  }
  return BeginTls{};
}

void Dialogue::on_client_tls(bool is_admitted, Output& out) {
  if (is_admitted) {
    out.to_client += "220 2.0.0 ready to start TLS\r\n";
    return;
  }
  phase_ = Phase::commands;
  refuse({.reason = Reason::too_many_handshakes}, out);
}

void Dialogue::on_secured(rules::TlsPeer peer, Output& out) {
  phase_ = Phase::commands;
  // RFC 3207 4.2: what was learned before is forgotten, for anybody could have said it.
  end_message(rules::MessageOutcome::aborted, out);
  transaction_ = {};
  offered_ = {};
  size_limit_ = 0;
  if (peer == rules::TlsPeer::client) {
    client_is_secured_ = true;
    client_.authenticated = false;
  } else {
    upstream_ = Upstream::secured;
    std::string().swap(first_hello_);
    say_hello_again(out);
  }
}

void Dialogue::on_handshake_failed(rules::TlsPeer peer, Output& out) {
  if (peer == rules::TlsPeer::client) {
    end(Reason::tls_failed, out);
  } else {
    on_not_secured(out);
  }
}

bool Dialogue::awaits_opaque_tls() const {
  return !observes() && !replies_.empty() && replies_.front().answer == Answer::starttls;
}

// In clear, and to be taken for what comes inside TLS (CVE-2011-0411).
void Dialogue::on_injection(Output& out) {
  report_refusal({.reason = Reason::command_injection}, out);
  phase_ = Phase::commands;
  end_session(Reason::command_injection, out);
}

EhloView Dialogue::ehlo_view() const {
  const auto starttls = [this] {
    if (observes() || mailer_->starttls == rules::Starttls::pass) {
      return StarttlsView::as_server_says;
    }
    return mailer_->starttls == rules::Starttls::terminate && !client_is_secured_
               ? StarttlsView::added
               : StarttlsView::hidden;
  };
  return {.starttls = starttls(), .auth = observes() || refusal_of_auth() == Reason::none};
}

// --- TLS with the server

bool Dialogue::must_be_secured_first(Verb verb) const {
  const bool is_required =
      upstream_tls_ == UpstreamTls::require || upstream_tls_ == UpstreamTls::verify;
  return is_required && upstream_ != Upstream::secured &&
         (verb == Verb::mail || verb == Verb::auth);
}

void Dialogue::secure_server(std::string_view hello, Output& out) {
  constexpr std::size_t kVerbOctets = 4;
  hello_ = hello;
  upstream_ = Upstream::being_secured;
  forward("EHLO" + hello_.substr(kVerbOctets) + "\r\n", Answer::securing_hello, out);
}

void Dialogue::await_hello_again() {
  replies_.push_front(hello_.starts_with("EHLO") ? Answer::ehlo : Answer::helo);
}

void Dialogue::say_hello_again(Output& out) {
  out.to_server(hello_);
  out.to_server("\r\n");
  std::string().swap(hello_);
}

void Dialogue::on_securing_hello(const Reply& reply, Output& out) {
  if (reply.code == 421) {
    out.to_client += reply.text;
    return;
  }
  const Extensions offered = reply.is_positive() ? extensions_of(reply.text) : Extensions{};
  shows_auth_in_clear_ = offered.has(Extension::auth);
  first_hello_ = reply.is_positive() ? reply.text : std::string_view{};
  if (offered.has(Extension::starttls)) {
    out.to_server("STARTTLS\r\n");
    return replies_.push_front(Answer::securing_starttls);
  }
  if (upstream_tls_ != UpstreamTls::opportunistic) {
    return on_not_secured(out);
  }
  upstream_ = Upstream::in_clear;
  if (hello_.starts_with("EHLO")) {
    std::string().swap(hello_);
    return apply_hello(Answer::ehlo, reply, out);
  }
  await_hello_again();
  say_hello_again(out);
}

void Dialogue::on_securing_starttls(const Reply& reply, Output& out) {
  if (reply.is_positive()) {
    await_hello_again();
    phase_ = Phase::securing_server;
  } else if (reply.code == 421) {
    out.to_client += reply.text;
  } else if (upstream_tls_ == UpstreamTls::opportunistic) {
    upstream_ = Upstream::in_clear;
    await_hello_again();
    say_hello_again(out);
  } else {
    on_not_secured(out);
  }
}

// `behind`: in clear behind the server's 220, and to be taken for what it says inside TLS.
void Dialogue::on_securing_server(std::string_view behind, Output& out) {
  if (behind.empty()) {
    out.secure = Secure::server;
    return;
  }
  report_upstream(rules::UpstreamError::protocol, out);
  end_session(Reason::command_injection, out);
}

void Dialogue::on_not_secured(Output& out) {
  report_upstream(rules::UpstreamError::tls, out);
  end_session(Reason::upstream_not_secured, out);
}

// --- AUTH

// Whether the client may authenticate at all. To one inside nothing is forbidden that the server
// offers in clear by itself.
Reason Dialogue::refusal_of_auth() const {
  const bool needs_tls = mailer_->auth_requires_tls && !client_is_secured_;
  if (client_.zone == rules::Zone::internal) {
    const bool is_shown_only_in_tls = upstream_ == Upstream::secured && !shows_auth_in_clear_;
    return needs_tls && is_shown_only_in_tls ? Reason::encryption_required : Reason::none;
  }
  if (!mailer_->authenticated_relay) {
    return Reason::forbidden_command;
  }
  return needs_tls ? Reason::encryption_required : Reason::none;
}

Dialogue::Decision Dialogue::decide_auth(const Command& command) const {
  if (client_.authenticated || transaction_.is_open) {
    return Refusal{.reason = Reason::bad_sequence};  // RFC 4954 4
  }
  Reason reason = refusal_of_auth();
  if (reason == Reason::none && !offered_.has(Extension::auth)) {
    reason = Reason::forbidden_command;
  }
  if (reason != Reason::none) {
    return Refusal{.reason = reason, .detail = std::string(command.spec.name)};
  }
  auto exchange = SaslExchange::begin(command.argument);
  if (!exchange) {
    return Refusal{.reason = exchange.error()};
  }
  const std::size_t space = command.argument.rfind(' ');
  return BeginAuth{.exchange = std::move(*exchange),
                   .initial_response = space == std::string_view::npos
                                           ? std::string_view{}
                                           : command.argument.substr(space + 1)};
}

void Dialogue::begin_auth(const BeginAuth& begun, Output& out) {
  exchange_ = begun.exchange;
  out.to_server("AUTH ");
  out.to_server(begun.exchange.mechanism());
  out.to_server(begun.initial_response.empty() ? "" : " ");
  out.to_server(begun.initial_response);
  await_auth_reply("\r\n", out);
}

std::size_t Dialogue::read_sasl(std::string_view input, Output& out) {
  out.has_secret = true;
  if (skips_line_) {
    return skip_rest_of_line(input, out);
  }
  const Line line = take_line(input, kLongestSaslLineOctets);
  switch (line.status) {
    case LineStatus::need_more:
      return 0;
    case LineStatus::bare_newline:
      return refuse_the_rest(Reason::bare_newline, input, out);
    case LineStatus::too_long:
      if (observes()) {
        return refuse_the_rest(Reason::line_too_long, input, out);
      }
      skips_line_ = true;
      return skip_rest_of_line(input, out);
    case LineStatus::complete:
      break;
  }
  const SaslExchange::Response response = exchange_->on_response(line.text);
  if (response == SaslExchange::Response::malformed && !observes()) {
    cancel_auth(Reason::syntax_error, out);
  } else {
    auth_is_cancelled_ = response != SaslExchange::Response::sent;
    await_auth_reply(input.substr(0, line.consumed), out);
  }
  return line.consumed;
}

// What the server may not read ends the exchange in the way that is there for it (RFC 4954 4), so
// that the server stays the one who answers.
void Dialogue::cancel_auth(Reason reason, Output& out) {
  report_refusal({.reason = reason, .detail = "AUTH"}, out);
  auth_is_cancelled_ = true;
  await_auth_reply("*\r\n", out);
}

void Dialogue::await_auth_reply(std::string_view last_octets, Output& out) {
  out.to_server(last_octets);
  replies_.push(Answer::auth);
  phase_ = Phase::commands;
  let_client_wait(true);
}

void Dialogue::on_auth_reply(const Reply& reply, Output& out) {
  constexpr std::uint16_t kContinue = 334;
  constexpr std::uint16_t kInvalidCredentials = 535;
  if (reply.code == kContinue) {
    phase_ = Phase::sasl;
    return client_ended_ ? end(Reason::none, out) : void();
  }
  if (reply.is_positive()) {
    client_.authenticated = true;
    return end_auth(rules::AuthResult::accepted, out);
  }
  const bool is_refused = reply.code == kInvalidCredentials && !auth_is_cancelled_;
  end_auth(is_refused ? rules::AuthResult::refused : rules::AuthResult::aborted, out);
  const bool is_over = reply.code == 421 || ends_after_replies_;
  if (++auth_failures_ == settings_->max_auth_failures && !is_over) {
    refuse({.reason = Reason::auth_failed, .ends_session = !observes()}, out);
  }
}

void Dialogue::end_auth(rules::AuthResult result, Output& out) {
  if (!exchange_) {
    return;
  }
  out.events.emplace_back(
      rules::AuthEnded{.mailer = mailer_->id, .zone = client_.zone, .result = result});
  out.auth_attempt = AuthAttempt{.result = result, .user = exchange_->user()};
  exchange_.reset();
  auth_is_cancelled_ = false;
}

}  // namespace postern::smtp_proxy
