#include "gateway/blocked.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "gateway/counters.hpp"

namespace postern::gateway {

std::optional<BlockedAttempt> to_blocked_attempt(const rules::Ends& ends,
                                                 const rules::Event& event) {
  const rules::Reason reason = blocked_reason(event);
  if (reason == rules::Reason::none) {
    return std::nullopt;
  }
  BlockedAttempt attempt{.when = std::chrono::system_clock::now(),
                         .ends = ends,
                         .reason = reason,
                         .observed = was_only_observed(event)};
  std::visit(
      [&attempt](const auto& happened) {
        using T = std::decay_t<decltype(happened)>;
        if constexpr (std::is_same_v<T, rules::FlowDecided>) {
          attempt.what = "packet";
          attempt.detail = happened.decision.rule;
        } else if constexpr (std::is_same_v<T, rules::ConnectionRefused>) {
          attempt.what = "connection";
          attempt.mailer = happened.mailer;
        } else if constexpr (std::is_same_v<T, rules::RecipientDecided>) {
          attempt.what = "recipient";
          attempt.detail = happened.recipient;
          attempt.mailer = happened.mailer;
        } else if constexpr (std::is_same_v<T, rules::CommandRefused>) {
          attempt.what = "command";
          attempt.detail = happened.detail;
          attempt.mailer = happened.mailer;
        }
      },
      event);
  return attempt;
}

void BlockedLog::add(BlockedAttempt attempt) {
  const std::lock_guard lock(mutex_);
  attempts_.push_back(std::move(attempt));
  if (attempts_.size() > kKept) {
    attempts_.pop_front();
    ++first_number_;
  }
}

BlockedLog::Page BlockedLog::since(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  const std::uint64_t from = std::max(number, first_number_);
  Page page;
  page.next = first_number_ + attempts_.size();
  for (std::uint64_t n = from; n < page.next; ++n) {
    page.attempts.push_back(attempts_[n - first_number_]);
  }
  return page;
}

}  // namespace postern::gateway
