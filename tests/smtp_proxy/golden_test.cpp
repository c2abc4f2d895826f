// Whole sessions as text, and every way to cut them. With GOLDEN_UPDATE=1 the files are rewritten;
// the test then fails once, so that nobody takes a rewritten file for a passed one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/transcript.hpp"

namespace postern::testing_support {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(POSTERN_GOLDEN_FOLDER)) {
    if (entry.path().extension() == ".smtp") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::ranges::sort(names);
  return names;
}

// relay-refused: RelayRefused
std::string test_name(const std::string& name) {
  std::string camel;
  bool is_start = true;
  for (const char c : name) {
    if (c != '-') {
      camel += is_start && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
    is_start = c == '-';
  }
  return camel;
}

std::filesystem::path path_of(const std::string& name) {
  return std::filesystem::path(POSTERN_GOLDEN_FOLDER) / (name + ".smtp");
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, SaysWhatIsWritten) {
  const std::string written = read_file(path_of(GetParam()));
  const std::string said = Transcript(written).render();
  if (said == written) {
    return;
  }
  if (std::getenv("GOLDEN_UPDATE") != nullptr) {
    std::ofstream(path_of(GetParam()), std::ios::binary) << said;
    FAIL() << path_of(GetParam()) << " was rewritten: read what changed";
  }
  EXPECT_EQ(said, written);
}

TEST_P(Golden, SaysTheSameHoweverItIsCut) {
  const Transcript transcript(read_file(path_of(GetParam())));
  const std::vector<Seen> whole = transcript.run({});
  ASSERT_EQ(transcript.run({.piece = 1}), whole) << "octet by octet";
  for (std::size_t step = 0; step < transcript.steps().size(); ++step) {
    const std::size_t size = transcript.steps()[step].bytes.size();
    const std::size_t stride = 1 + size / 1500;  // of the few very long ones not every octet
    for (std::size_t at = 1; at < size; at += stride) {
      ASSERT_EQ(transcript.run({.step = step, .at = at}), whole)
          << "step " << step << " cut at " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Smtp, Golden, testing::ValuesIn(golden_names()),
                         [](const auto& row) { return test_name(row.param); });

TEST(Transcripts, AreAllThere) {
  EXPECT_GE(golden_names().size(), 35U);
}

TEST(Transcripts, EscapeWhatTheyCanRead) {
  std::string every;
  for (int octet = 0; octet < 256; ++octet) {
    every += static_cast<char>(octet);
  }
  every += std::string(50, 'x') + std::string(50, '*') + std::string(50, '\\');
  EXPECT_EQ(unescape(escape(every)), every);
}

}  // namespace
}  // namespace postern::testing_support
