// What is written of an EHLO reply, of parameters and of a chunk's size reads back as the same; it never
// grows beyond what it was made of, nor beyond the limits. The first two octets choose what was offered.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "smtp_proxy/core/chunk.hpp"
#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/line.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "tests/support/command_model.hpp"

namespace {

using namespace postern::smtp_proxy;
using namespace postern::testing_support;

void check(bool holds) {
  if (!holds) {
    std::abort();
  }
}

Extensions offered_by(std::uint32_t bits) {
  Extensions offered;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Extension::count_); ++i) {
    if ((bits >> i & 1U) != 0) {
      offered.add(static_cast<Extension>(i));
    }
  }
  return offered;
}

void check_ehlo(std::string_view text) {
  const Reply reply = take_reply(text);
  if (reply.status != ReplyStatus::complete) {
    return;
  }
  const FilteredEhlo filtered = filter_ehlo(reply.text);
  check(filtered.text.size() <= reply.text.size());
  const FilteredEhlo again = filter_ehlo(filtered.text);
  check(again.text == filtered.text && again.offered == filtered.offered);
  check(again.size_limit == filtered.size_limit);
  check(!filtered.offered.has(Extension::binarymime) || filtered.offered.has(Extension::chunking));
}

void check_parameters(EnvelopeCommand command, std::string_view rest, const Extensions& offered) {
  const auto parameters = parse_parameters(command, rest, offered);
  if (!parameters) {
    return;
  }
  check(parameters->text.size() <= rest.size() + 1);  // a space before the first
  check(parameters->text.find_first_of("\r\n") == std::string::npos || has_control_character(rest));
  const auto again = parse_parameters(command, parameters->text, offered);
  check(again && again->text == parameters->text && again->smtputf8 == parameters->smtputf8);
  check(again->is_binary == parameters->is_binary && again->octets == parameters->octets);
  // What the server did not offer, it is not told.
  check(!parameters->smtputf8 || offered.has(Extension::smtputf8));
  check(!parameters->is_binary || offered.has(Extension::binarymime));
  check(parameters->octets == 0 || offered.has(Extension::size));
  if (const auto size = parameter_of(parameters->text, "SIZE");
      size && command == EnvelopeCommand::mail) {
    check(parameters->octets == model_number(*size));
  }
}

void check_chunk(std::string_view line) {
  const Command command = parse_command(line);
  if (command.spec.verb != Verb::bdat || !is_clean(line)) {
    return;
  }
  const auto chunk = parse_chunk(command.argument);
  const auto model = read_model_chunk(line);
  check(chunk.has_value() == model.has_value());
  check(!chunk || (chunk->octets == model->octets && chunk->is_last == model->is_last));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string text(reinterpret_cast<const char*>(data + 2), size - 2);
  const Extensions offered = offered_by(data[0] | static_cast<std::uint32_t>(data[1]) << 8U);
  check_ehlo(text);
  check_chunk("BDAT " + text);
  check_chunk(text);
  if (text.size() <= kLongestCommandOctets) {
    check_parameters(EnvelopeCommand::mail, text, offered);
    check_parameters(EnvelopeCommand::rcpt, text, offered);
  }
  return 0;
}
