// Walks the attributes of a netlink message.
// Why not:  libmnl's mnl_attr_for_each is a macro that only C compiles.
#pragma once

#include <libmnl/libmnl.h>

#include <cstddef>

namespace postern::nfq {

// `header_octets`: of the family's own header that stands before the attributes. The message has to
// be at least that long; attributes that run past its end are left out.
template <typename Function>
void for_each_attribute(const nlmsghdr* message, std::size_t header_octets, Function&& function) {
  const auto* at = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(message, header_octets));
  // Not libmnl's tail, which rounds the length up: up to three octets that nobody sent.
  const auto* end = reinterpret_cast<const char*>(message) + message->nlmsg_len;
  const auto left = [&] { return static_cast<int>(end - reinterpret_cast<const char*>(at)); };
  for (; mnl_attr_ok(at, left()); at = mnl_attr_next(at)) {
    function(at);
  }
}

// The attributes inside an attribute.
template <typename Function>
void for_each_nested(const nlattr* nest, Function&& function) {
  const auto* at = static_cast<const nlattr*>(mnl_attr_get_payload(nest));
  const auto* end = reinterpret_cast<const char*>(at) + mnl_attr_get_payload_len(nest);
  const auto left = [&] { return static_cast<int>(end - reinterpret_cast<const char*>(at)); };
  for (; mnl_attr_ok(at, left()); at = mnl_attr_next(at)) {
    function(at);
  }
}

}  // namespace postern::nfq
