// load sink PORT CLIENT-PREFIX
// load source MODE SERVER FIRST-CLIENT CLIENTS SESSIONS MESSAGES MESSAGES-PER-SESSION OCTETS
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "bench/load/sink.hpp"
#include "bench/load/sockets.hpp"
#include "bench/load/source.hpp"

namespace {

using namespace postern::bench;

int usage() {
  std::cerr << "usage: load sink PORT CLIENT-PREFIX\n"
               "       load source plain|pipelined|connect|idle SERVER FIRST-CLIENT CLIENTS "
               "SESSIONS MESSAGES MESSAGES-PER-SESSION OCTETS\n";
  return 2;
}

int sink(const std::vector<std::string>& arguments) {
  run_sink({.port = static_cast<std::uint16_t>(std::stoul(arguments[1])), .clients = arguments[2]});
  return 0;
}

int source(const std::vector<std::string>& arguments) {
  const std::map<std::string, Mode> modes{{"plain", Mode::plain},
                                          {"pipelined", Mode::pipelined},
                                          {"connect", Mode::connect},
                                          {"idle", Mode::idle}};
  SourceOptions options;
  options.mode = modes.at(arguments[1]);
  options.server = arguments[2];
  options.first_client = arguments[3];
  options.clients = static_cast<std::uint32_t>(std::stoul(arguments[4]));
  options.sessions = std::stoull(arguments[5]);
  options.messages = std::stoull(arguments[6]);
  options.messages_per_session = std::stoull(arguments[7]);
  options.message_octets = std::stoull(arguments[8]);
  run_source(options);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  raise_descriptor_limit();
  try {
    if (arguments.size() == 3 && arguments[0] == "sink") {
      return sink(arguments);
    }
    if (arguments.size() == 9 && arguments[0] == "source") {
      return source(arguments);
    }
  } catch (const std::exception& error) {
    std::cerr << "load: " << error.what() << '\n';
  }
  return usage();
}
