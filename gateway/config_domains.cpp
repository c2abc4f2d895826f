// What strangers may write to: the list in the configuration, and the file for many.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

std::string_view remedy_for_domain(std::string_view text) {
  if (text.find('@') != std::string_view::npos) {
    return "write the part behind the '@' alone";
  }
  if (text == "*" || text == "*.") {
    return "there is no word for every domain: that would be an open relay";
  }
  if (text.starts_with('.')) {
    return "write \"*.\" in front for its subdomains";
  }
  if (text.starts_with('[')) {
    return "address literals have a switch of their own, allow_address_literals";
  }
  if (text.find('*') != std::string_view::npos) {
    return "a '*' stands only in front, as \"*.\", for any depth of subdomain";
  }
  return "correct or remove it";
}

std::string malformed(std::string_view text) {
  return found_expected(quote(text),
                        "a domain such as \"example.org\", or \"*.example.org\" for its subdomains",
                        remedy_for_domain(text));
}

// Harmless, hence no error: the set is the same without it.
std::string listed_twice(std::string_view text) {
  return fmt::format(
      "{} is listed twice; the second changes nothing: remove it, or correct it if "
      "another domain was meant",
      quote(text));
}

bool is_whole_top_level(std::string_view text) {
  return text.starts_with("*.") && text.find('.', 2) >= text.size() - 1;
}

std::string whole_top_level(std::string_view text) {
  return fmt::format(
      "{} stands for every domain below a top-level domain, and strangers may write "
      "to all of them; name your own domains",
      quote(text));
}

void remember(std::string_view text, DomainList& list) {
  if (list.first.size() < kShownDomains) {
    list.first.emplace_back(text);
  }
}

struct Line {
  std::string_view text;
  Place place;
};

// Reports the first of each kind of bad line, and counts the rest.
class FileReport {
 public:
  FileReport(std::string file, std::string key, DiagnosticLog& log)
      : file_(std::move(file)), key_(std::move(key)), log_(log) {}

  void error(const Line& line, std::string message) {
    add(Severity::error, errors_++, line, std::move(message));
  }
  void warning(const Line& line, std::string message) {
    add(Severity::warning, warnings_++, line, std::move(message));
  }
  void finish() {
    tell_rest(Severity::error, errors_, "bad lines");
    tell_rest(Severity::warning, warnings_, "questionable lines");
  }

 private:
  void add(Severity severity, std::size_t before, const Line& line, std::string message) {
    if (before < kReportedLines) {
      log_.add({severity, file_, line.place.line, line.place.column, key_, std::move(message)});
    }
  }
  void tell_rest(Severity severity, std::size_t count, const char* what) {
    if (count > kReportedLines) {
      log_.add({severity, file_, 0, 0, key_,
                fmt::format("and {} more {}", count - kReportedLines, what)});
    }
  }

  std::string file_;
  std::string key_;
  DiagnosticLog& log_;
  std::size_t errors_ = 0;
  std::size_t warnings_ = 0;
};

void add_line(const Line& line, DomainList& list, FileReport& report) {
  switch (list.domains.add(line.text)) {
    case rules::DomainSet::Added::added:
      remember(line.text, list);
      if (is_whole_top_level(line.text)) {
        report.warning(line, whole_top_level(line.text));
      }
      break;
    case rules::DomainSet::Added::duplicate:
      report.warning(line, listed_twice(line.text));
      break;
    case rules::DomainSet::Added::malformed:
      report.error(line, malformed(line.text));
      break;
  }
}

// The domain on a line, without blanks and comment; empty if there is none.
Line domain_on(std::string_view text, std::uint32_t number) {
  text = text.substr(0, text.find('#'));
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) {
    return {};
  }
  const std::size_t end = text.find_last_not_of(kBlanks) + 1;
  return {text.substr(begin, end - begin), {number, static_cast<std::uint32_t>(begin + 1)}};
}

void add_lines(std::string_view text, DomainList& list, FileReport& report) {
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  for (std::uint32_t number = 1; !text.empty(); ++number) {
    const std::size_t newline = std::min(text.find('\n'), text.size());
    const Line line = domain_on(text.substr(0, newline), number);
    if (!line.text.empty()) {
      add_line(line, list, report);
    }
    text.remove_prefix(std::min(newline + 1, text.size()));
  }
}

}  // namespace

std::expected<std::string, std::string> read_whole_file(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return std::unexpected("No such file or directory");
  }
  if (error) {
    return std::unexpected(error.message());
  }
  // A device or a pipe may never end.
  if (status.type() != std::filesystem::file_type::regular) {
    return std::unexpected("Not a regular file");
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    return std::unexpected(std::generic_category().message(errno));
  }
  std::string text(static_cast<std::size_t>(std::filesystem::file_size(file, error)), '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return text;
}

void add_domains(const std::vector<LocatedString>& written, DomainList& list, DiagnosticLog& log) {
  for (const LocatedString& domain : written) {
    switch (list.domains.add(domain.text)) {
      case rules::DomainSet::Added::added:
        remember(domain.text, list);
        if (is_whole_top_level(domain.text)) {
          log.warning(domain.place, domain.key, whole_top_level(domain.text));
        }
        break;
      case rules::DomainSet::Added::duplicate:
        log.warning(domain.place, domain.key, listed_twice(domain.text));
        break;
      case rules::DomainSet::Added::malformed:
        log.error(domain.place, domain.key, malformed(domain.text));
        break;
    }
  }
}

void add_domains_file(SectionReader& mailer, const LocatedString& written,
                      const std::filesystem::path& directory, DomainList& list,
                      DiagnosticLog& log) {
  const std::filesystem::path path = directory / written.text;
  const auto text = read_whole_file(path);
  if (!text) {
    const KeyInfo* info = find_key("mailer", "domains_file");
    log.error(written.place, mailer.path_of("domains_file"),
              found_expected(
                  fmt::format("{}, which cannot be read ({})", quote(path.string()), text.error()),
                  info->expected, info->remedy));
    return;
  }
  FileReport report(path.string(), mailer.path_of("domains_file"), log);
  add_lines(*text, list, report);
  report.finish();
}

}  // namespace postern::gateway
