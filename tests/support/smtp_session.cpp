#include "tests/support/smtp_session.hpp"

#include <type_traits>
#include <utility>
#include <variant>

namespace postern::testing_support {
namespace {

using smtp_proxy::End;
using smtp_proxy::Wait;

struct Describe {
  std::string operator()(const rules::RecipientDecided& event) const {
    std::string text = "recipient " + event.recipient + ' ' + to_label(event.decision.recipient);
    return text + ", " +
           (event.decision.forward() ? "forwarded"
                                     : std::string(rules::label(event.decision.reason))) +
           (event.observed ? ", observed" : "");
  }
  std::string operator()(const rules::CommandRefused& event) const {
    return "refused " + std::string(rules::label(event.reason)) +
           (event.detail.empty() ? "" : ", " + event.detail) + (event.observed ? ", observed" : "");
  }
  std::string operator()(const rules::SessionBecameOpaque& event) const {
    return event.cause == rules::OpaqueCause::observed ? "opaque" : "opaque, starttls";
  }
  std::string operator()(const rules::AuthEnded& event) const {
    return std::string("authentication ") + to_label(event.result);
  }
  std::string operator()(const rules::MessageEnded& event) const {
    return std::string("message ") + to_label(event.outcome) + ", " + std::to_string(event.octets) +
           " octets";
  }
  std::string operator()(const rules::UpstreamFailed& event) const {
    return std::string("mailer ") + to_label(event.error);
  }
  template <typename Other>
  std::string operator()(const Other& /*event*/) const {
    return "an event that no conversation may emit";
  }
};

}  // namespace

void PrintTo(const Seen& seen, std::ostream* out) {
  *out << "to the server: " << seen.to_server << "\nto the client: " << seen.to_client << '\n';
  for (const std::string& event : seen.events) {
    *out << event << '\n';
  }
  *out << (seen.server_was_shut_down ? "server shut down, " : "") << "end " << describe(seen.end)
       << ' ' << rules::label(seen.reason) << '\n';
}

std::string describe(const rules::Event& event) {
  return std::visit(Describe{}, event);
}

std::string_view describe(End end) {
  switch (end) {
    case End::none:
      return "none";
    case End::close:
      return "close";
    case End::reset_server:
      return "reset_server";
  }
  return "";
}

std::string_view describe(Wait wait) {
  switch (wait) {
    case Wait::greeting:
      return "greeting";
    case Wait::command:
      return "command";
    case Wait::reply:
      return "reply";
    case Wait::data_initiation:
      return "data_initiation";
    case Wait::data_block:
      return "data_block";
    case Wait::data_termination:
      return "data_termination";
    case Wait::handshake:
      return "handshake";
    case Wait::opaque:
      return "opaque";
    case Wait::pause:
      return "pause";
    case Wait::closing:
      return "closing";
  }
  return "";
}

std::shared_ptr<const rules::Policy> make_policy(const SessionSetup& setup) {
  rules::Mailer mailer;
  mailer.id = 1;
  mailer.name = "mx1";
  mailer.addresses = {*rules::IpAddress::parse("203.0.113.25")};
  mailer.domains.add("in.example");
  mailer.domains.add("*.sub.example");
  mailer.allow_routing_characters = setup.allow_routing_characters;
  mailer.allow_address_literals = setup.allow_address_literals;
  mailer.authenticated_relay = setup.authenticated_relay;
  mailer.auth_requires_tls = setup.auth_requires_tls;
  mailer.starttls = setup.starttls;
  auto policy = std::make_shared<rules::Policy>();
  policy->require_local_sender = setup.require_local_sender;
  policy->observe = setup.observe;
  policy->add_mailer(std::move(mailer));
  return policy;
}

SmtpSession::SmtpSession(const SessionSetup& setup)
    : settings_(setup.settings),
      policy_(make_policy(setup)),
      conversation_(smtp_proxy::Dialogue(policy_, policy_->mailers().front(), setup.upstream_tls,
                                         setup.zone, settings_)) {}

template <typename Call>
void SmtpSession::run(Call call) {
  if (!has_ended_) {
    call();
    collect();
  }
}

void SmtpSession::client(std::string_view bytes) {
  run([&] {
    auto input = std::make_unique<std::string>(bytes);
    conversation_.client_bytes(*input, output_);
    input_ = std::move(input);
  });
}

void SmtpSession::server(std::string_view bytes) {
  run([&] {
    auto input = std::make_unique<std::string>(bytes);
    conversation_.server_bytes(*input, false, output_);
    if (output_.auth_attempt) {
      conversation_.resume_client(output_);  // as the shell does once it has judged it
    }
    input_ = std::move(input);
  });
}

void SmtpSession::client_eof() {
  run([&] { conversation_.client_eof(output_); });
}

void SmtpSession::client_gone() {
  run([&] { conversation_.client_gone(output_); });
}

void SmtpSession::server_eof() {
  run([&] { conversation_.server_eof(output_); });
}

void SmtpSession::timeout() {
  run([&] { conversation_.timeout(output_); });
}

void SmtpSession::client_tls(bool is_admitted) {
  run([&] { conversation_.client_tls(is_admitted, output_); });
}

void SmtpSession::secured(rules::TlsPeer peer) {
  run([&] { conversation_.secured(peer, output_); });
}

void SmtpSession::handshake_failed(rules::TlsPeer peer) {
  run([&] { conversation_.handshake_failed(peer, output_); });
}

void SmtpSession::unreachable(rules::UpstreamError error) {
  run([&] { conversation_.unreachable(error, output_); });
}

void SmtpSession::end_session(rules::Reason reason) {
  run([&] { conversation_.end_session(reason, output_); });
}

void SmtpSession::collect() {
  for (std::size_t i = 0; i < output_.server_piece_count(); ++i) {
    seen_.to_server += output_.server_piece(i);
  }
  seen_.to_client += output_.to_client;
  for (const rules::Event& event : output_.events) {
    seen_.events.push_back(describe(event));
  }
  seen_.server_was_shut_down |= output_.shut_down_server;
  asked_for_ = output_.secure;
  told_of_a_secret_ = output_.has_secret;
  if (output_.auth_attempt && !output_.auth_attempt->user.empty()) {
    seen_.events.push_back("user " + output_.auth_attempt->user);
  }
  if (output_.end != End::none) {
    has_ended_ = true;
    seen_.end = output_.end;
    seen_.reason = output_.reason;
  }
  output_.clear();
}

Seen SmtpSession::take() {
  if (asked_for_ != smtp_proxy::Secure::none && !has_ended_) {
    seen_.events.emplace_back(asked_for_ == smtp_proxy::Secure::client ? "TLS with the client"
                                                                       : "TLS with the server");
  }
  asked_for_ = smtp_proxy::Secure::none;
  return std::exchange(seen_, Seen{});
}

}  // namespace postern::testing_support
