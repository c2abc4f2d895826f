// The fixture of the tests that run `postern` as it is installed, without a daemon.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/gateway/program.hpp"
#include "tests/support/temporary_folder.hpp"

namespace postern::gateway {

class Postern : public ::testing::Test {
 protected:
  static tests::Finished postern(std::vector<std::string> arguments) {
    return tests::run({.program = POSTERN_PROGRAM, .arguments = std::move(arguments)});
  }

  tests::Finished explain(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"explain", "--config", config_});
    return postern(std::move(arguments));
  }

  postern::testing::TemporaryFolder folder_;
  std::string config_ = folder_.write("postern.toml", R"([network]
external_interfaces = ["wan0", "wan1"]
internal_networks = ["203.0.113.0/24", "2001:db8:2::/48", "10.1.0.0/16"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "2001:db8:2::25"]
domains = ["example.org", "*.example.org"]
[[mailer]]
name = "backup"
addresses = ["203.0.113.26"]
domains = ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"]
[gateway]
workers = 2
)");
};

}  // namespace postern::gateway
