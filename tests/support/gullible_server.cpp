#include "tests/support/gullible_server.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace postern::testing_support {
namespace {

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return result;
}

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
  std::string name = upper(domain);
  if (name.ends_with('.')) {
    name.pop_back();
  }
  return name == "IN.EXAMPLE" || name.ends_with(".SUB.EXAMPLE");
}

}  // namespace

GullibleServer::GullibleServer(const SessionSetup& setup, Habits habits)
    : setup_(setup), habits_(std::move(habits)) {
  if (habits_.is_mute) {
    output_.clear();
  }
}

void GullibleServer::read(std::string_view bytes) {
  for (const char c : bytes) {
    const bool is_second_half = was_cr_ && c == '\n';
    was_cr_ = c == '\r';
    if (is_second_half) {
      continue;
    }
    if (c == '\r' || c == '\n') {
      on_line();
      line_.clear();
    } else {
      line_ += c;
    }
  }
}

void GullibleServer::on_line() {
  if (is_closed_) {
    return;
  }
  switch (at_) {
    case At::body:
      return on_body_line();
    case At::awaits_data_reply:
      misdeed("was sent more before it answered DATA", line_);
      return;
    case At::commands:
      return execute(line_);
  }
}

void GullibleServer::on_body_line() {
  if (line_ != ".") {
    message_ += std::string_view(line_).substr(line_.starts_with('.') ? 1 : 0);
    message_ += "\r\n";
    return;
  }
  messages_.push_back(std::exchange(message_, {}));
  recipients_ = 0;
  at_ = At::commands;
  say("BODY", "250 2.0.0");
}

void GullibleServer::execute(std::string_view line) {
  const auto* start = std::ranges::find_if_not(line, is_blank_or_control);
  line.remove_prefix(static_cast<std::size_t>(start - line.begin()));
  const std::string verb = upper(line.substr(0, 4));
  constexpr std::array<std::string_view, 8> kFine{"HELO", "EHLO", "MAIL", "RCPT",
                                                  "DATA", "RSET", "NOOP", "QUIT"};
  if (std::ranges::find(kFine, verb) == kFine.end()) {
    misdeed("executes a forbidden command", line);
    return say("OTHER", "250 2.0.0");
  }
  check_order(verb);
  if (verb == "RCPT") {
    check_recipient(line.substr(4));
  }
  if (verb == "EHLO") {
    return say_ehlo();
  }
  const std::size_t commands_before = replies_;
  say(verb, verb == "DATA" ? "354" : verb == "QUIT" ? "221 2.0.0" : "250 2.0.0");
  is_closed_ |= verb == "QUIT" && !habits_.is_mute;
  if (verb == "DATA" && habits_.is_mute) {
    at_ = At::awaits_data_reply;
  } else if (verb == "DATA" && replies_ != commands_before && output_.ends_with(" go on\r\n")) {
    at_ = At::body;
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

void GullibleServer::on_accepted(std::string_view verb) {
  if (verb == "RCPT") {
    ++recipients_;
  } else if (verb == "HELO" || verb == "EHLO") {
    may_be_pipelined_ = verb == "EHLO" && habits_.offers_pipelining;
    recipients_ = 0;
  } else if (verb == "RSET" || verb == "MAIL") {
    recipients_ = 0;
  }
}

void GullibleServer::on_data_reply(bool is_354) {
  at_ = is_354 ? At::body : At::commands;
}

void GullibleServer::check_recipient(std::string_view argument) {
  if (setup_.zone == rules::Zone::internal) {
    return;
  }
  const std::string_view path = path_of(argument);
  const bool may_route = setup_.allow_routing_characters;
  if (!may_route && path.find_first_of("%!") != std::string_view::npos) {
    misdeed("reroutes a recipient", argument);
  }
  std::size_t at = path.find('@');
  if (at == std::string_view::npos && upper(path).find("POSTMASTER") == std::string::npos) {
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

// Most accept; of 256 moods sixteen answer at length, forty refuse, and one ends the session.
GullibleServer::Mood GullibleServer::next_mood() {
  const std::size_t index = commands_++;
  const std::uint8_t mood = index < habits_.moods.size() ? habits_.moods[index] : 0;
  if (mood == 255) {
    return Mood::shut_down;
  }
  if (mood >= 215) {
    return mood % 2 == 0 ? Mood::later : Mood::never;
  }
  return mood >= 199 ? Mood::accept_at_length : Mood::accept;
}

void GullibleServer::say(std::string_view verb, std::string_view accepting) {
  if (habits_.is_mute) {
    return;
  }
  const std::string tag = " \x01" + std::to_string(++replies_) + ' ' + std::string(verb);
  const std::string code(accepting.substr(0, 3));
  const Mood mood = next_mood();
  if (mood == Mood::accept || mood == Mood::accept_at_length) {
    on_accepted(verb);
  }
  switch (mood) {
    case Mood::accept_at_length:
      output_ += code + "-" + tag + "\r\n" + code + "\r\n";
      if (code != "354") {
        return;
      }
      output_.resize(output_.size() - 2);
      output_ += " go on\r\n";
      return;
    case Mood::accept:
      output_ += std::string(accepting) + tag + (code == "354" ? " go on" : "") + "\r\n";
      return;
    case Mood::later:
      output_ += "450 4.0.0" + tag + "\r\n";
      return;
    case Mood::never:
      output_ += "550-5.0.0" + tag + "\r\n550 5.0.0 never\r\n";
      return;
    case Mood::shut_down:
      output_ += "421 4.0.0" + tag + "\r\n";
      is_closed_ = true;
      return;
  }
}

void GullibleServer::say_ehlo() {
  if (habits_.is_mute) {
    return;
  }
  const Mood mood = next_mood();
  const std::string tag = " \x01" + std::to_string(++replies_) + " EHLO";
  if (mood == Mood::shut_down) {
    output_ += "421 4.0.0" + tag + "\r\n";
    is_closed_ = true;
    return;
  }
  if (mood == Mood::later || mood == Mood::never) {
    output_ += "502 5.5.1" + tag + "\r\n";
    return;
  }
  on_accepted("EHLO");
  output_ += "250-mx" + tag + "\r\n";
  if (habits_.offers_pipelining) {
    output_ += "250-PIPELINING\r\n";
  }
  output_ +=
      "250-SIZE 1000\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250-DSN\r\n250-STARTTLS\r\n"
      "250-AUTH PLAIN\r\n250-BINARYMIME\r\n250 CHUNKING\r\n";
}

std::string GullibleServer::take_output(std::size_t most) {
  std::string taken = output_.substr(0, most);
  output_.erase(0, taken.size());
  return taken;
}

void GullibleServer::misdeed(std::string_view what, std::string_view line) {
  misdeeds_.push_back(std::string(what) + ": " + std::string(line.substr(0, 200)));
}

}  // namespace postern::testing_support
