#include "smtp_proxy/tls/server_tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "smtp_proxy/tls/failure.hpp"
#include "smtp_proxy/tls/ticket_keys.hpp"

namespace postern::smtp_proxy {
namespace {

// Half as long as the key of its ticket may be used (RFC 9325 3.4).
constexpr std::chrono::seconds kTicketLifetime = TicketKeys::kPeriod;
constexpr unsigned char kSessionContext[] = "postern";

// The certificates for one set of names.
struct Group {
  std::vector<std::string> names;
  SSL_CTX* context;
  ContextPointer owned;  // nullptr for the first group
  std::vector<std::size_t> pairs;
};

// What the names of one mailer share. Hangs on the first context, which every connection holds, and goes with it.
struct Shared {
  TicketKeys ticket_keys;
  std::vector<Group> groups;
};

void free_shared(void* /*context*/, void* shared, CRYPTO_EX_DATA* /*all*/, int /*index*/,
                 long /*number*/, void* /*argument*/) {
  const std::unique_ptr<Shared> owned(static_cast<Shared*>(shared));
}

int shared_index() {
  static const int kIndex = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free_shared);
  return kIndex;
}

SSL_CTX* context_for(const Shared& shared, std::string_view name,
                     bool (*matches)(std::string_view, std::string_view)) {
  for (const Group& group : shared.groups) {
    if (std::ranges::any_of(group.names,
                            [&](const std::string& own) { return matches(own, name); })) {
      return group.context;
    }
  }
  return nullptr;
}

// A name of nobody gets the first certificates: most senders do not verify, and the others refuse by themselves.
int choose_by_name(SSL* ssl, int* /*alert*/, void* shared) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  const auto matches_exactly = [](std::string_view own, std::string_view wanted) {
    return !own.starts_with('*') && matches_name(own, wanted);
  };
  const auto& all = *static_cast<const Shared*>(shared);
  SSL_CTX* chosen = context_for(all, name, matches_exactly);
  if (chosen == nullptr) {
    chosen = context_for(all, name, matches_name);
  }
  if (chosen == nullptr) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  return SSL_set_SSL_CTX(ssl, chosen) != nullptr ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

ContextPointer make_server_context(TicketKeys& keys) {
  ContextPointer context = make_recommended_context(TlsRole::server);
  SSL_CTX_set_timeout(context.get(), static_cast<long>(kTicketLifetime.count()));
  SSL_CTX_set_num_tickets(context.get(), 1);
  SSL_CTX_set_session_id_context(context.get(), kSessionContext, sizeof kSessionContext);
  use_ticket_keys(context.get(), keys);
  return context;
}

bool put_certificate(SSL_CTX* context, const Certificate& certificate) {
  ERR_clear_error();
  bool is_taken = SSL_CTX_use_certificate(context, certificate.chain.front().get()) == 1 &&
                  SSL_CTX_use_PrivateKey(context, certificate.key.get()) == 1;
  for (std::size_t i = 1; is_taken && i < certificate.chain.size(); ++i) {
    is_taken = SSL_CTX_add1_chain_cert(context, certificate.chain[i].get()) == 1;
  }
  return is_taken;
}

// "RSA" of "RSA 2048": what an SSL_CTX has one place for.
std::string_view kind_of(const Certificate& certificate) {
  const std::string_view type = certificate.info.key_type;
  return type.substr(0, type.find(' '));
}

class Loading {
 public:
  Loading(std::span<const CertificateFiles> pairs, std::chrono::system_clock::time_point now) {
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      certificates_.push_back(load_certificate(pairs[i], i, now, problems_));
    }
    for (std::size_t i = 0; i < certificates_.size(); ++i) {
      if (certificates_[i]) {
        group(i);
      }
    }
  }

  [[nodiscard]] bool has_errors() const {
    return certificates_.empty() ||
           std::ranges::any_of(problems_, [](const auto& problem) { return !problem.is_warning; });
  }
  ContextPointer take_context();
  std::vector<CertificateInfo> take_infos() {
    std::vector<CertificateInfo> infos;
    infos.reserve(certificates_.size());
    for (auto& certificate : certificates_) {
      infos.push_back(std::move(certificate->info));
    }
    return infos;
  }
  std::vector<CertificateProblem> take_problems() { return std::move(problems_); }

 private:
  void group(std::size_t index);
  void refuse(std::size_t index, const std::string& text) {
    const auto& file = certificates_[index]->info.files.certificate;
    problems_.push_back({.index = index, .message = '"' + file.string() + "\" " + text});
  }

  std::vector<std::optional<Certificate>> certificates_;
  std::vector<CertificateProblem> problems_;
  ContextPointer first_;
  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
};

void Loading::group(std::size_t index) {
  const Certificate& certificate = *certificates_[index];
  auto& groups = shared_->groups;
  auto found = std::ranges::find(groups, certificate.info.names, &Group::names);
  if (found == groups.end()) {
    ContextPointer context = make_server_context(shared_->ticket_keys);
    SSL_CTX* const raw = context.get();
    if (first_ == nullptr) {
      first_ = std::move(context);
    }
    groups.push_back({.names = certificate.info.names,
                      .context = raw,
                      .owned = std::move(context),
                      .pairs = {}});
    found = groups.end() - 1;
  }
  for (const std::size_t other : found->pairs) {
    if (kind_of(*certificates_[other]) == kind_of(certificate)) {
      return refuse(index, "has the same names and the same kind of key (" +
                               std::string(kind_of(certificate)) + ") as \"" +
                               certificates_[other]->info.files.certificate.string() +
                               "\"; expected an RSA and an ECDSA certificate where the names are "
                               "the same; leave one of them out");
    }
  }
  found->pairs.push_back(index);
  if (!put_certificate(found->context, certificate)) {
    refuse(index, "is not accepted by OpenSSL (" + take_openssl_error() +
                      "); expected a certificate signed with SHA-256 or better; have it made anew");
  }
}

ContextPointer Loading::take_context() {
  Shared* const shared = shared_.get();
  // What SSL_CTX_set_tlsext_servername_callback() does, but for its cast.
  SSL_CTX_callback_ctrl(first_.get(), SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                        reinterpret_cast<void (*)()>(choose_by_name));
  SSL_CTX_set_tlsext_servername_arg(first_.get(), shared);
  if (SSL_CTX_set_ex_data(first_.get(), shared_index(), shared) != 1) {
    throw std::bad_alloc();
  }
  [[maybe_unused]] const Shared* taken_over = shared_.release();
  return std::move(first_);
}

}  // namespace

ServerTls::Loaded ServerTls::load(std::span<const CertificateFiles> pairs,
                                  std::chrono::system_clock::time_point now) {
  Loading loading(pairs, now);
  if (loading.has_errors()) {
    return {.tls = nullptr, .problems = loading.take_problems()};
  }
  std::shared_ptr<const ServerTls> tls(new ServerTls(loading.take_context(), loading.take_infos()));
  return {.tls = std::move(tls), .problems = loading.take_problems()};
}

ServerTls::ServerTls(ContextPointer context, std::vector<CertificateInfo> certificates)
    : context_(std::move(context)), certificates_(std::move(certificates)) {}

TlsChannel ServerTls::accept(int socket) const {
  SSL* ssl = SSL_new(context_.get());
  if (ssl == nullptr) {
    throw std::bad_alloc();
  }
  SSL_set_accept_state(ssl);
  return {ssl, socket};
}

}  // namespace postern::smtp_proxy
