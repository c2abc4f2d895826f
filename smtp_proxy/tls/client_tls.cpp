#include "smtp_proxy/tls/client_tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "smtp_proxy/tls/failure.hpp"

namespace postern::smtp_proxy {
namespace {

using std::chrono::steady_clock;

// However often it was resumed: then the server has to show its certificate again, which may have
// expired (RFC 8446 4.6.1).
constexpr std::chrono::hours kRemembered{1};

// Where the session of a handshake is to be kept; hangs on the SSL and goes with it.
struct Remembers {
  ClientSessions& sessions;
  rules::IpAddress server;
  ClientSessions::Owner owner;
  ClientSessions::Time shown;
};

// Also where a handshake failed: the next one shall not fail by the same session.
void free_remembers(void* ssl, void* remembers, CRYPTO_EX_DATA* /*all*/, int /*index*/,
                    long /*number*/, void* /*argument*/) {
  const std::unique_ptr<Remembers> owned(static_cast<Remembers*>(remembers));
  if (owned != nullptr && SSL_is_init_finished(static_cast<SSL*>(ssl)) == 0) {
    owned->sessions.forget(owned->server);
  }
}

int remembers_index() {
  static const int kIndex = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, free_remembers);
  return kIndex;
}

// In TLS 1.3 it comes after the handshake, perhaps more than once. 1: taken over.
int on_new_session(SSL* ssl, SSL_SESSION* session) {
  auto* remembers = static_cast<Remembers*>(SSL_get_ex_data(ssl, remembers_index()));
  if (remembers == nullptr) {
    return 0;
  }
  const auto shown = SSL_session_reused(ssl) == 1 ? remembers->shown : steady_clock::now();
  remembers->sessions.keep(remembers->server, remembers->owner, shown, session);
  return 1;
}

std::expected<void, std::string> trust_file(SSL_CTX* context, const std::filesystem::path& file) {
  const auto quoted = '"' + file.string() + '"';
  errno = 0;
  if (::access(file.c_str(), R_OK) != 0) {
    return std::unexpected(quoted + " cannot be read (" + std::generic_category().message(errno) +
                           "); expected the certificates of the mailer's authorities in PEM; name "
                           "another file, or let the user that Postern runs as read this one");
  }
  if (SSL_CTX_load_verify_file(context, file.c_str()) != 1) {
    ERR_clear_error();
    return std::unexpected(quoted +
                           " holds no certificate in PEM; expected the certificates of the "
                           "mailer's authorities; name another file");
  }
  // Whatever the file names is trusted, also if it is no root but the mailer's certificate itself.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  return {};
}

std::expected<void, std::string> trust(SSL_CTX* context, const ClientTlsSettings& settings) {
  if (settings.name.empty()) {  // which OpenSSL would take for any
    return std::unexpected("no name to verify; expected the name in the mailer's certificate");
  }
  if (!settings.ca_file.empty()) {
    return trust_file(context, settings.ca_file);
  }
  if (SSL_CTX_set_default_verify_paths(context) != 1) {
    return std::unexpected("the system's certificates cannot be loaded (" + take_openssl_error() +
                           "); expected them in " + X509_get_default_cert_dir() +
                           "; install ca-certificates, or name a file of authorities");
  }
  return {};
}

bool is_address(const std::string& name) {
  return rules::IpAddress::parse(name).has_value();
}

}  // namespace

std::expected<std::shared_ptr<const ClientTls>, std::string> ClientTls::load(
    const ClientTlsSettings& settings) {
  ContextPointer context = make_recommended_context(TlsRole::client);
  if (settings.verifies) {
    if (auto trusted = trust(context.get(), settings); !trusted) {
      return std::unexpected(std::move(trusted.error()));
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context.get(), on_new_session);
  return std::shared_ptr<const ClientTls>(new ClientTls(std::move(context), settings));
}

ClientTls::ClientTls(ContextPointer context, ClientTlsSettings settings)
    : context_(std::move(context)), settings_(std::move(settings)) {}

TlsChannel ClientTls::connect(int socket, const rules::IpAddress& server,
                              ClientSessions& sessions) const {
  SSL* ssl = SSL_new(context_.get());
  if (ssl == nullptr) {
    throw std::bad_alloc();
  }
  TlsChannel channel(ssl, socket);
  SSL_set_connect_state(ssl);
  if (!settings_.name.empty() && !is_address(settings_.name)) {
    // What SSL_set_tlsext_host_name() does, but for its cast. The name is copied.
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
             const_cast<char*>(settings_.name.c_str()));
  }
  if (settings_.verifies) {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl, settings_.name.c_str()) != 1) {
      throw std::bad_alloc();
    }
  }
  const ClientSessions::Remembered last = sessions.of(server, weak_from_this());
  if (last.session != nullptr) {
    // A copy, because OpenSSL uses one up with each handshake (RFC 8446 C.4, for clients that move
    // about), and several may be under way.
    const std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> copy(
        SSL_SESSION_dup(last.session), SSL_SESSION_free);
    SSL_set_session(ssl, copy.get());
  }
  auto remembers = std::make_unique<Remembers>(sessions, server, weak_from_this(), last.shown);
  if (SSL_set_ex_data(ssl, remembers_index(), remembers.get()) == 1) {
    [[maybe_unused]] const Remembers* taken_over = remembers.release();
  }
  return channel;
}

void ClientSessions::Free::operator()(ssl_session_st* session) const {
  SSL_SESSION_free(session);
}

void ClientSessions::keep(const rules::IpAddress& server, Owner owner, Time shown,
                          ssl_session_st* session) {
  by_server_[server] = {.owner = std::move(owner),
                        .shown = shown,
                        .session = std::unique_ptr<ssl_session_st, Free>(session)};
}

void ClientSessions::forget(const rules::IpAddress& server) {
  by_server_.erase(server);
}

ClientSessions::Remembered ClientSessions::of(const rules::IpAddress& server, const Owner& owner) {
  const auto found = by_server_.find(server);
  if (found == by_server_.end()) {
    return {};
  }
  const Entry& last = found->second;
  const bool is_same_owner = !last.owner.owner_before(owner) && !owner.owner_before(last.owner);
  if (!is_same_owner || steady_clock::now() - last.shown > kRemembered ||
      SSL_SESSION_is_resumable(last.session.get()) != 1) {
    by_server_.erase(found);
    return {};
  }
  return {.session = last.session.get(), .shown = last.shown};
}

}  // namespace postern::smtp_proxy
