#include "smtp_proxy/core/conversation.hpp"

#include <iterator>

namespace postern::smtp_proxy {

std::string_view Conversation::Backlog::join(std::string_view bytes) {
  give_memory_back();
  if (empty()) {
    return bytes;
  }
  append(held_, bytes);
  return view_of(held_);
}

void Conversation::Backlog::keep(std::string_view joined, std::size_t consumed) {
  if (!held_.empty()) {
    read_ = consumed;
  } else if (consumed < joined.size()) {
    append(held_, joined.substr(consumed));
  }
}

void Conversation::Backlog::give_memory_back() {
  if (read_ != 0) {
    held_ = SecretBytes(std::next(held_.begin(), static_cast<std::ptrdiff_t>(read_)), held_.end());
    read_ = 0;
  }
}

void Conversation::give_memory_back() {
  client_.give_memory_back();
  server_.give_memory_back();
}

void Conversation::client_bytes(std::string_view bytes, Output& out) {
  resume_client(bytes, out);
}

void Conversation::server_bytes(std::string_view bytes, bool is_behind, Output& out) {
  const std::string_view joined = server_.join(bytes);
  server_.keep(joined, dialogue_.on_server(joined, is_behind, out));
  if ((!client_.empty() || client_ended_) && !out.auth_attempt) {
    resume_client({}, out);
  }
}

void Conversation::client_eof(Output& out) {
  client_ended_ = true;
  resume_client({}, out);
}

void Conversation::client_gone(Output& out) {
  client_ended_ = true;
  client_end_was_told_ = true;
  dialogue_.on_client_gone(out);
}

void Conversation::timeout(Output& out) {
  const bool is_pause = dialogue_.wait() == Wait::pause;
  dialogue_.on_timeout(out);
  if (is_pause) {
    resume_client({}, out);
  }
}

void Conversation::resume_client(std::string_view bytes, Output& out) {
  const std::string_view joined = client_.join(bytes);
  client_.keep(joined, dialogue_.on_client(joined, out));
  // What stays unread while the dialogue does read is a piece of a line that will never be whole.
  const bool has_all_been_read = client_.empty() || dialogue_.reads_client();
  if (client_ended_ && !client_end_was_told_ && has_all_been_read) {
    client_end_was_told_ = true;
    dialogue_.on_client_eof(out);
  }
}

bool Conversation::wants_client_bytes() const {
  return !client_ended_ && !dialogue_.is_securing_client() &&
         (dialogue_.reads_client() || client_.empty());
}

}  // namespace postern::smtp_proxy
