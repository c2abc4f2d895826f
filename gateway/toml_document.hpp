// A TOML text as a tree of plain values that know where they stood.
// Source:   TOML 1.0, by toml++.
// Errors:   the first syntax error, with its place; a text with one has no tree.
// Why not:  toml++'s own nodes in every file - its header costs seconds of compile time in each.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gateway/place.hpp"

namespace postern::gateway {

struct TomlValue;
struct TomlEntry;
struct TomlDateOrTime {};
using TomlArray = std::vector<TomlValue>;
using TomlTable = std::vector<TomlEntry>;

struct TomlValue {
  Place place;
  std::variant<std::string, std::int64_t, double, bool, TomlDateOrTime, TomlArray, TomlTable> data;
};

struct TomlEntry {
  std::string key;
  Place place;  // of the key
  TomlValue value;
};

struct TomlError {
  Place place;
  std::string message;
};

[[nodiscard]] std::expected<TomlTable, TomlError> parse_toml(std::string_view text);

// For "found ...": the value itself if it is short and simple, else its kind; always printable.
[[nodiscard]] std::string describe(const TomlValue& value);
// Control characters as \x1b.
[[nodiscard]] std::string escape(std::string_view text);
// In double quotes, control characters escaped, long texts cut.
[[nodiscard]] std::string quote(std::string_view text);

}  // namespace postern::gateway
