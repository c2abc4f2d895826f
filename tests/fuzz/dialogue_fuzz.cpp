// A hostile client in front of the gullible server, or chaos from all sides: the invariants of the
// dialogue hold. The first octet chooses; tests/support/hostile_session.hpp has the rest.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/hostile_session.hpp"

namespace {

using namespace postern::testing_support;

std::vector<std::string> run(std::string_view input) {
  const bool is_chaos = input[0] % 2 != 0;
  if (is_chaos) {
    const std::uint8_t flags = input.size() > 1 ? static_cast<std::uint8_t>(input[1]) : 0;
    return run_chaos(setup_from(flags), input.substr(std::min<std::size_t>(2, input.size())));
  }
  return run_hostile(plan_from(input.substr(1))).broken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::vector<std::string> broken =
      run(std::string_view(reinterpret_cast<const char*>(data), size));
  for (const std::string& invariant : broken) {
    std::fprintf(stderr, "broken: %s\n", invariant.c_str());
  }
  if (!broken.empty()) {
    std::abort();
  }
  return 0;
}
