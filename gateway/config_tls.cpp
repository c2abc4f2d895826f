// TLS and AUTH of a [[mailer]]: what its keys say, and what the files hold that they name.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

using rules::Starttls;
using rules::UpstreamTls;

constexpr ChoiceTable<Starttls, 3> kStarttls{{
    {"hide", Starttls::hide},
    {"terminate", Starttls::terminate},
    {"pass", Starttls::pass},
}};
constexpr ChoiceTable<UpstreamTls, 4> kUpstreamTls{{
    {"off", UpstreamTls::off},
    {"opportunistic", UpstreamTls::opportunistic},
    {"require", UpstreamTls::require},
    {"verify", UpstreamTls::verify},
}};

void warn(const SectionReader& section, std::string_view key, std::string message,
          DiagnosticLog& log) {
  log.warning(section.place_of(key), section.path_of(key), std::move(message));
}

void refuse(const SectionReader& section, std::string_view key, std::string message,
            DiagnosticLog& log) {
  log.error(section.place_of(key), section.path_of(key), std::move(message));
}

bool is_path(std::string_view text) {
  return !text.empty() && std::ranges::none_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;  // it is shown in messages
  });
}

// A path, or a list of them.
std::vector<LocatedString> read_paths(SectionReader& section, std::string_view key,
                                      DiagnosticLog& log) {
  const TomlValue* value = section.find(key);
  const std::size_t errors = log.error_count();
  std::vector<LocatedString> out = section.string_or_strings(key);
  const KeyInfo* info = find_key("mailer", key);
  for (const LocatedString& written : out) {
    if (!is_path(written.text)) {
      log.error(written.place, written.key,
                found_expected(quote(written.text), info->expected, info->remedy));
    }
  }
  if (value != nullptr && out.empty() && log.error_count() == errors) {
    section.report(key, *value);
  }
  return out;
}

void pair_up(const std::filesystem::path& directory, MailerSection& out) {
  for (std::size_t i = 0; i < out.certificates.size(); ++i) {
    out.tls.certificates.push_back({.certificate = directory / out.certificates[i].text,
                                    .private_key = directory / out.private_keys[i].text});
  }
}

void check_certificate_is_used(const SectionReader& section, const rules::Mailer& mailer,
                               DiagnosticLog& log) {
  for (const char* key : {"certificate", "private_key"}) {
    if (section.find(key) != nullptr) {
      warn(section, key,
           fmt::format("not used, because starttls is \"{}\"; write starttls = \"terminate\", or "
                       "remove it",
                       to_label(mailer.starttls)),
           log);
    }
  }
}

void read_certificates(SectionReader& section, const std::filesystem::path& directory,
                       MailerSection& out, DiagnosticLog& log) {
  const std::size_t errors = log.error_count();
  out.certificates = read_paths(section, "certificate", log);
  out.private_keys = read_paths(section, "private_key", log);
  if (out.mailer.starttls != Starttls::terminate) {
    check_certificate_is_used(section, out.mailer, log);
    return;
  }
  const bool has_certificate = section.find("certificate") != nullptr;
  const bool has_key = section.find("private_key") != nullptr;
  if (!has_certificate && !has_key) {
    refuse(section, "starttls",
           "found \"terminate\" without a certificate; expected `certificate` and `private_key` "
           "beside it; name the mailer's PEM files, or write \"hide\"",
           log);
  } else if (!has_certificate) {
    section.report_missing("certificate");
  } else if (!has_key) {
    section.report_missing("private_key");
  } else if (log.error_count() != errors) {
    return;
  } else if (out.certificates.size() != out.private_keys.size()) {
    refuse(section, "private_key",
           fmt::format("found {}, but {} in `certificate`; expected a private key for each "
                       "certificate, in the same order; name one for each, the same one twice "
                       "where two certificates have it",
                       out.private_keys.size(), out.certificates.size()),
           log);
  } else {
    pair_up(directory, out);
  }
}

// What a certificate can prove and SNI can say: a name, as A-labels, without a trailing dot.
std::string read_upstream_name(SectionReader& section) {
  const auto written = section.string("upstream_name");
  if (!written) {
    return {};
  }
  const auto name = rules::normalise_domain(written->text);
  if (!name || rules::IpAddress::parse(written->text)) {
    section.report("upstream_name", *section.find("upstream_name"));
    return {};
  }
  return *name;
}

void check_upstream(const SectionReader& section, const rules::Mailer& mailer, DiagnosticLog& log) {
  const bool verifies = mailer.upstream_tls == UpstreamTls::verify;
  if (verifies && section.find("upstream_name") == nullptr) {
    refuse(section, "upstream_tls",
           "found \"verify\" without a name to verify; expected `upstream_name` beside it; write "
           "the name that the mailer's certificate has",
           log);
  }
  if (!verifies && section.find("upstream_ca_file") != nullptr) {
    refuse(section, "upstream_ca_file",
           fmt::format(
               "found with upstream_tls = \"{}\", which verifies nothing; expected \"verify\"; "
               "write that, or remove this",
               to_label(mailer.upstream_tls)),
           log);
  }
  if (mailer.upstream_tls == UpstreamTls::off && section.find("upstream_name") != nullptr) {
    warn(section, "upstream_name", "not used, because upstream_tls is \"off\"; remove one of them",
         log);
  }
}

