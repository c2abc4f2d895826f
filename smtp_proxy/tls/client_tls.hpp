// TLS towards a mailer.
// Source:   RFC 3207 4, RFC 6125, RFC 9325.
// Errors:   load() says in one line what is wrong and what to do.
// Threads:  ClientTls any; ClientSessions the worker's.
#pragma once

#include <openssl/types.h>

#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "rules/ip.hpp"
#include "smtp_proxy/tls/channel.hpp"

struct ssl_session_st;  // OpenSSL's SSL_SESSION, which openssl/types.h does not declare

namespace postern::smtp_proxy {

struct ClientTlsSettings {
  bool verifies = false;          // the certificate must be valid for `name`
  std::string name;               // also what SNI says; empty: no SNI
  std::filesystem::path ca_file;  // empty: the system's store
};

// What a worker remembers of its last handshakes, so that the next one is short. One a mailer's address.
class ClientSessions;

class ClientTls {
 public:
  [[nodiscard]] static std::expected<std::shared_ptr<const ClientTls>, std::string> load(
      const ClientTlsSettings& settings);
  ~ClientTls();
  ClientTls(const ClientTls&) = delete;
  ClientTls& operator=(const ClientTls&) = delete;

  // `sessions` outlives the channel.
  [[nodiscard]] TlsChannel connect(int socket, const rules::IpAddress& server,
                                   ClientSessions& sessions) const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const;
  };
  ClientTls() = default;

  std::unique_ptr<SSL_CTX, Free> context_;
  ClientTlsSettings settings_;
};

class ClientSessions {
 public:
  void keep(const rules::IpAddress& server, ssl_session_st* session);  // takes it over
  [[nodiscard]] ssl_session_st* of(const rules::IpAddress& server) const;

 private:
  struct Free {
    void operator()(ssl_session_st* session) const;
  };
  std::map<rules::IpAddress, std::unique_ptr<ssl_session_st, Free>> by_server_;
};

}  // namespace postern::smtp_proxy
