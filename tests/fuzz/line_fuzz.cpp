// A line never holds a CR or LF, and is the same whatever stands behind it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/line.hpp"

using namespace postern::smtp_proxy;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kLimit = 64;
  const std::string input(reinterpret_cast<const char*>(data), size);
  const auto check = [](bool holds) {
    if (!holds) {
      std::abort();
    }
  };
  const Line line = take_line(input, kLimit);
  const std::string longer = input + "\r\nNOOP\r\n";
  const Line more = take_line(longer, kLimit);
  check(line.status == LineStatus::need_more || more.status == line.status);
  if (line.status == LineStatus::complete) {
    check(more.text == line.text && line.consumed == line.text.size() + 2);
    check(line.consumed <= kLimit && line.text.find_first_of("\r\n") == std::string_view::npos);
    const Command command = parse_command(line.text);
    check(!command.argument.starts_with(' ') && !command.argument.ends_with(' '));
    check(command.argument.size() <= line.text.size());
  } else {
    check(line.consumed == 0 && line.text.empty());
  }
  const SkippedLine skipped = skip_line(input);
  check(skipped.consumed <= input.size());
  check(skipped.status != SkippedLine::Status::need_more || input.size() - skipped.consumed <= 1);
  return 0;
}
