#include "gateway/control_socket_path.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include "gateway/config_parts.hpp"
#include "gateway/toml_document.hpp"

namespace postern::gateway {
namespace {

const TomlValue* find(const TomlTable& table, std::string_view key) {
  const auto entry = std::ranges::find(table, key, &TomlEntry::key);
  return entry == table.end() ? nullptr : &entry->value;
}

}  // namespace

std::optional<std::filesystem::path> control_socket_path(const std::filesystem::path& config_file) {
  const auto text = read_whole_file(config_file);
  if (!text) {
    return std::nullopt;
  }
  const auto root = parse_toml(*text);
  const TomlValue* section = root ? find(*root, "gateway") : nullptr;
  const auto* table = section == nullptr ? nullptr : std::get_if<TomlTable>(&section->data);
  const TomlValue* value = table == nullptr ? nullptr : find(*table, "control_socket");
  const auto* path = value == nullptr ? nullptr : std::get_if<std::string>(&value->data);
  return path == nullptr ? std::nullopt : std::optional<std::filesystem::path>(*path);
}

}  // namespace postern::gateway
