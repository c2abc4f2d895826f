// A server that says yes to everything and counts: one thread, one epoll.
// Why not:  smtp-sink reads bodies octet by octet (55 ms of CPU for 10 MiB, where a relay needs
// 11), so it would be the limit that is measured.
#pragma once

#include <cstdint>
#include <string>

namespace postern::bench {

struct SinkOptions {
  std::uint16_t port = 25;
  std::string clients;  // "198.51.100.": what a client's address must begin with
};

// Until SIGTERM; then one line of JSON on stdout.
void run_sink(const SinkOptions& options);

}  // namespace postern::bench
