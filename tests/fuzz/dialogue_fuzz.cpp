// A hostile client in front of the gullible server, or chaos from all sides: the invariants of the
// dialogue hold. The first octet chooses; tests/support/hostile_session.hpp has the rest.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/hostile_session.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::string> broken = postern::testing_support::run_input(
      std::string_view(reinterpret_cast<const char*>(data), size));
  for (const std::string& invariant : broken) {
    std::fprintf(stderr, "broken: %s\n", invariant.c_str());
  }
  if (!broken.empty()) {
    std::abort();
  }
  return 0;
}
