// postern explain
#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/terminal.hpp"
#include "gateway/config.hpp"
#include "rules/connection_policy.hpp"
#include "rules/path.hpp"
#include "rules/relay_policy.hpp"

namespace postern::gateway::cli {
namespace {

struct Words {
  std::string_view rule;
  std::string_view words;
};

constexpr std::array kWords{
    Words{"mailer.destination", "the destination is a managed mailer"},
    Words{"mailer.source", "the client is a managed mailer"},
    Words{"internal_networks", "both ends are internal"},
    Words{"inbound.unmanaged_destination",
          "the destination is no managed mailer, and only those may be reached from outside"},
    Words{"inbound.translated_source",
          "an internal address came in on an external interface: forged, or translated by "
          "another box in front of this one"},
    Words{"impossible source",
          "no host can have this source address, or a mailer is published as it, or it is the "
          "destination's own"},
    Words{"smtp.auth_refusal_time", "a stranger that failed to authenticate too often of late"},
    Words{"outbound.unmanaged_sender",
          "an internal host that is no managed mailer, to port 25 outside"},
};

std::string_view rule_in_words(std::string_view rule) {
  const auto* const found = std::ranges::find(kWords, rule, &Words::rule);
  return found == kWords.end() ? std::string_view("a rule of its own") : found->words;
}

std::string_view verdict_in_words(rules::FlowVerdict verdict) {
  switch (verdict) {
    case rules::FlowVerdict::divert_external:
      return "taken over by the proxy, as a stranger's";
    case rules::FlowVerdict::divert_internal:
      return "taken over by the proxy, as an internal client's";
    case rules::FlowVerdict::pass:
      return "forwarded as it is";
    case rules::FlowVerdict::reject:
      return "refused with a reset";
    case rules::FlowVerdict::drop:
      return "dropped without an answer";
    case rules::FlowVerdict::observe:
      return "let through";
  }
  return "";
}

// What the policy decides, also where nothing is refused.
std::string connection_in_words(const rules::FlowDecision& decision) {
  return std::string(verdict_in_words(decision.instead_of.value_or(decision.verdict)));
}

bool is_let_through(rules::FlowVerdict verdict) {
  return verdict != rules::FlowVerdict::reject && verdict != rules::FlowVerdict::drop;
}

bool is_diverted(rules::FlowVerdict verdict) {
  return verdict == rules::FlowVerdict::divert_external ||
         verdict == rules::FlowVerdict::divert_internal;
}

// What is asked, and all that the policy says to it.
struct Answer {
  rules::NewFlow flow;
  std::string interface;
  rules::FlowDecision connection;
  const rules::Mailer* mailer = nullptr;  // if diverted
  rules::RelayClient client;
  std::string recipient;                      // as it would be printed; empty: not asked
  std::optional<rules::RelayDecision> relay;  // if the proxy would judge it
  std::string recipient_rule;                 // in words
  std::string note;                           // what the decision does not hold for; or empty
  bool observe = false;                       // nothing is refused

