// Runs a program of the system's to its end: no shell, nothing inherited but the network namespace.
// Errors:   text that names the program and carries what it wrote to stderr.
// Threads:  any. Blocks until the program ends, at most kCommandTimeout.
#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace postern::nfq {

inline constexpr std::chrono::seconds kCommandTimeout{10};

// `arguments[0]` is looked for in the system's folders for programs, not in $PATH. Returns what the
// program wrote to stdout; an exit code other than 0 is an error.
[[nodiscard]] std::expected<std::string, std::string> run_command(
    const std::vector<std::string>& arguments, std::string_view input = {});

}  // namespace postern::nfq
