// The client's messages: bodies behind DATA, chunks behind BDAT.
#include <algorithm>

#include "smtp_proxy/core/dialogue.hpp"

namespace postern::smtp_proxy {

using rules::Reason;

Dialogue::Decision Dialogue::decide_data() const {
  if (transaction_.chunking != Chunking::none || transaction_.is_binary) {
    return Refusal{.reason = Reason::bad_sequence};  // RFC 3030 2 and 3
  }
  if (transaction_.accepted_recipients == 0) {
    return Refusal{.reason = Reason::no_valid_recipients};
  }
  return Forward{"DATA", Answer::data};
}

void Dialogue::begin_body(Output& out) {
  body_ = Body(observes() ? BareNewline::keep : settings_->bare_newline);
  message_is_open_ = true;
  phase_ = Phase::body;
  if (client_ended_ && !ends_after_replies_) {
    end(Reason::none, out);
  }
}

std::size_t Dialogue::read_body(std::string_view input, Output& out) {
  const Body::Progress progress = body_.read(input, out);
  if (progress.ended) {
    end_body(out);
  }
  return progress.consumed;
}

void Dialogue::end_body(Output& out) {
  if (settings_->bare_newline == BareNewline::reject && body_.saw_bare_newline()) {
    report_refusal({.reason = Reason::bare_newline, .detail = "body"}, out);
    if (!observes()) {
      out.to_client += "550 5.6.11 bare CR or LF in the message\r\n";
      end_message(rules::MessageOutcome::refused, out);
      return end(Reason::bare_newline, out);
    }
  }
  if (!observes()) {
    out.to_server(".\r\n");
  }
  phase_ = Phase::commands;
  replies_.push(Answer::end_of_data);
  transaction_.is_begun = false;
  idle_commands_ = 0;
  let_client_wait(false);
}

Dialogue::Decision Dialogue::decide_chunk(std::string_view argument) const {
  const auto chunk = parse_chunk(argument);
  if (!chunk) {
    return Refusal{.reason = Reason::malformed_chunk, .ends_session = true};
  }
  return ChunkDecision{.chunk = *chunk, .refusal = refusal_of_chunk(*chunk)};
}

// A server that did not expect a chunk may read its octets as commands. So it gets one only where
// it has no cause to refuse it.
Reason Dialogue::refusal_of_chunk(const Chunk& chunk) const {
  if (!offered_.has(Extension::chunking)) {
    return Reason::forbidden_command;
  }
  if (!transaction_.is_begun || !transaction_.is_open ||
      transaction_.chunking == Chunking::refused) {
    return Reason::bad_sequence;
  }
  if (transaction_.accepted_recipients == 0) {
    return Reason::no_valid_recipients;
  }
  if (size_limit_ != 0 &&
      (chunk.octets > size_limit_ || transaction_.chunk_octets > size_limit_ - chunk.octets)) {
    return Reason::message_too_big;
  }
  return Reason::none;
}

void Dialogue::begin_chunk(const ChunkDecision& decision, std::string_view line, Output& out) {
  const auto& [chunk, refusal] = decision;
  phase_ = Phase::chunk;
  chunk_left_ = chunk.octets;
  chunk_refusal_ = refusal;
  if (refusal != Reason::none && observes()) {
    report_refusal({.reason = refusal}, out);
    chunk_refusal_ = Reason::none;
  }
  if (chunk_refusal_ == Reason::none) {
    out.to_server(line);
    replies_.push(chunk.is_last ? Answer::last_chunk : Answer::chunk);
    message_is_open_ = true;
    transaction_.has_chunks = true;
    transaction_.chunking = chunk.is_last ? Chunking::complete : Chunking::open;
    transaction_.is_begun = !chunk.is_last;
    idle_commands_ = chunk.is_last ? 0 : idle_commands_;
  } else if (transaction_.is_open && offered_.has(Extension::chunking)) {
    // Without CHUNKING a client that tried it may still send the message whole.
    transaction_.chunking = Chunking::refused;
  }
  read_chunk({}, out);  // there may be nothing to read
}

std::size_t Dialogue::read_chunk(std::string_view input, Output& out) {
  const auto octets = static_cast<std::size_t>(std::min<std::uint64_t>(chunk_left_, input.size()));
  const bool is_forwarded = chunk_refusal_ == Reason::none;
  if (is_forwarded) {
    out.to_server_without_copy(input.substr(0, octets));
    transaction_.chunk_octets += octets;
  }
  chunk_left_ -= octets;
  if (chunk_left_ != 0) {
    return octets;
  }
  phase_ = Phase::commands;
  if (!is_forwarded) {
    refuse({.reason = chunk_refusal_}, out);
  } else if (!replies_.empty()) {
    let_client_wait(false);
  }
  return octets;
}

}  // namespace postern::smtp_proxy
