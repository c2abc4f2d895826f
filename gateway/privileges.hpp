// What this process may do, and giving it up.
// Source:   capabilities(7), prctl(2), seccomp(2).
// Errors:   those that give up throw std::system_error: going on with more than was meant is no way out.
// Threads:  before there are any but one; capabilities belong to threads.
#pragma once

#include <initializer_list>

namespace postern::gateway {

// `capability`: CAP_NET_ADMIN and its like.
[[nodiscard]] bool has_capability(unsigned capability);

// For this process and all that it runs, for ever.
void keep_only_capabilities(std::initializer_list<unsigned> capabilities);

// A core dump, or a debugger of the same user, would have private keys and what clients said.
// LimitCORE= of the unit is not enough: it does not hold for a core_pattern with a pipe. The
// programs that are run, nft among them, are not affected.
void keep_memory_private();

// For a process that speaks TCP and reads files, and has no other business: it runs no program, signals and traces no other
// process, and opens no socket but TCP's, so that not even CAP_NET_RAW is worth anything to an intruder but
// for the addresses of its connections.
void confine_to_tcp();

}  // namespace postern::gateway
