// Does anything answer at the mailers' port 25? Asked by `postern status`, from the router's own address.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "rules/ip.hpp"

namespace postern::gateway {

// One answer an address, in their order. All are asked at once, so that many dead ones cost no more
// time than one.
// Lifetime: `addresses` until the answer.
[[nodiscard]] boost::asio::awaitable<std::vector<bool>> accept_connections(
    std::span<const rules::IpAddress> addresses, std::uint16_t port,
    std::chrono::milliseconds patience);

}  // namespace postern::gateway
