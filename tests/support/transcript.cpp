#include "tests/support/transcript.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace postern::testing_support {
namespace {

using rules::TlsPeer;
using smtp_proxy::BareNewline;
using smtp_proxy::EarlyTalker;
using smtp_proxy::UnauthorisedPipelining;

constexpr std::size_t kShortestRun = 40;  // of one character, to be written as \{c*N}

[[noreturn]] void fail(std::string_view what, std::string_view where) {
  throw std::runtime_error(std::string(what) + ": " + std::string(where));
}

std::vector<std::string> split_words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) {
    words.push_back(word);
  }
  return words;
}

unsigned parse_number(std::string_view text, int base) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc{} || end != text.data() + text.size()) {
    fail("not a number", text);
  }
  return number;
}

std::string escape_octet(char c) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  switch (c) {
    case '\r':
      return "\\r";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\0':
      return "\\0";
    case '\\':
      return "\\\\";
    default:
      break;
  }
  if (c >= ' ' && c <= '~') {
    return {c};
  }
  const auto octet = static_cast<unsigned char>(c);
  return {'\\', 'x', kHex[octet >> 4U], kHex[octet & 0xfU]};
}

// As the lines of one side: without their CRLFs, and with \c where there is none.
void render_bytes(std::string_view bytes, std::string_view prefix, std::string& text) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find("\r\n");
    text += prefix;
    text += escape(bytes.substr(0, end));
    text += end == std::string_view::npos ? "\\c\n" : "\n";
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 2);
  }
}

void render_seen(const Seen& seen, std::string& text) {
  render_bytes(seen.to_server, "    S< ", text);
  render_bytes(seen.to_client, "    C< ", text);
  for (const std::string& event : seen.events) {
    text += "    event: " + event + '\n';
  }
  if (seen.server_was_shut_down) {
    text += "    the server reads the end of the stream\n";
  }
  if (seen.end != smtp_proxy::End::none) {
    text += "    end: " + std::string(describe(seen.end));
    text += seen.reason == rules::Reason::none
                ? "\n"
                : ", " + std::string(rules::label(seen.reason)) + '\n';
  }
}

template <typename Choice>
Choice one_of(std::string_view label, std::initializer_list<Choice> choices) {
  for (const Choice choice : choices) {
    if (label == rules::to_label(choice)) {
      return choice;
    }
  }
  fail("unknown choice", label);
}

void apply_word(std::string_view word, SessionSetup& setup) {
  const std::size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
  if (key == "bare_newline") {
    setup.settings.bare_newline = value == "reject" ? BareNewline::reject : BareNewline::normalize;
  } else if (key == "early_talker") {
    setup.settings.early_talker = value == "wait" ? EarlyTalker::wait : EarlyTalker::refuse;
  } else if (key == "unauthorised_pipelining") {
    setup.settings.unauthorised_pipelining =
        value == "wait" ? UnauthorisedPipelining::wait : UnauthorisedPipelining::refuse;
  } else if (key == "max_errors") {
    setup.settings.max_errors = parse_number(value, 10);
  } else if (key == "max_recipients") {
    setup.settings.max_recipients = parse_number(value, 10);
  } else if (key == "max_idle_commands") {
    setup.settings.max_idle_commands = parse_number(value, 10);
  } else if (key == "refusals_before_delay") {
    setup.settings.refusals_before_delay = parse_number(value, 10);
  } else if (key == "observe") {
    setup.observe = true;
  } else if (key == "max_refused_recipients") {
    setup.settings.max_refused_recipients = parse_number(value, 10);
  } else if (key == "max_auth_failures") {
    setup.settings.max_auth_failures = parse_number(value, 10);
  } else if (key == "authenticated_relay") {
    setup.authenticated_relay = true;
  } else if (key == "auth_in_clear") {
    setup.auth_requires_tls = false;
  } else if (key == "starttls") {
    setup.starttls =
        one_of(value, {rules::Starttls::hide, rules::Starttls::terminate, rules::Starttls::pass});
  } else if (key == "upstream_tls") {
    setup.upstream_tls = one_of(value, {rules::UpstreamTls::off, rules::UpstreamTls::opportunistic,
                                        rules::UpstreamTls::require, rules::UpstreamTls::verify});
  } else if (key == "require_local_sender") {
    setup.require_local_sender = true;
  } else if (key == "allow_routing_characters") {
    setup.allow_routing_characters = true;
  } else if (key == "allow_address_literals") {
    setup.allow_address_literals = true;
  } else {
    fail("unknown policy", word);
  }
}

