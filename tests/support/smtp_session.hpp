// A conversation under test: what it said to each side and what happened, collected as text.
// Lifetime: each call gives the conversation bytes that are gone when the next call is made, so
// that the address sanitizer sees a view that was kept too long.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "rules/policy.hpp"
#include "smtp_proxy/core/conversation.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::testing_support {

struct SessionSetup {
  smtp_proxy::Settings settings;
  rules::Zone zone = rules::Zone::external;
  bool require_local_sender = false;
  bool observe = false;
  bool allow_routing_characters = false;
  bool allow_address_literals = false;
  bool authenticated_relay = false;
  bool auth_requires_tls = true;
  rules::Starttls starttls = rules::Starttls::hide;
  rules::UpstreamTls upstream_tls = rules::UpstreamTls::off;
};

struct Seen {
  std::string to_server;
  std::string to_client;
  std::vector<std::string> events;
  bool server_was_shut_down = false;
  smtp_proxy::End end = smtp_proxy::End::none;
  rules::Reason reason = rules::Reason::none;

  bool operator==(const Seen&) const = default;
};

void PrintTo(const Seen& seen, std::ostream* out);

[[nodiscard]] std::string describe(const rules::Event& event);
[[nodiscard]] std::string_view describe(smtp_proxy::End end);
[[nodiscard]] std::string_view describe(smtp_proxy::Wait wait);

// The mailer mx1 at 203.0.113.25, for in.example and *.sub.example.
[[nodiscard]] std::shared_ptr<const rules::Policy> make_policy(const SessionSetup& setup);

class SmtpSession {
 public:
  explicit SmtpSession(const SessionSetup& setup);
  SmtpSession(const SmtpSession&) = delete;
  SmtpSession& operator=(const SmtpSession&) = delete;

  // After the end nothing is given to the conversation any more, as in the shell.
  void client(std::string_view bytes);
  void server(std::string_view bytes);
  void client_eof();
  void client_gone();
  void server_eof();
  void timeout();
  void client_tls(bool is_admitted);
  void secured(rules::TlsPeer peer);
  void handshake_failed(rules::TlsPeer peer);
  void unreachable(rules::UpstreamError error);
  void end_session(rules::Reason reason);

  [[nodiscard]] bool has_ended() const { return has_ended_; }
  [[nodiscard]] const smtp_proxy::Conversation& conversation() const { return conversation_; }
  // What the last call wants to begin with, and whether it told that there was a credential.
  [[nodiscard]] smtp_proxy::Secure asked_for() const { return asked_for_; }
  [[nodiscard]] bool told_of_a_secret() const { return told_of_a_secret_; }
  // What was seen since the last take().
  [[nodiscard]] const Seen& seen() const { return seen_; }
  [[nodiscard]] Seen take();

 private:
  template <typename Call>
  void run(Call call);
  void collect();

  smtp_proxy::Settings settings_;
  std::shared_ptr<const rules::Policy> policy_;
  smtp_proxy::Conversation conversation_;
  smtp_proxy::Output output_;
  std::unique_ptr<std::string> input_;
  Seen seen_;
  smtp_proxy::Secure asked_for_ = smtp_proxy::Secure::none;
  bool told_of_a_secret_ = false;
  bool has_ended_ = false;
};

}  // namespace postern::testing_support
