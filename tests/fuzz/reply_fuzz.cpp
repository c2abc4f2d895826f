// A reply that was taken has one code on every line, ends in CRLF, and is the same whatever stands
// behind it; a filtered EHLO is again a reply, and shows nothing that the server did not say.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/reply.hpp"

using namespace postern::smtp_proxy;

namespace {

void check(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check_lines(std::string_view text, std::uint16_t code) {
  while (!text.empty()) {
    const std::size_t end = text.find("\r\n");
    check(end != std::string_view::npos && end >= 3);
    const std::string_view line = text.substr(0, end);
    check(line.find_first_of("\r\n") == std::string_view::npos);
    check(line.substr(0, 3) == std::to_string(code));
    text.remove_prefix(end + 2);
    const bool is_continued = line.size() > 3 && line[3] == '-';
    check(is_continued != text.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const std::string longer = input + "250 ok\r\n";
  const Reply reply = take_reply(input);
  const Reply more = take_reply(longer);
  if (reply.status == ReplyStatus::complete) {
    check(more.text == reply.text && more.code == reply.code);
    check(reply.code >= 200 && reply.code <= 599 && reply.text.size() <= kLongestReplyOctets);
    check_lines(reply.text, reply.code);
    const FilteredEhlo filtered = filter_ehlo(reply.text);
    const Reply shown = take_reply(filtered.text);
    check(shown.status == ReplyStatus::complete && shown.text == filtered.text);
    check(shown.code == reply.code && filtered.text.size() <= reply.text.size());
  } else if (reply.status == ReplyStatus::malformed) {
    check(more.status == ReplyStatus::malformed);
  }
  const std::string rendered = render_reply(postern::rules::Reason::relay_denied, input);
  check(rendered.size() <= 512 && take_reply(rendered).text == rendered);
  return 0;
}
