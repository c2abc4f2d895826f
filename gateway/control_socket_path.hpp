// Where posternd listens, for programs that only want to talk to it: the one key, read from a
// configuration without judging the rest.
#pragma once

#include <filesystem>
#include <optional>

namespace postern::gateway {

// nullopt: the file cannot be read, or does not say.
[[nodiscard]] std::optional<std::filesystem::path> control_socket_path(
    const std::filesystem::path& config_file);

}  // namespace postern::gateway
