#include "gateway/config_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace postern::gateway {

void DiagnosticLog::error(Place place, std::string key, std::string message) {
  add({Severity::error, file_, place.line, place.column, std::move(key), std::move(message)});
}

void DiagnosticLog::warning(Place place, std::string key, std::string message) {
  add({Severity::warning, file_, place.line, place.column, std::move(key), std::move(message)});
}

void DiagnosticLog::add(Diagnostic diagnostic) {
  if (diagnostic.severity == Severity::error) {
    ++errors_;
  }
  // Other files keep the order they were read in: equal keys stay in the order of their insertion.
  const Order order = diagnostic.file == file_ ? Order{false, diagnostic.line, diagnostic.column}
                                               : Order{true, 0, 0};
  diagnostics_.emplace(order, std::move(diagnostic));
}

Diagnostics DiagnosticLog::take_sorted() {
  Diagnostics out;
  out.reserve(diagnostics_.size());
  for (auto& [order, diagnostic] : diagnostics_) {
    out.push_back(std::move(diagnostic));
  }
  diagnostics_.clear();
  errors_ = 0;
  return out;
}

std::string found_expected(std::string_view found, std::string_view expected,
                           std::string_view remedy) {
  return fmt::format("found {}; expected {}; {}", found, expected, remedy);
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  std::uint32_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end + 1 != text.data() + text.size()) {
    return std::nullopt;
  }
  const char unit = *end;
  if (unit != 's' && unit != 'm' && unit != 'h') {
    return std::nullopt;
  }
  const std::uint64_t scale = unit == 's' ? 1 : unit == 'm' ? 60 : 3600;
  const std::chrono::seconds time{scale * count};
  return time >= std::chrono::seconds(1) && time <= kLongestTime ? std::optional(time)
                                                                 : std::nullopt;
}

SectionReader::SectionReader(std::string_view section, std::string path, Place place,
                             const TomlTable& table, DiagnosticLog& log)
    : section_(section), path_(std::move(path)), place_(place), table_(table), log_(log) {
  for (const TomlEntry& entry : table_) {
    check_key(entry);
  }
}

void SectionReader::check_key(const TomlEntry& entry) {
  if (find_key(section_, entry.key) == nullptr) {
    log_.error(entry.place, path_of(entry.key),
               fmt::format("unknown key; {}", remedy_for_unknown_key(section_, entry.key)));
  }
}

const TomlValue* SectionReader::find(std::string_view name) const {
  const auto entry = std::ranges::find(table_, name, &TomlEntry::key);
  return entry == table_.end() ? nullptr : &entry->value;
}

Place SectionReader::place_of(std::string_view name) const {
  const TomlValue* value = find(name);
  return value == nullptr ? place_ : value->place;
}

std::string SectionReader::path_of(std::string_view name) const {
  const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  return fmt::format("{}.{}", path_, plain ? std::string(name) : quote(name));
}

void SectionReader::read(std::string_view name, bool& out) {
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return;
  }
  if (const bool* boolean = std::get_if<bool>(&value->data)) {
    out = *boolean;
  } else {
    report(name, *value);
  }
}

void SectionReader::read(std::string_view name, std::chrono::seconds& out) {
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return;
  }
  if (const auto* text = std::get_if<std::string>(&value->data)) {
    if (const auto time = parse_duration(*text)) {
      out = *time;
      return;
    }
  } else if (const auto* count = std::get_if<std::int64_t>(&value->data)) {
    if (*count >= 1 && *count <= kLongestTime.count()) {
      out = std::chrono::seconds(*count);
      return;
    }
  }
  report(name, *value);
}

std::optional<std::int64_t> SectionReader::integer(std::string_view name, std::int64_t low,
                                                   std::int64_t high) {
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  const auto* number = std::get_if<std::int64_t>(&value->data);
  if (number == nullptr || *number < low || *number > high) {
    report(name, *value);
    return std::nullopt;
  }
  return *number;
}

std::optional<LocatedString> SectionReader::string(std::string_view name) {
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (const auto* text = std::get_if<std::string>(&value->data)) {
    return LocatedString{*text, value->place, path_of(name)};
  }
  report(name, *value);
  return std::nullopt;
}

std::vector<LocatedString> SectionReader::strings(std::string_view name) {
  std::vector<LocatedString> out;
  const TomlValue* value = find(name);
  if (value == nullptr) {
    return out;
  }
  const auto* array = std::get_if<TomlArray>(&value->data);
  if (array == nullptr) {
    const bool is_text = std::holds_alternative<std::string>(value->data);
    report(name, *value,
           is_text ? fmt::format("put it in brackets: [{}]", describe(*value))
                   : std::string(find_key(section_, name)->remedy));
    return out;
  }
  out.reserve(array->size());
  for (std::size_t i = 0; i < array->size(); ++i) {
    const TomlValue& element = (*array)[i];
    std::string path = fmt::format("{}[{}]", path_of(name), i);
    if (const auto* text = std::get_if<std::string>(&element.data)) {
      out.push_back({*text, element.place, std::move(path)});
    } else {
      log_.error(element.place, std::move(path),
                 found_expected(describe(element), "a text in double quotes", "correct it"));
    }
  }
  return out;
}

std::vector<LocatedString> SectionReader::string_or_strings(std::string_view name) {
  const TomlValue* value = find(name);
  if (value != nullptr && std::holds_alternative<std::string>(value->data)) {
    return {*string(name)};
  }
  return strings(name);
}

void SectionReader::read_off_switch(std::string_view name) {
  bool is_on = false;
  read(name, is_on);
  if (is_on) {
    log_.error(place_of(name), path_of(name), fmt::format("found true; {}", kNotYet));
  }
}

void SectionReader::report_missing(std::string_view name) {
  const KeyInfo* info = find_key(section_, name);
  log_.error(place_, path_of(name),
             fmt::format("missing; expected {}; {}", info->expected, info->remedy));
}

void SectionReader::report(std::string_view name, const TomlValue& value) {
  report(name, value, find_key(section_, name)->remedy);
}

void SectionReader::report(std::string_view name, const TomlValue& value, std::string_view remedy) {
  log_.error(value.place, path_of(name),
             found_expected(describe(value), find_key(section_, name)->expected, remedy));
}

}  // namespace postern::gateway
