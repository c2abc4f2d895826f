#include "gateway/doctor/proc_files.hpp"

#include <fstream>
#include <sstream>

namespace postern::gateway::doctor {

std::optional<std::string> read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) {
    return std::nullopt;
  }
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

std::optional<int> read_number(const std::filesystem::path& path) {
  std::ifstream file(path);
  int number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

}  // namespace postern::gateway::doctor
