#include "tests/support/gullible_server.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "tests/support/command_model.hpp"

namespace postern::testing_support {
namespace {

bool is_blank_or_control(char c) {
  const auto octet = static_cast<unsigned char>(c);
  return octet <= ' ' || octet == 0x7f;
}

// Up to the ">" that is not inside quotes: what stands behind are parameters.
std::string_view path_of(std::string_view argument) {
  bool is_quoted = false;
  for (std::size_t i = 0; i < argument.size(); ++i) {
    if (is_quoted && argument[i] == '\\') {
      ++i;
    } else if (argument[i] == '"') {
      is_quoted = !is_quoted;
    } else if (argument[i] == '>' && !is_quoted) {
      return argument.substr(0, i);
    }
  }
  return argument;
}

bool is_local(std::string_view domain) {
  std::string name = upper_case(domain);
  if (name.ends_with('.')) {
    name.pop_back();
  }
  return name == "IN.EXAMPLE" || name.ends_with(".SUB.EXAMPLE");
}

}  // namespace

std::uint64_t GullibleServer::Habits::size_limit() const {
  return size.starts_with("SIZE ") ? model_number(size.substr(5)).value_or(0) : 0;
}

GullibleServer::GullibleServer(const SessionSetup& setup, Habits habits)
    : setup_(setup), habits_(std::move(habits)) {
  if (habits_.is_mute) {
    output_.clear();
  }
}

void GullibleServer::read(std::string_view bytes) {
  for (const char c : bytes) {
    const bool is_second_half = was_cr_ && c == '\n';
    was_cr_ = false;
    if (is_closed_ || is_second_half) {
      continue;
    }
    if (at_ == At::chunk) {
      message_ += c;
      if (--chunk_octets_ == 0) {
        end_chunk();
      }
      continue;
    }
    was_cr_ = c == '\r';
    if (c == '\r' || c == '\n') {
      on_line();
      line_.clear();
    } else {
      line_ += c;
    }
  }
}

void GullibleServer::on_line() {
  switch (at_) {
    case At::body:
      return on_body_line();
    case At::awaits_data_reply:
      misdeed("was sent more before it answered DATA", line_);
      return;
    case At::awaits_auth_reply:
      misdeed("was sent more before it answered AUTH", line_);
      return;
    case At::response:
      return on_response();
    case At::handshake:
      misdeed("hears clear text in a handshake", line_);
      return;
    case At::opaque:
      return;
    case At::commands:
    case At::chunk:
      return execute(line_);
  }
}

void GullibleServer::on_body_line() {
  if (line_ != ".") {
    message_ += std::string_view(line_).substr(line_.starts_with('.') ? 1 : 0);
    message_ += "\r\n";
    return;
  }
  messages_.push_back(message_);
  begin_transaction(false);
  at_ = At::commands;
  say("BODY", "250 2.0.0");
}

void GullibleServer::execute(std::string_view line) {
  const auto* start = std::ranges::find_if_not(line, is_blank_or_control);
  line.remove_prefix(static_cast<std::size_t>(start - line.begin()));
  const std::string verb = upper_case(line.substr(0, 4));
  check_clear_text(verb, line);
  if (upper_case(line.substr(0, 8)) == "STARTTLS") {
    return on_starttls(line);
  }
  if (verb == "AUTH") {
    return on_auth(line);
  }
  constexpr std::array<std::string_view, 9> kFine{"HELO", "EHLO", "MAIL", "RCPT", "DATA",
                                                  "BDAT", "RSET", "NOOP", "QUIT"};
  if (std::ranges::find(kFine, verb) == kFine.end()) {
    misdeed("executes a forbidden command", line);
    say("OTHER", "250 2.0.0");
    return;
  }
  check_order(verb);
  check_message(verb, line);
  if (verb == "RCPT") {
    check_recipient(line.substr(4));
  }
  if (verb == "BDAT") {
    return begin_chunk(line);
  }
  if (verb == "EHLO") {
    return say_ehlo();
  }
  if (verb == "MAIL") {
    next_is_binary_ = parameter_of(line, "BODY") == "BINARYMIME";
  }
  const bool is_accepted = say(verb, verb == "DATA"   ? "354"
                                     : verb == "QUIT" ? "221 2.0.0"
                                                      : "250 2.0.0");
  is_closed_ |= verb == "QUIT" && !habits_.is_mute;
  // As some servers do: refused or not, the recipients are forgotten with it.
  has_forgotten_ |=
      (verb == "DATA" || verb == "RSET" || verb == "HELO") && !habits_.is_mute && !is_accepted;
  if (verb == "DATA" && (habits_.is_mute || is_accepted)) {
    at_ = habits_.is_mute ? At::awaits_data_reply : At::body;
  } else if (habits_.is_mute && verb != "RCPT" && verb != "NOOP" && verb != "DATA") {
    begin_transaction(false);  // whether that was accepted, the script says
  }
}

// Where TLS is required nothing that belongs to a message may be said before.
void GullibleServer::check_clear_text(std::string_view verb, std::string_view line) {
  const bool is_required = setup_.upstream_tls == rules::UpstreamTls::require ||
                           setup_.upstream_tls == rules::UpstreamTls::verify;
  if (!is_required || setup_.starttls == rules::Starttls::pass || is_in_tls_) {
    return;
  }
  constexpr std::array<std::string_view, 5> kHarmless{"EHLO", "STAR", "NOOP", "RSET", "QUIT"};
  if (std::ranges::find(kHarmless, verb) == kHarmless.end()) {
    misdeed("hears in clear what TLS was required for", line);
  }
}

void GullibleServer::on_starttls(std::string_view line) {
  const bool is_asked_for =
      setup_.starttls == rules::Starttls::pass || setup_.upstream_tls != rules::UpstreamTls::off;
  if (!is_asked_for || is_in_tls_ || (!habits_.is_mute && !may_be_secured_)) {
    misdeed("executes a STARTTLS that is due to nobody", line);
  }
  if (habits_.is_mute) {
    return;
  }
  check_order("STARTTLS");
  if (say("STARTTLS", "220 2.0.0")) {
    at_ = setup_.starttls == rules::Starttls::pass || setup_.observe ? At::opaque : At::handshake;
  }
}

void GullibleServer::on_tls() {
  is_in_tls_ = true;
  at_ = At::commands;
  if (habits_.forgets_in_tls) {
    may_be_pipelined_ = may_be_chunked_ = may_authenticate_ = is_authenticated_ = false;
    begin_transaction(false);
  }
}

void GullibleServer::on_client_tls() {
  client_is_in_tls_ = true;
  is_authenticated_ = false;
}

bool GullibleServer::offers_auth() const {
  return !habits_.auth.empty() && (is_in_tls_ || !habits_.shows_auth_only_in_tls);
}

void GullibleServer::check_auth(std::string_view line) {
  const bool is_stranger = setup_.zone == rules::Zone::external;
  const bool lacks_tls = setup_.auth_requires_tls && !client_is_in_tls_;
  if (is_stranger && !setup_.authenticated_relay) {
    misdeed("lets a stranger authenticate", line);
  }
  if (lacks_tls && (is_stranger || habits_.shows_auth_only_in_tls)) {
    misdeed("is told what the client may say in TLS only", line);
  }
  if (!habits_.is_mute && (!may_authenticate_ || has_mail_ || is_authenticated_)) {
    misdeed("gets AUTH out of its place", line);
  }
}

void GullibleServer::on_auth(std::string_view line) {
  check_auth(line);
  const std::size_t mechanism = std::min(line.find_first_not_of(" \t", 4), line.size());
  const std::size_t behind = std::min(line.find_first_of(" \t", mechanism), line.size());
  const bool has_initial = line.find_first_not_of(" \t", behind) != std::string_view::npos;
  heard_a_secret_ |= has_initial;
  if (habits_.is_mute) {
    at_ = At::awaits_auth_reply;
    return;
  }
  check_order("AUTH");
  challenges_left_ = habits_.challenges + (has_initial ? 0 : 1);
  answer_auth();
}

void GullibleServer::answer_auth() {
  const bool goes_on = challenges_left_ > 0;
  const bool is_accepted = say("AUTH", goes_on ? "334" : "235 2.7.0");
  at_ = is_accepted && goes_on ? At::response : At::commands;
  is_authenticated_ |= is_accepted && !goes_on;
  challenges_left_ -= goes_on ? 1 : 0;
}

void GullibleServer::on_response() {
  constexpr std::string_view kBase64 =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  const bool is_cancel = line_ == "*";
  heard_a_secret_ |= !is_cancel;
  if (!is_cancel && line_.find_first_not_of(kBase64) != std::string::npos) {
    misdeed("gets a response that is none", line_);
    at_ = At::commands;
    return habits_.reads_commands_in_auth ? execute(line_) : void(say(Mood::never, "AUTH", "235"));
  }
  if (habits_.is_mute) {
    at_ = At::awaits_auth_reply;
    return;
  }
  check_order("AUTH");
  constexpr std::array<std::string_view, 4> kResponsesToo{"RSET", "NOOP", "QUIT", "DATA"};
  const bool is_command =
      std::ranges::find(kResponsesToo, upper_case(line_)) != kResponsesToo.end();
  if (is_command && habits_.reads_commands_in_auth) {
    at_ = At::commands;
    static_cast<void>(say(Mood::mismatch, "AUTH", "235"));
  } else if (is_cancel && habits_.takes_cancel) {
    at_ = At::commands;
    output_ += "501 5.7.0" + next_tag("AUTH") + "\r\n";
  } else {
    answer_auth();
  }
}

void GullibleServer::check_order(std::string_view verb) {
  if (habits_.is_mute) {
    return;
  }
  if (!may_be_pipelined_ && !output_.empty()) {
    misdeed("hears a command before its reply was read, and offered no PIPELINING", line_);
  }
  if (verb == "DATA" && recipients_ == 0) {
    misdeed("gets DATA without a recipient", line_);
  }
}

void GullibleServer::check_message(std::string_view verb, std::string_view line) {
  if ((verb == "DATA" || verb == "RCPT") && chunks_ != Chunks::none) {
    misdeed("gets DATA or RCPT behind BDAT", line);
  }
  if (verb == "DATA" && is_binary_) {
    misdeed("gets a binary message by DATA", line);
  }
  const auto size = model_number(parameter_of(line, "SIZE").value_or(""));
  if (verb == "MAIL" && size && size_limit_ > 0 && *size > size_limit_) {
    misdeed("is told of a message that is too big", line);
  }
}

bool GullibleServer::is_chunk_due(std::string_view line, std::uint64_t octets) {
  if (habits_.is_mute) {
    if (awaits_chunk_reply_) {
      misdeed("gets BDAT before it answered the one before", line);
    }
    return !has_forgotten_;
  }
  if (!output_.empty()) {
    misdeed("gets BDAT before its reply was read", line);
  }
  if (size_limit_ > 0 && (octets > size_limit_ || message_.size() > size_limit_ - octets)) {
    misdeed("gets chunks of a message that is too big", line);
  }
  return may_be_chunked_ && has_mail_ && recipients_ > 0 && !has_forgotten_ &&
         chunks_ != Chunks::refused;
}

void GullibleServer::begin_chunk(std::string_view line) {
  std::string words = upper_case(line);
  std::ranges::replace_if(words, is_blank_or_control, ' ');
  const auto chunk = read_model_chunk(words);
  if (!chunk || !is_chunk_due(line, chunk->octets)) {
    misdeed("gets BDAT that it did not expect, and runs its octets", line);
    say("BDAT", "503 5.5.1");
    return;
  }
  chunks_ = Chunks::open;
  chunk_octets_ = chunk->octets;
  chunk_is_last_ = chunk->is_last;
  chunk_mood_ = habits_.is_mute ? Mood::accept : next_mood();
  if (chunk_mood_ == Mood::refuse_early || chunk_mood_ == Mood::accept_early) {
    was_wild_ |= chunk_mood_ == Mood::accept_early;
    say(chunk_mood_, "BDAT", "250 2.0.0");
  }
  at_ = At::chunk;
  if (chunk_octets_ == 0) {
    end_chunk();
  }
}

void GullibleServer::end_chunk() {
  at_ = At::commands;
  awaits_chunk_reply_ = habits_.is_mute;
  bool is_accepted = chunk_mood_ == Mood::accept_early;
  if (!is_accepted && chunk_mood_ != Mood::refuse_early) {
    is_accepted = say(chunk_mood_, "BDAT", "250 2.0.0") || habits_.is_mute;
  }
  if (chunk_is_last_) {
    messages_.push_back(message_);
    begin_transaction(false);
  } else if (!is_accepted) {
    chunks_ = Chunks::refused;
  }
}

void GullibleServer::on_accepted(std::string_view verb) {
  if (verb == "RCPT") {
    ++recipients_;
  } else if (verb == "HELO" || verb == "EHLO") {
    const bool is_ehlo = verb == "EHLO";
    may_be_pipelined_ = is_ehlo && habits_.offers_pipelining;
    may_be_chunked_ = is_ehlo && habits_.offers_chunking;
    may_be_secured_ = is_ehlo && habits_.offers_starttls;
    may_authenticate_ = is_ehlo && offers_auth();
    size_limit_ = is_ehlo ? habits_.size_limit() : 0;
    begin_transaction(false);
  } else if (verb == "RSET") {
    begin_transaction(false);
  } else if (verb == "MAIL") {
    begin_transaction(true);
    is_binary_ = next_is_binary_;
  }
}

void GullibleServer::begin_transaction(bool has_mail) {
  has_mail_ = has_mail;
  is_binary_ = false;
  has_forgotten_ = false;
  recipients_ = 0;
  chunks_ = Chunks::none;
  message_.clear();
}

void GullibleServer::on_reply_said(std::string_view reply) {
  if (at_ == At::awaits_data_reply) {
    at_ = reply.starts_with("354") ? At::body : At::commands;
    has_forgotten_ = at_ != At::body;
  } else if (at_ == At::awaits_auth_reply) {
    at_ = reply.starts_with("334") ? At::response : At::commands;
    is_authenticated_ |= reply.starts_with("235");
  } else if (awaits_chunk_reply_ && !reply.starts_with('2') && chunks_ == Chunks::open) {
    chunks_ = Chunks::refused;
  }
  awaits_chunk_reply_ = false;
}

void GullibleServer::check_recipient(std::string_view argument) {
  if (setup_.zone == rules::Zone::internal || (setup_.authenticated_relay && is_authenticated_)) {
    return;
  }
  const std::string_view path = path_of(argument);
  const bool may_route = setup_.allow_routing_characters;
  if (!may_route && path.find_first_of("%!") != std::string_view::npos) {
    misdeed("reroutes a recipient", argument);
  }
  std::size_t at = path.find('@');
  if (at == std::string_view::npos && upper_case(path).find("POSTMASTER") == std::string::npos) {
    misdeed("completes a domainless recipient", argument);
  }
  for (; at != std::string_view::npos; at = path.find('@', at + 1)) {
    const std::string_view domain =
        path.substr(at + 1, path.find_first_of(" \t\"@,:%!", at + 1) - at - 1);
    const bool is_own_literal =
        setup_.allow_address_literals && path.substr(at + 1) == "[203.0.113.25]";
    if (!is_local(domain) && !is_own_literal) {
      misdeed("relays", argument);
    }
  }
}

// Most accept; of 256 moods sixteen answer at length, forty refuse, four break the protocol, and two
// end the session.
GullibleServer::Mood GullibleServer::next_mood() {
  const std::size_t index = commands_++;
  const std::uint8_t mood = index < habits_.moods.size() ? habits_.moods[index] : 0;
  switch (mood) {
    case 190:
      return Mood::mismatch;
    case 191:
      return Mood::say_more;
    case 192:
      return Mood::say_nonsense;
    case 193:
      return Mood::accept_early;
    case 194:
      return Mood::go_away;
    case 255:
      return Mood::shut_down;
    default:
      break;
  }
  if (mood >= 215) {
    return mood % 2 == 0 ? Mood::later : mood % 4 == 3 ? Mood::refuse_early : Mood::never;
  }
  return mood >= 199 ? Mood::accept_at_length : Mood::accept;
}

bool GullibleServer::say(std::string_view verb, std::string_view accepting) {
  return !habits_.is_mute && say(next_mood(), verb, accepting);
}

bool GullibleServer::say(Mood mood, std::string_view verb, std::string_view accepting) {
  if (habits_.is_mute) {
    return false;
  }
  if (mood == Mood::go_away) {
    is_closed_ = true;
    return false;
  }
  const std::string tag = next_tag(verb);
  const std::string code(accepting.substr(0, 3));
  const std::string go_on = code == "354" ? " go on" : "";
  switch (mood) {
    case Mood::accept_at_length:
      on_accepted(verb);
      output_ += code + "-" + tag + "\r\n" + code + go_on + "\r\n";
      return true;
    case Mood::accept:
    case Mood::accept_early:
      on_accepted(verb);
      output_ += std::string(accepting) + tag + go_on + "\r\n";
      return true;
    case Mood::say_more:
      on_accepted(verb);
      was_wild_ = has_said_more_ = true;
      output_ += std::string(accepting) + tag + go_on + "\r\n250 2.0.0" +
                 next_tag(verb == "STARTTLS" ? "INJECTED" : "EXTRA") + "\r\n";
      return true;
    case Mood::later:
      output_ += "450 4.0.0" + tag + "\r\n";
      return false;
    case Mood::never:
    case Mood::refuse_early:
      output_ += verb == "AUTH" ? "535 5.7.8" + tag + "\r\n"
                                : "550-5.0.0" + tag + "\r\n550 5.0.0 never\r\n";
      return false;
    case Mood::mismatch:
      was_wild_ = true;
      output_ += (code == "354" || code == "235" || code == "220" ? "250" : "354") + tag + "\r\n";
      return false;
    case Mood::say_nonsense:
      was_wild_ = true;
      output_ += "nonsense" + tag + "\r\n";
      return false;
    case Mood::go_away:
    case Mood::shut_down:
      output_ += "421 4.0.0" + tag + "\r\n";
      is_closed_ = true;
      return false;
  }
  return false;
}

void GullibleServer::say_ehlo() {
  if (habits_.is_mute) {
    return begin_transaction(false);
  }
  const Mood mood = next_mood();
  if (mood != Mood::accept && mood != Mood::accept_at_length && mood != Mood::accept_early) {
    say(mood == Mood::say_more ? Mood::mismatch : mood, "EHLO", "250");
    has_forgotten_ = true;
    return;
  }
  on_accepted("EHLO");
  std::string reply = "250-mx" + next_tag("EHLO") + "\r\n";
  reply += habits_.offers_pipelining ? "250-PIPELINING\r\n" : "";
  reply += habits_.size.empty() ? "" : "250-" + habits_.size + "\r\n";
  reply += habits_.offers_binarymime ? "250-BINARYMIME\r\n" : "";
  reply += habits_.offers_chunking ? "250-CHUNKING\r\n" : "";
  reply += habits_.offers_starttls && !is_in_tls_ ? "250-STARTTLS\r\n" : "";
  reply += offers_auth() ? "250-" + habits_.auth + "\r\n" : "";
  output_ += reply + "250-SMTPUTF8\r\n250-8BITMIME\r\n250 DSN\r\n";
}

std::string GullibleServer::next_tag(std::string_view verb) {
  answered_.emplace_back(verb);
  return " \x01" + std::to_string(answered_.size()) + ' ' + std::string(verb);
}

bool GullibleServer::is_inside_a_message() const {
  // Who gets an answer that is none cannot know that there is a body now.
  const bool is_secret = at_ == At::body && was_wild_ && message_.empty();
  return !is_closed_ && !is_secret &&
         (at_ == At::body || at_ == At::chunk || chunks_ == Chunks::open);
}

std::string GullibleServer::take_output(std::size_t most) {
  std::string taken = output_.substr(0, most);
  output_.erase(0, taken.size());
  return taken;
}

void GullibleServer::misdeed(std::string_view what, std::string_view line) {
  if (has_said_more_) {
    return;  // a reply too many passes for the answer to another command: that is its own fault
  }
  misdeeds_.push_back(std::string(what) + ": " + std::string(line.substr(0, 200)));
}

}  // namespace postern::testing_support
