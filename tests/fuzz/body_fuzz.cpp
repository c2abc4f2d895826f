// What leaves of a body: the strict reader decodes it to what the client meant, newlines made CRLF;
// the lax reader sees no end in it; a body without bare newlines leaves as it came. The first octet
// is the size of the pieces.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "smtp_proxy/core/body.hpp"
#include "tests/support/body_model.hpp"

using namespace postern::smtp_proxy;
using namespace postern::testing_support;

namespace {

void check(bool holds) {
  if (!holds) {
    std::abort();
  }
}

struct Passed {
  std::string text;
  std::size_t consumed = 0;
  bool ended = false;
  bool saw_bare_newline = false;
};

Passed pass(std::string_view input, std::size_t piece, BareNewline mode) {
  Body body(mode);
  Passed passed;
  while (passed.consumed < input.size() && !passed.ended) {
    const std::string part(input.substr(passed.consumed, piece));
    Output out;
    const Body::Progress progress = body.read(part, out);
    for (std::size_t i = 0; i < out.server_piece_count(); ++i) {
      passed.text += out.server_piece(i);
    }
    check(progress.ended || progress.consumed == part.size());
    passed.consumed += progress.consumed;
    passed.ended = progress.ended;
  }
  passed.saw_bare_newline = body.saw_bare_newline();
  return passed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string input(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t piece = data[0] == 0 ? input.size() + 1 : data[0];
  const Passed passed = pass(input, piece, BareNewline::normalize);
  const Passed rejected = pass(input, piece, BareNewline::reject);
  const auto model = take_strict_body(input);
  check(passed.ended == model.has_value());
  check(rejected.ended == passed.ended && rejected.consumed == passed.consumed);
  check(lax_ends(passed.text).empty());
  check(rejected.saw_bare_newline ? passed.text.starts_with(rejected.text)
                                  : rejected.text == passed.text);
  if (!model) {
    return 0;
  }
  check(passed.consumed == model->consumed);
  check(passed.saw_bare_newline == has_bare_newline(model->text));
  check(unstuff_strictly(passed.text) == normalise(unstuff_strictly(model->text)));
  check(passed.saw_bare_newline || passed.text == model->text);
  check(lax_ends(passed.text + ".\r\n").size() == 1);
  return 0;
}