rules::UpstreamError upstream_error(std::string_view name) {
  for (std::size_t i = 0; i < rules::kUpstreamErrorCount; ++i) {
    const auto error = static_cast<rules::UpstreamError>(i);
    if (name == rules::to_label(error)) {
      return error;
    }
  }
  fail("unknown error of the mailer", name);
}

void act(std::string_view what, SmtpSession& session) {
  constexpr std::string_view kUnreachable = "unreachable ";
  if (what == "client eof") {
    session.client_eof();
  } else if (what == "client gone") {
    session.client_gone();
  } else if (what == "server eof") {
    session.server_eof();
  } else if (what == "timeout") {
    session.timeout();
  } else if (what == "stop") {
    session.end_session(rules::Reason::shutting_down);
  } else if (what == "tls admitted" || what == "tls not admitted") {
    session.client_tls(what == "tls admitted");
  } else if (what == "tls client" || what == "tls server") {
    session.secured(what == "tls client" ? TlsPeer::client : TlsPeer::server);
  } else if (what == "tls client failed" || what == "tls server failed") {
    session.handshake_failed(what == "tls client failed" ? TlsPeer::client : TlsPeer::server);
  } else if (what.starts_with(kUnreachable)) {
    session.unreachable(upstream_error(what.substr(kUnreachable.size())));
  } else {
    fail("unknown act", what);
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string escaped;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = std::min(text.find_first_not_of(text[i], i), text.size());
    const std::string octet = escape_octet(text[i]);
    if (end - i >= kShortestRun) {
      escaped += "\\{" + octet + '*' + std::to_string(end - i) + '}';
    } else {
      for (std::size_t n = i; n < end; ++n) {
        escaped += octet;
      }
    }
    i = end;
  }
  return escaped;
}

