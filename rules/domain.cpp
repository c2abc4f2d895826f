#include "rules/domain.hpp"

#include <idn2.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <utility>

namespace postern::rules {
namespace {

// 255 octets on the wire are 253 characters: a length octet before each label and the root's stand
// for the dots and two more.
constexpr std::size_t kMaxName = 253;
constexpr std::size_t kMaxLabel = 63;
constexpr std::size_t kMaxUtf8PerCharacter = 4;

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// What a byte of a label becomes; 0: not allowed in one.
constexpr auto kFolded = [] {
  std::array<char, 256> folded{};
  for (unsigned char c = 'a'; c <= 'z'; ++c) {
    folded[c] = static_cast<char>(c);
    folded[c - 'a' + 'A'] = static_cast<char>(c);
  }
  for (unsigned char c = '0'; c <= '9'; ++c) {
    folded[c] = static_cast<char>(c);
  }
  folded['-'] = '-';
  folded['_'] = '_';
  return folded;
}();

// Labels are judged where they end: the dot or the end of the name.
class LabelCheck {
 public:
  [[nodiscard]] bool add(char c) {
    if (length_ == 0 && c == '-') {
      return false;
    }
    last_ = c;
    numeric_ = numeric_ && is_digit(c);
    return ++length_ <= kMaxLabel;
  }
  [[nodiscard]] bool may_end() const { return length_ > 0 && last_ != '-'; }
  [[nodiscard]] bool is_numeric() const { return numeric_; }

 private:
  std::size_t length_ = 0;
  char last_ = 0;
  bool numeric_ = true;
};

std::optional<std::string> normalise_ascii(std::string_view text) {
  if (text.ends_with('.')) {
    text.remove_suffix(1);
  }
  if (text.size() > kMaxName) {
    return std::nullopt;
  }
  std::string result;
  result.reserve(text.size());
  LabelCheck label;
  for (const char c : text) {
    if (c == '.') {
      if (!label.may_end()) {
        return std::nullopt;
      }
      label = {};
      result += c;
      continue;
    }
    result += kFolded[static_cast<unsigned char>(c)];
    if (result.back() == 0 || !label.add(c)) {
      return std::nullopt;
    }
  }
  // No top-level domain is all digits (RFC 3696 2). 'a@1.2.3.4' is neither a name nor an address
  // literal, and servers that read it as the latter would go past every rule on literals.
  if (!label.may_end() || label.is_numeric()) {
    return std::nullopt;
  }
  return result;
}

struct IdnFree {
  void operator()(void* text) const { idn2_free(text); }
};
template <typename Character>
using IdnText = std::unique_ptr<Character, IdnFree>;

// UTS 46 mapping (upper case, full-width letters and dots) and IDNA 2008 lookup rules.
std::optional<std::string> to_a_labels(const std::string& text, int processing) {
  std::uint8_t* converted = nullptr;
  const auto* octets = reinterpret_cast<const std::uint8_t*>(text.c_str());
  const int error = idn2_lookup_u8(octets, &converted, processing | IDN2_NFC_INPUT);
  const IdnText<std::uint8_t> owner(converted);
  if (error != IDN2_OK) {
    return std::nullopt;
  }
  return std::string(reinterpret_cast<const char*>(converted));
}

}  // namespace

std::optional<std::string> normalise_domain(std::string_view text) {
  if (is_ascii(text)) {
    return normalise_ascii(text);
  }
  if (text.size() > kMaxUtf8PerCharacter * kMaxName || text.contains('\0')) {
    return std::nullopt;
  }
  const auto a_labels = to_a_labels(std::string(text), IDN2_NONTRANSITIONAL);
  return a_labels ? normalise_ascii(*a_labels) : std::nullopt;
}

std::string to_u_labels(std::string_view normalised) {
  std::string a_labels(normalised);
  char* converted = nullptr;
  const int error = idn2_to_unicode_8z8z(a_labels.c_str(), &converted, 0);
  const IdnText<char> owner(converted);
  if (error != IDN2_OK) {
    return a_labels;
  }
  std::string u_labels(converted);
  if (to_a_labels(u_labels, IDN2_NONTRANSITIONAL) != a_labels ||
      to_a_labels(u_labels, IDN2_TRANSITIONAL) != a_labels) {
    return a_labels;
  }
  return u_labels;
}

namespace {

std::size_t hash_of(std::string_view text) {
  return std::hash<std::string_view>{}(text);
}

// From the end of the hash that does not choose the slot.
std::uint16_t tag_of(std::size_t hash) {
  return static_cast<std::uint16_t>(hash >> (std::numeric_limits<std::size_t>::digits - 16));
}

constexpr std::size_t kFirstSlots = 16;
constexpr std::string_view kAnySubdomain = "*.";

}  // namespace

std::string_view DomainTable::text_of(const Slot& slot) const {
  return std::string_view(text_).substr(slot.offset_plus_one - 1, slot.length);
}

// Where it is, or the free slot where it belongs. Precondition: there is a free slot.
std::size_t DomainTable::find_slot(std::string_view normalised) const {
  const std::size_t hash = hash_of(normalised);
  const std::uint16_t tag = tag_of(hash);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.offset_plus_one == 0 ||
        (slot.tag == tag && slot.length == normalised.size() && text_of(slot) == normalised)) {
      return at;
    }
  }
}

void DomainTable::grow() {
  const std::vector<Slot> old =
      std::exchange(slots_, std::vector<Slot>(slots_.empty() ? kFirstSlots : 2 * slots_.size()));
  for (const Slot& slot : old) {
    if (slot.offset_plus_one != 0) {
      slots_[find_slot(text_of(slot))] = slot;
    }
  }
}

bool DomainTable::insert(std::string_view normalised) {
  if (normalised.size() > kMaxName ||
      text_.size() + normalised.size() >= std::numeric_limits<std::uint32_t>::max()) {
    throw std::length_error("DomainTable::insert");
  }
  if (4 * (count_ + 1) > 3 * slots_.size()) {
    grow();
  }
  Slot& slot = slots_[find_slot(normalised)];
  if (slot.offset_plus_one != 0) {
    return false;
  }
  slot.offset_plus_one = static_cast<std::uint32_t>(text_.size() + 1);
  slot.length = static_cast<std::uint16_t>(normalised.size());
  slot.tag = tag_of(hash_of(normalised));
  text_ += normalised;
  ++count_;
  return true;
}

bool DomainTable::contains(std::string_view normalised) const {
  return count_ != 0 && slots_[find_slot(normalised)].offset_plus_one != 0;
}

DomainSet::Added DomainSet::add(std::string_view pattern) {
  const bool is_parent = pattern.starts_with(kAnySubdomain);
  const auto domain = normalise_domain(is_parent ? pattern.substr(kAnySubdomain.size()) : pattern);
  if (!domain) {
    return Added::malformed;
  }
  return (is_parent ? parents_ : exact_).insert(*domain) ? Added::added : Added::duplicate;
}

bool DomainSet::matches(std::string_view normalised) const {
  if (exact_.contains(normalised)) {
    return true;
  }
  if (parents_.size() == 0) {
    return false;
  }
  for (auto dot = normalised.find('.'); dot != std::string_view::npos;
       dot = normalised.find('.', dot + 1)) {
    if (parents_.contains(normalised.substr(dot + 1))) {
      return true;
    }
  }
  return false;
}

}  // namespace postern::rules
