#include "smtp_proxy/core/chunk.hpp"

#include <charconv>
#include <system_error>

#include "smtp_proxy/core/command.hpp"

namespace postern::smtp_proxy {
namespace {

// 19 digits always fit, and are more than any message.
constexpr std::size_t kMostDigits = 19;

}  // namespace

std::optional<Chunk> parse_chunk(std::string_view argument) {
  const std::size_t space = argument.find(' ');
  const std::string_view digits = argument.substr(0, space);
  Chunk chunk;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), chunk.octets);
  if (digits.size() > kMostDigits || error != std::errc{} || end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  if (space != std::string_view::npos) {
    const std::string_view last = argument.substr(argument.find_first_not_of(' ', space));
    if (!equals_ignoring_case(last, "LAST")) {
      return std::nullopt;
    }
    chunk.is_last = true;
  }
  return chunk;
}

}  // namespace postern::smtp_proxy
