// Reading small files of /proc and /sys.
// Threads: any.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace postern::gateway::doctor {

// nullopt: it is not there, or may not be read.
[[nodiscard]] std::optional<std::string> read_text(const std::filesystem::path& path);
[[nodiscard]] std::optional<int> read_number(const std::filesystem::path& path);

}  // namespace postern::gateway::doctor
