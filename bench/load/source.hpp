// Clients: so many sessions in parallel, so many messages in all, with a clock.
// Why not:  smtp-source has one client address, no pipelining, no clock of its own and no idle
// sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace postern::bench {

enum class Mode : std::uint8_t {
  plain,      // every command waits for its reply
  pipelined,  // MAIL, RCPT and DATA in one write
  connect,    // greeting, QUIT: a "message" is a session
  idle,       // `sessions` that stop after EHLO's reply and stay
};

struct SourceOptions {
  std::string server;
  std::uint16_t port = 25;
  std::string first_client;  // addresses are taken from here upwards, in turn
  std::uint32_t clients = 1;
  std::size_t sessions = 1;
  std::uint64_t messages = 1;
  std::uint64_t messages_per_session = 1;
  std::size_t message_octets = 4096;
  Mode mode = Mode::plain;
};

// One line of JSON on stdout. In Mode::idle: "ready" when all sessions stand, then the JSON when
// stdin ends.
void run_source(const SourceOptions& options);

}  // namespace postern::bench
