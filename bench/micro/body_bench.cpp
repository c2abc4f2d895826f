// How fast a body is scanned, beside memchr over the same octets: over a text without line ends,
// which is as fast as octets can be looked at, and from line end to line end.
// Sizes are the worker's buffer, what one read of a fast client brings.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <string_view>

#include "smtp_proxy/core/body.hpp"

namespace {

using namespace postern::smtp_proxy;

constexpr std::size_t kOctets = 256UL * 1024;

// Words, full stops, lines of 76 columns.
std::string mail_text() {
  constexpr std::string_view kWords = "The quick brown fox jumps over the lazy dog. ";
  std::string text;
  for (std::size_t column = 0; text.size() + 2 < kOctets; ++column) {
    if (column == 76) {
      text += "\r\n";
      column = 0;
    }
    text += kWords[text.size() % kWords.size()];
  }
  return text.substr(0, kOctets - 2) + "\r\n";
}

std::string base64() {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t column = 0; text.size() + 2 < kOctets; ++column) {
    if (column == 76) {
      text += "\r\n";
      column = 0;
    }
    text += kDigits[text.size() * 37 % kDigits.size()];
  }
  return text + "\r\n";
}

// Every octet but CR and LF.
std::string binary() {
  std::string text;
  for (std::size_t i = 0; text.size() < kOctets; ++i) {
    const auto octet = static_cast<char>(i * 151 % 256);
    text += octet == '\r' || octet == '\n' ? '\0' : octet;
  }
  return text;
}

// Lines that each begin with a dot: every one is looked at octet by octet.
std::string stuffed_lines() {
  std::string text;
  while (text.size() < kOctets) {
    text += "..\r\n";
  }
  return text;
}

std::string dots() {
  return std::string(kOctets, '.');
}

std::string bare_newlines() {
  return std::string(kOctets, '\n');
}

void scan(benchmark::State& state, const std::string& text) {
  for ([[maybe_unused]] auto _ : state) {
    Output out;
    Body body;
    const Body::Progress progress = body.read(text, out);
    if (progress.ended || progress.consumed != text.size()) {
      state.SkipWithError("the body ended");
      return;
    }
    benchmark::DoNotOptimize(out.server_piece_count());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void find_every_line_end(benchmark::State& state, const std::string& text) {
  for ([[maybe_unused]] auto _ : state) {
    std::size_t lines = 0;
    const char* position = text.data();
    const char* const end = position + text.size();
    while (position != end) {
      const auto* found = static_cast<const char*>(
          std::memchr(position, '\n', static_cast<std::size_t>(end - position)));
      position = found == nullptr ? end : found + 1;
      ++lines;
    }
    benchmark::DoNotOptimize(lines);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

BENCHMARK_CAPTURE(scan, mail, mail_text())->Name("body/mail");
BENCHMARK_CAPTURE(scan, base64, base64())->Name("body/base64");
BENCHMARK_CAPTURE(scan, binary, binary())->Name("body/binary");
BENCHMARK_CAPTURE(scan, dots, dots())->Name("body/dots");
BENCHMARK_CAPTURE(scan, stuffed, stuffed_lines())->Name("body/stuffed_lines");
BENCHMARK_CAPTURE(scan, bare, bare_newlines())->Name("body/bare_newlines");
BENCHMARK_CAPTURE(find_every_line_end, mail, mail_text())->Name("memchr/mail");
BENCHMARK_CAPTURE(find_every_line_end, base64, base64())->Name("memchr/base64");
BENCHMARK_CAPTURE(find_every_line_end, binary, binary())->Name("memchr/binary");

}  // namespace
