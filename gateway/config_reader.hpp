// Reads one section of the configuration: typed values out, one diagnostic for whatever is wrong.
// Every message has the same three parts: what was found, what was expected, what to do.
// Errors:   added to the DiagnosticLog; the value asked for keeps its default.
// Lifetime: a SectionReader looks into the table that it was given, and into its log.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/config_keys.hpp"
#include "gateway/toml_document.hpp"

namespace postern::gateway {

class DiagnosticLog {
 public:
  explicit DiagnosticLog(std::string file) : file_(std::move(file)) {}

  void error(Place place, std::string key, std::string message);
  void warning(Place place, std::string key, std::string message);
  // In another file than the configuration itself, such as a domains_file.
  void add(Diagnostic diagnostic);

  [[nodiscard]] bool has_errors() const { return errors_ != 0; }
  [[nodiscard]] std::size_t error_count() const { return errors_; }
  // By place, the configuration itself first.
  [[nodiscard]] Diagnostics take_sorted();

 private:
  using Order = std::tuple<bool, std::uint32_t, std::uint32_t>;  // of another file, line, column

  std::string file_;
  std::multimap<Order, Diagnostic> diagnostics_;
  std::size_t errors_ = 0;
};

struct LocatedString {
  std::string text;
  Place place;
  std::string key;  // "mailer[0].addresses[1]"
};

template <typename Enum>
using Choices = std::span<const std::pair<std::string_view, Enum>>;
template <typename Enum, std::size_t size>
using ChoiceTable = std::array<std::pair<std::string_view, Enum>, size>;

inline constexpr std::string_view kNotYet = "not available in this version yet; remove it";

class SectionReader {
 public:
  // `section`: as in known_keys(). `path`: as in messages ("mailer[0]"). Reports at once every key
  // that is unknown.
  SectionReader(std::string_view section, std::string path, Place place, const TomlTable& table,
                DiagnosticLog& log);

  [[nodiscard]] Place place() const { return place_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] Place place_of(std::string_view name) const;  // of the value, else of the section
  [[nodiscard]] std::string path_of(std::string_view name) const;
  // nullptr: the key is absent, or was refused already.
  [[nodiscard]] const TomlValue* find(std::string_view name) const;

  void read(std::string_view name, bool& out);
  void read(std::string_view name, std::chrono::seconds& out);
  template <typename Integer>
  void read_integer(std::string_view name, std::int64_t low, std::int64_t high, Integer& out) {
    if (const auto value = integer(name, low, high)) {
      out = static_cast<Integer>(*value);
    }
  }
  template <typename Enum>
  void read_choice(std::string_view name, Choices<Enum> choices, Enum& out);
  // nullopt: absent, or reported.
  [[nodiscard]] std::optional<LocatedString> string(std::string_view name);
  // Elements that are no strings are reported and left out.
  [[nodiscard]] std::vector<LocatedString> strings(std::string_view name);
  // A text alone, or a list of them.
  [[nodiscard]] std::vector<LocatedString> string_or_strings(std::string_view name);
  // A switch of a feature that is not built yet: only false is taken.
  void read_off_switch(std::string_view name);

  void report_missing(std::string_view name);
  // "found ...; expected ...; ..." with what the table of keys says.
  void report(std::string_view name, const TomlValue& value);
  void report(std::string_view name, const TomlValue& value, std::string_view remedy);

 private:
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view name, std::int64_t low,
                                                    std::int64_t high);
  void check_key(const TomlEntry& entry);

  std::string_view section_;
  std::string path_;
  Place place_;
  const TomlTable& table_;
  DiagnosticLog& log_;
};

// "30s", "5m", "2h"; nullopt for anything else and for what is over `kLongestTime`.
inline constexpr std::chrono::seconds kLongestTime = std::chrono::hours(24);
[[nodiscard]] std::optional<std::chrono::seconds> parse_duration(std::string_view text);

[[nodiscard]] std::string found_expected(std::string_view found, std::string_view expected,
                                         std::string_view remedy);

template <typename Enum>
void SectionReader::read_choice(std::string_view name, Choices<Enum> choices, Enum& out) {
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return;
  }
  const auto* text = std::get_if<std::string>(&value->data);
  for (const auto& [word, choice] : choices) {
    if (text != nullptr && *text == word) {
      out = choice;
      return;
    }
  }
  report(name, *value);
}

}  // namespace postern::gateway
