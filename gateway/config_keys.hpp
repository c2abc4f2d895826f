// Every section and key that postern.toml may hold: one list for the loader, its messages and the
// test that the manual page names them all.
// Threads: constants.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace postern::gateway {

enum class Availability : std::uint8_t {
  now,
  off_only,  // known, but only its "off" value: the feature is not built yet
  later,     // a section that is known and refused, so that nobody believes it works
};

struct SectionInfo {
  std::string_view name;
  Availability availability;
};

struct KeyInfo {
  std::string_view section;
  std::string_view name;
  Availability availability;
  std::string_view expected;  // what stands after "expected" in an error
  std::string_view remedy;    // what to do about it
};

[[nodiscard]] std::span<const SectionInfo> known_sections();
[[nodiscard]] std::span<const KeyInfo> known_keys();

[[nodiscard]] const SectionInfo* find_section(std::string_view name);
[[nodiscard]] const KeyInfo* find_key(std::string_view section, std::string_view name);

// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

// What to do about a word that is no known section or no key of `section`: names the nearest one,
// or the section where it belongs, or all that exist.
[[nodiscard]] std::string remedy_for_unknown_section(std::string_view name);
[[nodiscard]] std::string remedy_for_unknown_key(std::string_view section, std::string_view name);

}  // namespace postern::gateway
