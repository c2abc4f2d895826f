// TLS towards a mailer.
// Source:   RFC 3207 4, RFC 6125, RFC 9325.
// Errors:   load() says in one line what is wrong and what to do.
// Threads:  ClientTls any; ClientSessions the worker's.
#pragma once

#include <openssl/types.h>

#include <chrono>
#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "rules/ip.hpp"
#include "smtp_proxy/tls/channel.hpp"
#include "smtp_proxy/tls/recommended.hpp"

struct ssl_session_st;  // OpenSSL's SSL_SESSION, which openssl/types.h does not declare

namespace postern::smtp_proxy {

struct ClientTlsSettings {
  bool verifies = false;          // the certificate must be valid for `name`
  std::string name;               // a host name or an address; a host name is also what SNI says
  std::filesystem::path ca_file;  // empty: the system's store
};

// What a worker remembers of its last handshakes, so that the next one is short. One a mailer's address.
class ClientSessions;

class ClientTls : public std::enable_shared_from_this<ClientTls> {
 public:
  [[nodiscard]] static std::expected<std::shared_ptr<const ClientTls>, std::string> load(
      const ClientTlsSettings& settings);
  ClientTls(const ClientTls&) = delete;
  ClientTls& operator=(const ClientTls&) = delete;

  // `sessions` outlives the channel. Throws std::bad_alloc.
  [[nodiscard]] TlsChannel connect(int socket, const rules::IpAddress& server,
                                   ClientSessions& sessions) const;

 private:
  ClientTls(ContextPointer context, ClientTlsSettings settings);

  ContextPointer context_;
  ClientTlsSettings settings_;
};

class ClientSessions {
 public:
  using Owner = std::weak_ptr<const ClientTls>;
  using Time = std::chrono::steady_clock::time_point;

  // Takes the session over. `shown`: when the server last showed its certificate.
  void keep(const rules::IpAddress& server, Owner owner, Time shown, ssl_session_st* session);
  void forget(const rules::IpAddress& server);
  // nullptr when there is none, it is too old, or it was made under other settings: those may have
  // accepted a certificate that these would not, and a resumed handshake shows none.
  struct Remembered {
    ssl_session_st* session;
    Time shown;
  };
  [[nodiscard]] Remembered of(const rules::IpAddress& server, const Owner& owner);

 private:
  struct Free {
    void operator()(ssl_session_st* session) const;
  };
  struct Entry {
    Owner owner;
    Time shown;
    std::unique_ptr<ssl_session_st, Free> session;
  };
  std::map<rules::IpAddress, Entry> by_server_;
};

}  // namespace postern::smtp_proxy
