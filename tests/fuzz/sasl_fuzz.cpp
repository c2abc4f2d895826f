// An AUTH exchange takes base64, "*" and "=" in their places and nothing else, whatever a line says; its
// user comes of the first response and stays. One line of the input is one line of the client.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "smtp_proxy/core/sasl.hpp"

namespace {

using namespace postern::smtp_proxy;

void check(bool holds) {
  if (!holds) {
    std::abort();
  }
}

bool has_the_looks_of_base64(std::string_view text) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t padding = text.size() - std::min(text.find('='), text.size());
  const std::string_view digits = text.substr(0, text.size() - padding);
  return text.size() % 4 == 0 && padding <= 2 &&
         digits.find_first_not_of(kAlphabet) == std::string_view::npos &&
         text.find_first_not_of('=', digits.size()) == std::string_view::npos;
}

bool is_mechanism(std::string_view text) {
  return !text.empty() && text.size() <= 20 &&
         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == std::string_view::npos;
}

std::string_view take_line(std::string_view& input) {
  const std::string_view line = input.substr(0, input.find('\n'));
  input.remove_prefix(std::min(line.size() + 1, input.size()));
  return line;
}

void check_exchange(SaslExchange exchange, bool has_responded, std::string_view input) {
  while (!input.empty()) {
    const std::string user_before = exchange.user();
    const std::string_view line = take_line(input);
    const SaslExchange::Response response = exchange.on_response(line);
    check((response == SaslExchange::Response::cancelled) == (line == "*"));
    check(response != SaslExchange::Response::sent || has_the_looks_of_base64(line));
    check(exchange.user().size() <= kLongestUserOctets);
    if (response != SaslExchange::Response::sent || has_responded) {
      check(exchange.user() == user_before);
    }
    has_responded |= response == SaslExchange::Response::sent;
  }
}

void check_mechanisms(std::string_view parameters) {
  const std::string shown = relayable_mechanisms(parameters);
  check(shown.size() <= parameters.size() + 1);
  check(relayable_mechanisms(shown) == shown);
  for (std::string_view rest = shown; !rest.empty();) {
    check(rest.starts_with(' '));
    const std::string_view word = rest.substr(1, rest.find(' ', 1) - 1);
    check(is_mechanism(word) && word != "EXTERNAL" && !word.ends_with("-PLUS"));
    rest.remove_prefix(word.size() + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check_mechanisms(text);
  std::string_view input = text;
  const std::string_view argument = take_line(input);
  const auto exchange = SaslExchange::begin(argument);
  if (!exchange) {
    return 0;
  }
  check(is_mechanism(exchange->mechanism()));
  const bool has_initial = argument.size() > exchange->mechanism().size();
  if (has_initial) {
    const std::string_view initial = argument.substr(exchange->mechanism().size() + 1);
    check(initial == "=" || (!initial.empty() && has_the_looks_of_base64(initial)));
  }
  check_exchange(*exchange, has_initial, input);
  return 0;
}