std::string unescape(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    if (text[0] != '\\' || text.size() < 2) {
      plain += text[0];
      text.remove_prefix(1);
      continue;
    }
    constexpr std::array<std::pair<char, char>, 5> kSimple{
        {{'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'0', '\0'}, {'\\', '\\'}}};
    const auto* simple =
        std::ranges::find(kSimple, text[1], [](const auto& pair) { return pair.first; });
    if (simple != kSimple.end()) {
      plain += simple->second;
      text.remove_prefix(2);
    } else if (text[1] == 'x') {
      plain += static_cast<char>(parse_number(text.substr(2, 2), 16));
      text.remove_prefix(4);
    } else if (text[1] == '{') {
      const std::size_t star = text.rfind('*', text.find('}'));
      const std::size_t end = text.find('}');
      if (end == std::string_view::npos || star == std::string_view::npos) {
        fail("bad repetition", text);
      }
      const std::string octets = unescape(text.substr(2, star - 2));
      for (unsigned n = parse_number(text.substr(star + 1, end - star - 1), 10); n > 0; --n) {
        plain += octets;
      }
      text.remove_prefix(end + 1);
    } else {
      fail("unknown escape", text);
    }
  }
  return plain;
}

Transcript::Transcript(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool is_step = line.starts_with("C> ") || line.starts_with("S> ") ||
                         line.starts_with("! ") || line.starts_with("? ");
    if (steps_.empty() && !is_step) {
      read_header_line(line);
    } else {
      read_step_line(line);
    }
  }
}

void Transcript::read_header_line(std::string_view line) {
  const std::size_t colon = line.find(": ");
  const std::string_view key = line.starts_with('#') ? "#" : line.substr(0, colon);
  const auto words = split_words(line.substr(std::min(key.size() + 2, line.size())));
  header_.emplace_back(line);
  if (key == "policy") {
    for (const std::string& word : words) {
      apply_word(word, setup_);
    }
  } else if (key == "client") {
    setup_.zone = words.at(0) == "internal" ? rules::Zone::internal : rules::Zone::external;
  } else if (key == "start") {
    starts_connected_ = true;
    if (words.at(0) == "ehlo") {
      ehlo_.assign(words.begin(), words.end());
    }
  } else if (key != "#" && !line.empty()) {
    fail("unknown key of the header", line);
  }
}

void Transcript::read_step_line(std::string_view line) {
  const bool follows_a_step = std::exchange(follows_a_step_, false);
  if (line.starts_with("    ")) {
    return;  // what an earlier run wrote
  }
  if (line.empty() || line.starts_with('#')) {
    pending_.emplace_back(line);
    return;
  }
  follows_a_step_ = true;
  Step step;
  const std::string_view rest = line.size() > 3 ? line.substr(3) : std::string_view{};
  if (line.starts_with("C>") || line.starts_with("S>")) {
    step.kind = line[0] == 'C' ? Step::Kind::client : Step::Kind::server;
    const bool has_crlf = !rest.ends_with("\\c");
    step.bytes = unescape(has_crlf ? rest : rest.substr(0, rest.size() - 2));
    step.bytes += has_crlf ? "\r\n" : "";
    if (follows_a_step && steps_.back().kind == step.kind) {
      steps_.back().bytes += step.bytes;
      steps_.back().written.emplace_back(line);
      return;
    }
  } else if (line.starts_with("! ")) {
    step.kind = Step::Kind::act;
    step.act = line.substr(2);
  } else if (line == "? wait") {
    step.kind = Step::Kind::show_wait;
  } else {
    fail("unknown step", line);
  }
  step.written = std::exchange(pending_, {});
  step.written.emplace_back(line);
  steps_.push_back(std::move(step));
}

void Transcript::begin(SmtpSession& session) const {
  if (!starts_connected_) {
    return;
  }
  session.server("220 mx.in.example ESMTP\r\n");
  if (!ehlo_.empty()) {
    std::string reply = "250-mx.in.example\r\n";
    for (std::size_t i = 1; i < ehlo_.size(); ++i) {
      reply += "250-" + ehlo_[i] + "\r\n";
    }
    reply += "250 HELP\r\n";
    session.client("EHLO client.example\r\n");
    session.server(reply);
  }
  static_cast<void>(session.take());
}

void Transcript::perform(const Step& step, std::size_t index, const Cut& cut,
                         SmtpSession& session) const {
  if (step.kind == Step::Kind::act) {
    return act(step.act, session);
  }
  std::string_view bytes = step.bytes;
  std::size_t piece = index == cut.step ? cut.at : cut.piece;
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, piece);
    if (step.kind == Step::Kind::client) {
      session.client(part);
    } else {
      session.server(part);
    }
    bytes.remove_prefix(part.size());
    piece = cut.piece;
  }
}

std::vector<Seen> Transcript::run(const Cut& cut) const {
  SmtpSession session(setup_);
  begin(session);
  std::vector<Seen> seen;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    perform(steps_[i], i, cut, session);
    seen.push_back(session.take());
    if (steps_[i].kind == Step::Kind::show_wait) {
      const auto& conversation = session.conversation();
      seen.back().events.push_back(
          "waits for " + std::string(describe(conversation.dialogue().wait())) +
          (conversation.wants_client_bytes() ? "" : ", the client is held"));
    }
  }
  return seen;
}

std::string Transcript::render() const {
  std::string text;
  for (const std::string& line : header_) {
    text += line + '\n';
  }
  const std::vector<Seen> seen = run({});
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    for (const std::string& line : steps_[i].written) {
      text += line + '\n';
    }
    render_seen(seen[i], text);
  }
  for (const std::string& line : pending_) {
    text += line + '\n';
  }
  return text;
}

}  // namespace postern::testing_support
