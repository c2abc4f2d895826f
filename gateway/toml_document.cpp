#include "gateway/toml_document.hpp"

// Errors come back as values, and the code is compiled here once instead of linked, so that the
// installed program needs no further library.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <fmt/format.h>
#include <toml++/toml.h>

#include <cstddef>
#include <utility>

namespace postern::gateway {
namespace {

Place place_of(const toml::source_region& region) {
  return {static_cast<std::uint32_t>(region.begin.line),
          static_cast<std::uint32_t>(region.begin.column)};
}

TomlValue convert(const toml::node& node);

TomlTable convert_table(const toml::table& table) {
  TomlTable out;
  out.reserve(table.size());
  for (const auto& [key, value] : table) {
    out.push_back({std::string(key.str()), place_of(key.source()), convert(value)});
  }
  return out;
}

TomlArray convert_array(const toml::array& array) {
  TomlArray out;
  out.reserve(array.size());
  for (const auto& value : array) {
    out.push_back(convert(value));
  }
  return out;
}

TomlValue convert(const toml::node& node) {
  TomlValue out{place_of(node.source()), TomlDateOrTime{}};
  if (const auto* table = node.as_table()) {
    out.data = convert_table(*table);
  } else if (const auto* array = node.as_array()) {
    out.data = convert_array(*array);
  } else if (const auto* text = node.as_string()) {
    out.data = text->get();
  } else if (const auto* integer = node.as_integer()) {
    out.data = integer->get();
  } else if (const auto* real = node.as_floating_point()) {
    out.data = real->get();
  } else if (const auto* boolean = node.as_boolean()) {
    out.data = boolean->get();
  }
  return out;
}

constexpr std::size_t kLongestQuote = 80;

struct Describer {
  std::string operator()(const std::string& text) const { return quote(text); }
  std::string operator()(std::int64_t integer) const { return std::to_string(integer); }
  std::string operator()(double real) const { return fmt::format("{}", real); }
  std::string operator()(bool boolean) const { return boolean ? "true" : "false"; }
  std::string operator()(TomlDateOrTime /*unused*/) const { return "a date or time"; }
  std::string operator()(const TomlArray& array) const {
    return array.empty() ? "an empty list" : "a list";
  }
  std::string operator()(const TomlTable& /*unused*/) const { return "a table"; }
};

}  // namespace

std::expected<TomlTable, TomlError> parse_toml(std::string_view text) {
  const toml::parse_result result = toml::parse(text);
  if (!result) {
    const auto& error = result.error();
    return std::unexpected(TomlError{place_of(error.source()), escape(error.description())});
  }
  return convert_table(result.table());
}

std::string describe(const TomlValue& value) {
  return std::visit(Describer{}, value.data);
}

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, kLongestQuote)) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return escape(out) + (text.size() > kLongestQuote ? "...\"" : "\"");
}

}  // namespace postern::gateway
