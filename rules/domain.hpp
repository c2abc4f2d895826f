// Mail domains: one normal form, and sets of them.
// Normal form: A-labels (RFC 5890), lower case, no trailing dot.
// Source:   RFC 5321 2.3.5 and 4.5.3.1.2 (255 octets), RFC 1035 2.3.4 (63 octets a label),
//           RFC 6531 3.3 (U-labels).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::rules {

// nullopt if `text` is no domain name: empty labels, over-long labels, bytes outside letters,
// digits, hyphen and underscore (seen in the wild), or U-labels that IDNA 2008 does not allow.
[[nodiscard]] std::optional<std::string> normalise_domain(std::string_view text);

// The U-label spelling of a normalised domain, if IDNA 2003 and IDNA 2008 both read it as this
// domain, else the A-labels: to a server of 2003 "faß.example" is fass.example, another domain.
[[nodiscard]] std::string to_u_labels(std::string_view normalised);

// A compact hash set of normalised domains: 8 bytes a slot and the text, so that a million cost
// tens of megabytes and a lookup one or two cache misses.
class DomainTable {
 public:
  // false if it was already there. Throws std::length_error past 4 GiB of text.
  bool insert(std::string_view normalised);
  [[nodiscard]] bool contains(std::string_view normalised) const;
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::size_t allocated_octets() const {
    return text_.capacity() + slots_.capacity() * sizeof(Slot);
  }

 private:
  struct Slot {
    std::uint32_t offset_plus_one = 0;  // into text_; 0: free
    std::uint16_t length = 0;
    std::uint16_t tag = 0;  // of the hash: spares the look at the text of most others
  };
  void grow();
  [[nodiscard]] std::string_view text_of(const Slot& slot) const;
  [[nodiscard]] std::size_t find_slot(std::string_view normalised) const;

  std::string text_;
  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

// What strangers may write to: exact domains, and "*." patterns that stand for any depth of
// subdomain (but not for the domain itself).
class DomainSet {
 public:
  enum class Added : std::uint8_t { added, duplicate, malformed };
  // `pattern`: a domain or "*." and a domain, in any case, as U- or A-labels.
  Added add(std::string_view pattern);
  // `normalised`: from normalise_domain().
  [[nodiscard]] bool matches(std::string_view normalised) const;
  [[nodiscard]] std::size_t size() const { return exact_.size() + parents_.size(); }
  [[nodiscard]] std::size_t allocated_octets() const {
    return exact_.allocated_octets() + parents_.allocated_octets();
  }

 private:
  DomainTable exact_;
  DomainTable parents_;
};

}  // namespace postern::rules
