// The mail servers that people have, for TYPED_TEST_SUITE.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

#include "tests/support/lab.hpp"

namespace postern::testing {

using RealServers = ::testing::Types<Postfix, Exim, OpenSmtpd>;

struct RealServerName {
  template <typename Server>
  static std::string GetName(int /*index*/) {
    if constexpr (std::is_same_v<Server, Postfix>) {
      return "Postfix";
    } else if constexpr (std::is_same_v<Server, Exim>) {
      return "Exim";
    } else {
      return "OpenSmtpd";
    }
  }
};

}  // namespace postern::testing