  // What the policy says...
  [[nodiscard]] bool approved() const {
    return is_let_through(connection.instead_of.value_or(connection.verdict)) &&
           (!relay || relay->forward());
  }
  // ...and what happens.
  [[nodiscard]] bool allowed() const { return observe || approved(); }
};

std::string why_forwarded(const Answer& answer) {
  const std::string& name = answer.mailer->name;
  if (answer.client.zone == rules::Zone::internal) {
    return "internal clients may write to anybody";
  }
  if (answer.relay->recipient == rules::RecipientClass::local) {
    return fmt::format("strangers may write to it at {}", name);
  }
  return fmt::format("{} accepted the client's AUTH, and authenticated_relay is on", name);
}

std::string why_refused(const Answer& answer) {
  const rules::Reason reason = answer.relay->reason;
  if (reason != rules::Reason::relay_denied) {
    return std::string(rules::info(reason).text);
  }
  return fmt::format("the domain is none of those that strangers may write to at {}{}",
                     answer.mailer->name,
                     answer.client.authenticated ? ", and authenticated_relay is off" : "");
}

// AUTH of strangers and STARTTLS decide what is judged at all.
std::string note_on(const rules::Mailer& mailer, const rules::RelayClient& client) {
  if (mailer.starttls == rules::Starttls::pass) {
    return fmt::format("behind STARTTLS nothing is judged: {} itself decides (starttls = \"pass\")",
                       mailer.name);
  }
  const bool is_stranger = client.authenticated && client.zone == rules::Zone::external;
  if (is_stranger && mailer.authenticated_relay && mailer.auth_requires_tls) {
    return mailer.starttls == rules::Starttls::hide
               ? "nobody outside can authenticate: auth_requires_tls holds, and starttls is "
                 "\"hide\""
               : "AUTH is taken inside TLS only";
  }
  return "";
}

void judge_recipient(Answer& answer, std::string_view written) {
  const auto parsed = rules::parse_forward_path(written, true);
  if (!parsed || !parsed->rest.empty()) {
    answer.recipient = printable(written);
    answer.relay =
        rules::RelayDecision{rules::Reason::malformed_address, rules::RecipientClass::foreign};
  } else {
    answer.recipient = printable(parsed->path.to_string());
    answer.relay = rules::decide_relay(answer.client, *answer.mailer, parsed->path);
  }
  answer.recipient_rule = answer.relay->forward() ? why_forwarded(answer) : why_refused(answer);
}

Answer answer_of(const rules::Policy& policy, const rules::NewFlow& flow,
                 const ExplainOptions& options) {
  Answer answer{.flow = flow,
                .interface = options.interface,
                .connection = rules::decide_flow(policy, flow),
                .client = {},
                .recipient = {},
                .relay = {},
                .recipient_rule = {},
                .note = {},
                .observe = policy.observe};
  answer.client.zone = answer.connection.verdict == rules::FlowVerdict::divert_internal
                           ? rules::Zone::internal
                           : rules::Zone::external;
  answer.client.authenticated = options.authenticated;
  if (is_diverted(answer.connection.verdict)) {
    answer.mailer = policy.mailer_at(flow.destination);
    answer.note = policy.observe ? "" : note_on(*answer.mailer, answer.client);
  }
  if (!options.recipient.empty() && answer.mailer != nullptr) {
    judge_recipient(answer, options.recipient);
  }
  return answer;
}

std::string with_reason(std::string_view what, rules::Reason reason) {
  return reason == rules::Reason::none ? std::string(what)
                                       : fmt::format("{} ({})", what, rules::label(reason));
}

void describe_recipient(const Answer& answer, const ExplainOptions& options, Table& table) {
  if (!answer.relay) {
    table.add({"recipient", printable(options.recipient)});
    table.add({"", is_let_through(answer.connection.verdict)
                       ? "not looked at: this connection does not go through the proxy"
                       : "never asked: there is no connection"});
    return;
  }
  const auto& info = rules::info(answer.relay->reason);
  const std::string refusal = fmt::format("refused with {} {}", info.smtp_code, info.enhanced);
  table.add({"recipient", answer.recipient});
  table.add({"decision", answer.relay->forward()
                             ? fmt::format("forwarded to {}", answer.mailer->name)
                             : with_reason(refusal, answer.relay->reason)});
  table.add({"because", answer.recipient_rule});
}

std::string outcome_text(const Answer& answer, const Style& style) {
  if (answer.approved()) {
    return style.good("allowed");
  }
  return answer.observe ? style.doubtful("would be refused, but is let through: observe = true")
                        : style.bad("refused");
}

std::string server_in_words(const Answer& answer) {
  const rules::IpAddress& address = answer.flow.destination;
  std::string out = fmt::format("{} port 25", address.to_string());
  if (answer.mailer == nullptr) {
    return out;
  }
  out += fmt::format(", mailer {}", answer.mailer->name);
  const auto own = answer.mailer->own_address_for(address);
  return own && *own != address
             ? out + fmt::format(" is published as it: on to {}", own->to_string())
             : out;
}

std::string in_words(const Answer& answer, const ExplainOptions& options, const Style& style) {
  Table table({{}, {}});
  table.add({"client",
             fmt::format("{}, in on {}, {} interface", answer.flow.source.to_string(),
                         printable(answer.interface),
                         answer.flow.from_external_interface ? "an external" : "not an external")});
  table.add({"server", server_in_words(answer)});
  table.add({"direction", rules::to_label(answer.connection.direction)});
  table.add(
      {"verdict", with_reason(connection_in_words(answer.connection), answer.connection.reason)});
  table.add({"rule",
             fmt::format("{}: {}", answer.connection.rule, rule_in_words(answer.connection.rule))});
  if (!options.recipient.empty()) {
    describe_recipient(answer, options, table);
  }
  if (!answer.note.empty()) {
    table.add({"note", answer.note});
  }
  return table.to_string() + outcome_text(answer, style) + "\n";
}

boost::json::value upstream_json(const Answer& answer) {
  const auto own = answer.mailer == nullptr
                       ? std::nullopt
                       : answer.mailer->own_address_for(answer.flow.destination);
  return own ? boost::json::value(own->to_string()) : boost::json::value();
}

std::string in_json(const Answer& answer) {
  boost::json::object out{
      {"allowed", answer.allowed()},
      {"observed", answer.observe && !answer.approved()},
      {"verdict", rules::to_label(answer.connection.verdict)},
      {"instead_of", answer.connection.instead_of
                         ? boost::json::value(rules::to_label(*answer.connection.instead_of))
                         : boost::json::value()},
      {"direction", rules::to_label(answer.connection.direction)},
      {"reason", rules::label(answer.connection.reason)},
      {"rule", answer.connection.rule},
      {"mailer",
       answer.mailer == nullptr ? boost::json::value() : boost::json::value(answer.mailer->name)},
      {"upstream", upstream_json(answer)},
      {"recipient", nullptr},
      {"note", answer.note},
  };
  if (answer.relay) {
    out["recipient"] = {{"path", answer.recipient},
                        {"forward", answer.relay->forward()},
                        {"class", rules::to_label(answer.relay->recipient)},
                        {"reason", rules::label(answer.relay->reason)},
                        {"because", answer.recipient_rule}};
  }
  return boost::json::serialize(out) + "\n";
}

std::optional<rules::IpAddress> address_option(std::string_view option, const std::string& text) {
  const auto address = rules::IpAddress::parse(text);
  if (!address) {
    print_error(fmt::format("{}: found \"{}\"; expected an IPv4 or IPv6 address\n", option,
                            printable(text)));
  }
  return address;
}

}  // namespace

int run_explain(const ExplainOptions& options) {
  const auto from = address_option("--from", options.from);
  const auto to = address_option("--to", options.to);
  if (!from || !to) {
    return kUsage;
  }
  MailerIds ids;
  const auto config = load_config(options.config, ids, Certificates::leave);
  if (!config) {
    print_error(render(config.error(), Style::of(STDERR_FILENO)));
    return kUsage;
  }
  const rules::Policy& policy = *config->policy;
  const bool is_external = std::ranges::find(policy.external_interfaces, options.interface) !=
                           policy.external_interfaces.end();
  const Answer answer = answer_of(policy, {is_external, *from, *to}, options);
  print(options.json ? in_json(answer) : in_words(answer, options, Style::of(STDOUT_FILENO)));
  return answer.allowed() ? kFine : kAnswerIsNo;
}

}  // namespace postern::gateway::cli
