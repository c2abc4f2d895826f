// The proxy's process from within: obeys the daemon over one socket until that closes.
// Errors:   what fails before it can obey ends the process; afterwards it is an answer.
// Threads:  the main one, but for what workers tell.
#pragma once

#include <sys/types.h>

#include "gateway/config.hpp"
#include "smtp_proxy/transparent.hpp"

namespace postern::gateway {

// `daemon`: who forked. Returns the exit status.
[[nodiscard]] int serve_as_proxy(smtp_proxy::FileDescriptor channel, pid_t daemon,
                                 const Config& config, const MailerIds& mailer_ids);

}  // namespace postern::gateway
