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
  chunk,
  last_chunk,
  rset,
  noop,
  quit,
  starttls,
  auth,
  securing_hello,  // what we say to make TLS with the server; the client hears none of it
  securing_starttls,
  other,  // a command passed on only because nothing is refused
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
  // For a command that takes several of ours to be answered: its place stays the first.
  void push_front(Answer answer) {
    if (first_ == 0) {
      replies_.emplace(replies_.begin());
    } else {
      --first_;
    }
    replies_[first_] = {.answer = answer, .text = {}};
  }
  [[nodiscard]] bool empty() const { return first_ == replies_.size(); }
  [[nodiscard]] std::size_t size() const { return replies_.size() - first_; }
  [[nodiscard]] const ExpectedReply& front() const { return replies_[first_]; }
  void pop() {
    std::string().swap(replies_[first_].text);
    if (++first_ == replies_.size()) {
      first_ = 0;
      replies_.clear();
      if (replies_.capacity() > kKeptCapacity) {
        std::vector<ExpectedReply>().swap(replies_);
      }
    } else if (first_ >= kMostPopped) {
      // A client that never lets the queue run empty would let it grow for ever.
      replies_.erase(replies_.begin(), replies_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
  }
  void clear() {
    first_ = 0;
    replies_.clear();
  }
  [[nodiscard]] std::size_t held_octets() const {
    std::size_t octets = replies_.capacity() * sizeof(ExpectedReply);
    for (const ExpectedReply& reply : replies_) {
      octets += reply.text.capacity();
    }
    return octets;
  }

 private:
  static constexpr std::size_t kKeptCapacity = 4;
  static constexpr std::size_t kMostPopped = 64;
  std::vector<ExpectedReply> replies_;
  std::size_t first_ = 0;
};

}  // namespace postern::smtp_proxy
