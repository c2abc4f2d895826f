// A client's command lines by the book and slowly, written apart from smtp_proxy/core on purpose: whole
// strings, nothing of a stream. tests/support/replay.cpp reads a whole session with it.
// Source:   RFC 5321 2.3.8, RFC 3030 2, RFC 4954 4; docs/invariants.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace postern::testing_support {

inline constexpr std::size_t kModelLineOctets = 2048;  // with CRLF
inline constexpr std::size_t kModelAuthOctets = 12288;

enum class LineKind { unfinished, whole, bare_newline, too_long };

struct ModelLine {
  LineKind kind = LineKind::unfinished;
  std::string_view text;  // whole: without CRLF
  // Whole: with CRLF. Too long: up to what ends it, which is a CRLF (and then belongs to it), a bare newline,
  // or nothing yet.
  std::size_t length = 0;
  bool is_broken = false;  // too_long: ends in a bare newline
};

inline ModelLine read_model_line(std::string_view client, std::size_t most) {
  const std::size_t newline = client.find_first_of("\r\n");
  if (newline == std::string_view::npos) {
    const bool is_long = client.size() >= most;
    return {.kind = is_long ? LineKind::too_long : LineKind::unfinished, .length = client.size()};
  }
  const bool is_half = client[newline] == '\r' && newline + 1 == client.size();
  const bool is_crlf = client.substr(newline).starts_with("\r\n");
  if (newline + 2 > most) {
    return {.kind = LineKind::too_long,
            .length = newline + (is_crlf ? 2 : 0),
            .is_broken = !is_crlf && !is_half};
  }
  if (is_half) {
    return {};
  }
  if (!is_crlf) {
    return {.kind = LineKind::bare_newline};
  }
  return {.kind = LineKind::whole, .text = client.substr(0, newline), .length = newline + 2};
}

inline std::string upper_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return result;
}

inline std::string model_verb(std::string_view line) {
  return upper_case(line.substr(0, line.find(' ')));
}

// A command.
inline ModelLine read_model_line(std::string_view client) {
  const bool is_auth = upper_case(client.substr(0, 5)) == "AUTH ";
  return read_model_line(client, is_auth ? kModelAuthOctets : kModelLineOctets);
}

// By writing again what was read: of all ways there is one.
inline bool is_model_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string again;
  for (std::size_t start = 0; start < text.size(); start += 4) {
    const std::string_view four = text.substr(start, 4);
    const std::size_t digits = std::min(four.find('='), four.size());
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const std::size_t digit = kDigits.find(four[i]);
      if (digit == std::string_view::npos) {
        return false;
      }
      bits |= static_cast<std::uint32_t>(digit) << (18 - 6 * i);
    }
    const std::size_t octets = digits == 0 ? 0 : digits - 1;
    bits &= ~(0xffffffU >> (8 * octets));
    for (std::size_t i = 0; i < 4; ++i) {
      again += i <= octets ? kDigits[bits >> (18 - 6 * i) & 63U] : '=';
    }
    const bool is_last = start + 4 >= text.size();
    if (octets == 0 || (octets < 3 && !is_last)) {
      return false;
    }
  }
  return again == text;
}

struct ModelAuth {
  std::string_view initial;  // may be empty: there is none
};

// AUTH's whole line. nullopt: it is none that could be sent on.
inline std::optional<ModelAuth> read_model_auth(std::string_view line) {
  constexpr std::string_view kName = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  const std::size_t mechanism = line.find_first_not_of(' ', 4);
  if (mechanism == std::string_view::npos || mechanism == 4) {
    return std::nullopt;
  }
  line.remove_prefix(mechanism);
  line = line.substr(0, line.find_last_not_of(' ') + 1);
  const std::string_view name = line.substr(0, line.find(' '));
  const std::string_view initial =
      name.size() == line.size() ? std::string_view() : line.substr(name.size() + 1);
  const bool has_initial = name.size() != line.size();
  if (name.size() > 20 || upper_case(name).find_first_not_of(kName) != std::string::npos ||
      (has_initial && initial != "=" && (initial.empty() || !is_model_base64(initial)))) {
    return std::nullopt;
  }
  return ModelAuth{.initial = initial};
}

inline bool is_clean(std::string_view line) {
  return line.size() + 2 <= 512 &&
         std::ranges::all_of(line, [](char c) { return c >= ' ' && c <= '~'; });
}

inline bool is_http_method(std::string_view word) {
  constexpr std::array<std::string_view, 10> kMethods{
      "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI"};
  return std::ranges::find(kMethods, word) != kMethods.end();
}

// The largest number for all that are too large.
inline std::optional<std::uint64_t> model_number(std::string_view digits) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  std::uint64_t number = 0;
  for (const char c : digits) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    number = number > (kMost - digit) / 10 ? kMost : number * 10 + digit;
  }
  return number;
}

struct ModelChunk {
  std::uint64_t octets = 0;
  bool is_last = false;
};

// BDAT's whole line. nullopt: nobody can know how many octets follow.
inline std::optional<ModelChunk> read_model_chunk(std::string_view line) {
  std::array<std::string, 3> words;
  std::size_t count = 0;
  for (std::size_t start = 0; start < line.size();) {
    const std::size_t end = std::min(line.find(' ', start), line.size());
    if (end > start && count == words.size()) {
      return std::nullopt;
    }
    if (end > start) {
      words[count++] = line.substr(start, end - start);
    }
    start = end + 1;
  }
  const auto octets = model_number(words[1]);
  if (!octets || words[1].size() > 19 || !(words[2].empty() || upper_case(words[2]) == "LAST")) {
    return std::nullopt;
  }
  return ModelChunk{.octets = *octets, .is_last = !words[2].empty()};
}

// The value of MAIL's or RCPT's parameter, read as laxly as anybody might.
inline std::optional<std::string> parameter_of(std::string_view line, std::string_view keyword) {
  const std::string text = upper_case(line);
  const std::size_t at = text.rfind(' ' + std::string(keyword) + '=');
  if (at == std::string::npos) {
    return std::nullopt;
  }
  const std::size_t value = at + keyword.size() + 2;
  return text.substr(value, text.find(' ', value) - value);
}

}  // namespace postern::testing_support
