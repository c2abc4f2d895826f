#include "smtp_proxy/auth_ledger.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "rules/stranger.hpp"
#include "smtp_proxy/core/secret.hpp"

namespace postern::smtp_proxy {
namespace {

using std::chrono::seconds;

constexpr seconds kLongestBar = std::chrono::hours(24);
constexpr seconds kBarMemory = std::chrono::hours(24);  // from its end

// 1, 2, 4 ... seconds.
seconds growing_delay(std::size_t failures, seconds longest) {
  constexpr std::size_t kMostDoublings = 30;
  return std::min(longest, seconds(std::int64_t{1} << std::min(failures - 1, kMostDoublings)));
}

}  // namespace

AuthLedger::AuthLedger(const Capacity& capacity)
    : failing_sources_(capacity.sources),
      failing_users_(capacity.users),
      barred_(capacity.barred),
      places_(capacity.places) {
  if (RAND_bytes(secret_.data(), static_cast<int>(secret_.size())) != 1) {
    throw std::runtime_error("no random numbers for the ledger of authentications");
  }
}

AuthLedger::FailureVerdict AuthLedger::note_failure(const rules::IpAddress& source,
                                                    std::string_view user, const Settings& limits,
                                                    Clock::time_point now) {
  const rules::IpAddress stranger = rules::stranger_of(source);
  const auto name = key_of(user);
  const std::lock_guard lock(mutex_);
  const std::size_t of_user = name ? count_failure(failing_users_, *name, limits, now) : 0;
  if (const Bar* bar = barred_.find(stranger); bar != nullptr && now < bar->end) {
    return {.barred_for = std::chrono::ceil<seconds>(bar->end - now)};
  }
  const std::size_t of_source = count_failure(failing_sources_, stranger, limits, now);
  if (of_source >= limits.max_auth_failures_per_client &&
      !rules::stands_for_one_of(stranger, limits.expected_relays)) {
    return bar(stranger, limits, now);
  }
  return {.delay = of_user > limits.max_auth_failures_per_user
                       ? limits.longest_delay
                       : growing_delay(of_source, limits.longest_delay)};
}

template <typename Key>
std::size_t AuthLedger::count_failure(FailureTable<Key>& table, const Key& key,
                                      const Settings& limits, Clock::time_point now) {
  const auto is_over = [&](const Key&, const Failures& failures) {
    return now - failures.began >= limits.auth_failure_window;
  };
  table.erase_oldest_while(is_over);
  Failures& failures = table.touch(key);
  if (failures.count == 0 || is_over(key, failures)) {
    failures = {.count = 0, .began = now};
  }
  return ++failures.count;
}

AuthLedger::FailureVerdict AuthLedger::bar(const rules::IpAddress& stranger, const Settings& limits,
                                           Clock::time_point now) {
  failing_sources_.erase(stranger);
  barred_.erase_oldest_while(
      [&](const rules::IpAddress&, const Bar& bar) { return now >= bar.end + kBarMemory; });
  Bar& bar = barred_.touch(stranger);
  const bool is_barred_again = bar.duration > seconds(0) && now < bar.end + kBarMemory;
  const seconds doubled = is_barred_again ? std::min(2 * bar.duration, kLongestBar) : seconds(0);
  bar.duration = std::max(limits.auth_refusal_time, doubled);
  bar.end = now + bar.duration;
  return {.barred_for = bar.duration, .was_barred_now = true};
}

AuthLedger::SuccessVerdict AuthLedger::note_success(const rules::IpAddress& source,
                                                    std::string_view user, const Settings& limits,
                                                    Clock::time_point now) {
  const auto name = key_of(user);
  if (!name) {
    return {};
  }
  const Place place(*name, rules::stranger_of(source));
  const std::lock_guard lock(mutex_);
  forget_places(limits, now);
  const bool is_new = places_.find(place) == nullptr;
  places_.touch(place, [this](const Place& evicted) { forget_place(evicted); }) = now;
  Spread& spread = spread_[*name];
  spread.sources += is_new ? 1 : 0;
  const bool may_tell = !spread.told || now - *spread.told >= limits.auth_spread_window;
  const bool spread_now = spread.sources > limits.max_clients_per_user && may_tell;
  if (spread_now) {
    spread.told = now;
  }
  return {.sources = spread.sources, .spread_now = spread_now};
}

void AuthLedger::forget_places(const Settings& limits, Clock::time_point now) {
  places_.erase_oldest_while([&](const Place& place, Clock::time_point last_success) {
    const bool is_over = now - last_success >= limits.auth_spread_window;
    if (is_over) {
      forget_place(place);
    }
    return is_over;
  });
}

void AuthLedger::forget_place(const Place& place) {
  const auto found = spread_.find(place.first);
  // Not there: memory ran out between the two.
  if (found != spread_.end() && --found->second.sources == 0) {
    spread_.erase(found);
  }
}

bool AuthLedger::is_barred(const rules::IpAddress& source, Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  const Bar* bar = barred_.find(rules::stranger_of(source));
  return bar != nullptr && now < bar->end;
}

AuthLedger::Capacity AuthLedger::size() const {
  const std::lock_guard lock(mutex_);
  return {.sources = failing_sources_.size(),
          .barred = barred_.size(),
          .users = failing_users_.size(),
          .places = places_.size()};
}

std::optional<AuthLedger::UserKey> AuthLedger::key_of(std::string_view user) const {
  if (user.empty()) {
    return std::nullopt;
  }
  std::string folded(user);
  std::ranges::transform(folded, folded.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest{};
  const bool is_hashed = HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                              reinterpret_cast<const unsigned char*>(folded.data()), folded.size(),
                              digest.data(), nullptr) != nullptr;
  wipe(folded);
  if (!is_hashed) {
    return std::nullopt;  // no memory for it: as if the user were not known
  }
  UserKey key{};
  std::copy_n(digest.begin(), key.size(), key.begin());
  return key;
}

}  // namespace postern::smtp_proxy
