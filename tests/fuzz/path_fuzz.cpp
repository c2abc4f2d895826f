// Paths from arbitrary bytes: what is printed reads back as the same, and holds nothing that could
// end a line or a path early.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "rules/path.hpp"

namespace postern::rules {
namespace {

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "violated: %s\n", what);
    std::abort();
  }
}

void require_printable(std::string_view printed, bool allow_utf8) {
  for (const char c : printed) {
    const auto octet = static_cast<unsigned char>(c);
    require(octet >= ' ' && octet != 0x7f, "no control characters are printed");
    require(octet < 0x80 || allow_utf8, "no 8-bit characters without SMTPUTF8");
  }
}

void require_right_rest(std::string_view text, std::string_view rest) {
  require(text.ends_with(rest) && rest.size() < text.size(), "the rest is the end of the input");
  require(rest.empty() || rest.front() == ' ', "the rest starts with a space");
}

void require_consistent(const Mailbox& mailbox) {
  require(mailbox.local_part.size() <= 256 && mailbox.domain.size() <= 255, "lengths are bounded");
  require((mailbox.domain_form == DomainForm::name) == !mailbox.normalised_domain.empty(),
          "names and only names are normalised");
  require(!mailbox.has_quoted_at_sign || mailbox.local_part_is_quoted,
          "an at sign is in a local part only when quoted");
  require(mailbox.local_part_is_quoted || !mailbox.local_part.contains('@'),
          "an atom has no at sign");
}

template <typename Parse>
void check(Parse parse, std::string_view text, bool allow_utf8) {
  const auto parsed = parse(text, allow_utf8);
  if (!parsed) {
    return;
  }
  require_right_rest(text, parsed->rest);
  const std::string printed = parsed->path.to_string();
  require_printable(printed, allow_utf8);
  const auto again = parse(printed, allow_utf8);
  require(again.has_value(), "what is printed can be read");
  auto expected = parsed->path;
  expected.has_source_route = false;
  require(again->path == expected, "what is printed reads back as the same");
  require(again->rest.empty(), "what is printed is one path");
}

void check_both(std::string_view text, bool allow_utf8) {
  check(parse_forward_path, text, allow_utf8);
  check(parse_reverse_path, text, allow_utf8);
  if (const auto parsed = parse_forward_path(text, allow_utf8)) {
    require_consistent(parsed->path.mailbox);
  }
}

// SMTPUTF8 only ever adds: what is taken without it is taken with it, as the same.
void check_utf8_only_adds(std::string_view text) {
  const auto without = parse_forward_path(text, false);
  const auto with = parse_forward_path(text, true);
  if (without) {
    require(with && with->path == without->path, "SMTPUTF8 changes nothing of ASCII");
  } else {
    require((without.error() == PathError::needs_smtputf8) == with.has_value(),
            "needs_smtputf8 is said exactly where SMTPUTF8 would help");
  }
}

}  // namespace
}  // namespace postern::rules

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  postern::rules::check_both(text, false);
  postern::rules::check_both(text, true);
  postern::rules::check_utf8_only_adds(text);
  return 0;
}
