// The answers the client still waits for, in the order of its commands (RFC 2920 3.1): the
// server's, or our own. Ours are kept only while one of the server's stands before them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace postern::smtp_proxy {

enum class Answer : std::uint8_t {
  ours,
  ehlo,
  helo,
  mail,
  rcpt,
  data,
  end_of_data,
  rset,
  noop,
  quit,
};

struct ExpectedReply {
  Answer answer = Answer::ours;
  std::string text;  // ours: what to say, with CRLF
};

class ReplyQueue {
 public:
  void push(Answer answer) { replies_.push_back({.answer = answer, .text = {}}); }
  void push_ours(std::string text) {
    replies_.push_back({.answer = Answer::ours, .text = std::move(text)});
  }
  [[nodiscard]] bool empty() const { return first_ == replies_.size(); }
  [[nodiscard]] std::size_t size() const { return replies_.size() - first_; }
  [[nodiscard]] const ExpectedReply& front() const { return replies_[first_]; }
  void pop() {
    if (++first_ == replies_.size()) {
      first_ = 0;
      replies_.clear();
      if (replies_.capacity() > kKeptCapacity) {
        std::vector<ExpectedReply>().swap(replies_);
      }
    }
  }
  void clear() {
    first_ = 0;
    replies_.clear();
  }

 private:
  static constexpr std::size_t kKeptCapacity = 4;
  std::vector<ExpectedReply> replies_;
  std::size_t first_ = 0;
};

}  // namespace postern::smtp_proxy
