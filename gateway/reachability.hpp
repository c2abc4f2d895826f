// Does anything answer at a mailer's port 25? Asked by `postern status`, from the router's own address.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <chrono>

#include "rules/ip.hpp"

namespace postern::gateway {

[[nodiscard]] boost::asio::awaitable<bool> accepts_connections(rules::IpAddress address,
                                                               std::uint16_t port,
                                                               std::chrono::milliseconds patience);

}  // namespace postern::gateway
