// The offenders as `postern offenders` and `postern status` are told of them.
// Source:   the documents are described in docs/control-protocol.md.
// Threads:  pure.
#pragma once

#include <boost/json.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gateway/offenders.hpp"
#include "rules/ip.hpp"

namespace postern::gateway {

struct OffenderReport {
  std::vector<Offender> worst;
  std::size_t known = 0;
  std::uint64_t forgotten = 0;
  // Attempts that came too fast to be judged, whatever the kernel did with them: whose they were is not
  // known.
  std::uint64_t unjudged = 0;
  // Of the router's interfaces. Whoever lies in none of them is behind another router, and the link
  // address is that one's.
  std::vector<rules::Prefix> own_prefixes;
};

[[nodiscard]] boost::json::object to_value(const OffenderReport& report);

}  // namespace postern::gateway
