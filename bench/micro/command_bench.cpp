// What a command costs in user space: found and taken apart, and carried through the whole dialogue
// with its reply.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <string_view>

#include "rules/policy.hpp"
#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/conversation.hpp"
#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/line.hpp"

namespace {

using namespace postern;
using namespace postern::smtp_proxy;

std::shared_ptr<const rules::Policy> make_policy() {
  rules::Mailer mailer;
  mailer.id = 1;
  mailer.name = "mx1";
  mailer.domains.add("example.org");
  auto policy = std::make_shared<rules::Policy>();
  policy->add_mailer(std::move(mailer));
  return policy;
}

// A session of a stranger that has said EHLO and goes on for ever.
class Session {
 public:
  Session()
      : policy_(make_policy()),
        conversation_(Dialogue(policy_, policy_->mailers().front(), rules::UpstreamTls::off,
                               rules::Zone::external, settings_)) {
    server("220 mx.example.org ESMTP\r\n");
    client("EHLO client.example\r\n");
    server(
        "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250-8BITMIME\r\n"
        "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n");
  }

  void client(std::string_view bytes) {
    out_.clear();
    conversation_.client_bytes(bytes, out_);
  }
  void server(std::string_view bytes) {
    out_.clear();
    conversation_.server_bytes(bytes, false, out_);
  }
  [[nodiscard]] const Output& out() const { return out_; }

 private:
  static Settings unlimited() {
    Settings settings;
    settings.max_errors = settings.max_recipients = settings.max_refused_recipients =
        settings.max_idle_commands = settings.refusals_before_delay = 1'000'000'000'000;
    return settings;
  }

  Settings settings_ = unlimited();
  std::shared_ptr<const rules::Policy> policy_;
  Conversation conversation_;
  Output out_;
};

const std::string kMail = "MAIL FROM:<someone@far.example> SIZE=4096 BODY=8BITMIME\r\n";
const std::string kRcpt = "RCPT TO:<you@example.org> NOTIFY=FAILURE\r\n";
const std::string kForeignRcpt = "RCPT TO:<you@elsewhere.example>\r\n";

void take_and_parse(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) {
    const Line line = take_line(kMail, kLongestCommandOctets);
    Command command = parse_command(line.text);
    benchmark::DoNotOptimize(command);
  }
}
BENCHMARK(take_and_parse)->Name("command/take_line+parse_command");

// The server refuses it for now, so that the next one is no nested MAIL: what is done for it is the
// same.
void mail(benchmark::State& state) {
  Session session;
  for ([[maybe_unused]] auto _ : state) {
    session.client(kMail);
    session.server("450 4.3.0 later\r\n");
    benchmark::DoNotOptimize(session.out().to_client.data());
  }
  if (session.out().to_client != "450 4.3.0 later\r\n") {
    state.SkipWithError("the reply did not come through");
  }
}
BENCHMARK(mail)->Name("command/mail");

void rcpt(benchmark::State& state) {
  Session session;
  session.client(kMail);
  session.server("250 2.1.0 ok\r\n");
  for ([[maybe_unused]] auto _ : state) {
    session.client(kRcpt);
    session.server("250 2.1.5 ok\r\n");
    benchmark::DoNotOptimize(session.out().to_client.data());
  }
  if (session.out().to_client != "250 2.1.5 ok\r\n") {
    state.SkipWithError("the reply did not come through");
  }
}
BENCHMARK(rcpt)->Name("command/rcpt");

void refused_rcpt(benchmark::State& state) {
  Session session;
  session.client(kMail);
  session.server("250 2.1.0 ok\r\n");
  for ([[maybe_unused]] auto _ : state) {
    session.client(kForeignRcpt);
    benchmark::DoNotOptimize(session.out().to_client.data());
  }
  if (!session.out().to_client.starts_with("550 5.7.1")) {
    state.SkipWithError("it was not refused");
  }
}
BENCHMARK(refused_rcpt)->Name("command/rcpt_refused");

// MAIL, RCPT, DATA, a short message and the replies to all, one at a time.
void transaction(benchmark::State& state) {
  Session session;
  for ([[maybe_unused]] auto _ : state) {
    session.client(kMail);
    session.server("250 2.1.0 ok\r\n");
    session.client(kRcpt);
    session.server("250 2.1.5 ok\r\n");
    session.client("DATA\r\n");
    session.server("354 go on\r\n");
    session.client("Subject: x\r\n\r\ntext\r\n.\r\n");
    session.server("250 2.0.0 queued\r\n");
    benchmark::DoNotOptimize(session.out().to_client.data());
  }
  if (session.out().to_client != "250 2.0.0 queued\r\n") {
    state.SkipWithError("the message was not taken");
  }
}
BENCHMARK(transaction)->Name("command/transaction");

}  // namespace