void read_upstream(SectionReader& section, const std::filesystem::path& directory,
                   MailerSection& out, DiagnosticLog& log) {
  rules::Mailer& mailer = out.mailer;
  section.read_choice<UpstreamTls>("upstream_tls", kUpstreamTls, mailer.upstream_tls);
  smtp_proxy::ClientTlsSettings upstream;
  upstream.name = read_upstream_name(section);
  upstream.verifies = mailer.upstream_tls == UpstreamTls::verify;
  if (const auto file = section.string("upstream_ca_file"); file && is_path(file->text)) {
    upstream.ca_file = directory / file->text;
  } else if (file) {
    section.report("upstream_ca_file", *section.find("upstream_ca_file"));
  }
  check_upstream(section, mailer, log);
  if (mailer.starttls == Starttls::pass) {
    // The mailer offers STARTTLS to whoever speaks in clear, and the client is to be the one.
    if (mailer.upstream_tls == UpstreamTls::require || mailer.upstream_tls == UpstreamTls::verify) {
      refuse(section, "upstream_tls",
             fmt::format("found \"{}\" with starttls = \"pass\"; expected none, because it is the "
                         "client's own TLS that goes to the mailer; remove it, or write starttls "
                         "= \"terminate\"",
                         to_label(mailer.upstream_tls)),
             log);
    }
    mailer.upstream_tls = UpstreamTls::off;
  }
  const bool lacks_name = upstream.verifies && upstream.name.empty();  // reported already
  if (mailer.upstream_tls != UpstreamTls::off && !lacks_name) {
    out.tls.upstream = std::move(upstream);
  }
}

// A warning, so that it is heard of at each start, reload and check.
void check_pass(const SectionReader& section, const rules::Mailer& mailer, DiagnosticLog& log) {
  if (mailer.starttls == Starttls::pass) {
    warn(section, "starttls",
         "NOTHING IS JUDGED BEHIND STARTTLS: whoever says it writes to whom it likes, as far as "
         "the mailer's own rules let it, and guesses passwords uncounted; write \"terminate\" "
         "with a certificate to have the policy hold inside TLS, or \"hide\"",
         log);
  }
}

void check_auth(const SectionReader& section, const rules::Mailer& mailer, DiagnosticLog& log) {
  if (!mailer.authenticated_relay || mailer.starttls == Starttls::terminate) {
    return;
  }
  if (mailer.auth_requires_tls && mailer.starttls == Starttls::hide) {
    warn(section, "authenticated_relay",
         "found true, but nobody outside can authenticate, because auth_requires_tls holds and "
         "starttls is \"hide\"; write starttls = \"terminate\" with a certificate, or remove it",
         log);
  } else if (mailer.auth_requires_tls) {
    warn(section, "authenticated_relay",
         "found true, but it changes nothing: in clear AUTH is refused, because auth_requires_tls "
         "holds, and behind STARTTLS nothing is judged; write starttls = \"terminate\" with a "
         "certificate, or remove it",
         log);
  }
}

void check_passwords(const SectionReader& section, const rules::Mailer& mailer,
                     DiagnosticLog& log) {
  if (mailer.authenticated_relay && !mailer.auth_requires_tls) {
    warn(section, "auth_requires_tls",
         "found false: passwords cross the Internet in clear, for everybody on the way to read; "
         "remove it",
         log);
  }
}

void report_problems(const MailerSection& section, const LoadedTls& loaded, DiagnosticLog& log) {
  for (const smtp_proxy::CertificateProblem& problem : loaded.problems) {
    const bool is_key = problem.file == smtp_proxy::CertificateProblem::File::private_key;
    const LocatedString& written =
        (is_key ? section.private_keys : section.certificates)[problem.index];
    if (problem.is_warning) {
      log.warning(written.place, written.key, problem.message);
    } else {
      log.error(written.place, written.key, problem.message);
    }
  }
  if (!loaded.upstream_problem.empty()) {
    log.error(section.upstream_place, section.upstream_key, loaded.upstream_problem);
  }
}

}  // namespace

void read_tls(SectionReader& section, const std::filesystem::path& directory, MailerSection& out,
              DiagnosticLog& log) {
  rules::Mailer& mailer = out.mailer;
  section.read_choice<Starttls>("starttls", kStarttls, mailer.starttls);
  section.read("authenticated_relay", mailer.authenticated_relay);
  section.read("auth_requires_tls", mailer.auth_requires_tls);
  out.starttls_place = section.place_of("starttls");
  const char* const upstream_key =
      section.find("upstream_ca_file") == nullptr ? "upstream_tls" : "upstream_ca_file";
  out.upstream_place = section.place_of(upstream_key);
  out.upstream_key = section.path_of(upstream_key);
  read_certificates(section, directory, out, log);
  read_upstream(section, directory, out, log);
  check_pass(section, mailer, log);
  check_auth(section, mailer, log);
  check_passwords(section, mailer, log);
}

void load_certificates(std::vector<MailerSection>& mailers, DiagnosticLog& log) {
  const auto now = std::chrono::system_clock::now();
  for (MailerSection& section : mailers) {
    // Looked at first: what is renewed while it is read is read again.
    for (const std::filesystem::path& file : section.tls.files()) {
      section.tls.seen.push_back(look_at(file));
    }
    LoadedTls loaded = load_tls(section.tls, now);
    report_problems(section, loaded, log);
    section.loaded_tls = std::move(loaded.tls);
  }
}

void check_tls_is_observed(const std::vector<MailerSection>& mailers, DiagnosticLog& log) {
  for (const MailerSection& section : mailers) {
    if (section.mailer.starttls == Starttls::terminate) {
      log.warning(section.starttls_place, section.path + ".starttls",
                  "not done while [gateway] observe = true: STARTTLS goes to the mailer, and the "
                  "session is passed on unread from there");
    }
    const UpstreamTls upstream = section.mailer.upstream_tls;
    if (upstream == UpstreamTls::require || upstream == UpstreamTls::verify) {
      log.warning(section.upstream_place, section.path + ".upstream_tls",
                  "not done while [gateway] observe = true: the mailer is sent what the client "
                  "sends, as it comes");
    }
  }
}

}  // namespace postern::gateway
