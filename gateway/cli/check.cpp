// postern check
#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/policy_text.hpp"
#include "gateway/cli/terminal.hpp"
#include "gateway/config.hpp"
#include "gateway/host.hpp"

namespace postern::gateway::cli {
namespace {

std::expected<Config, Diagnostics> load_and_compare_with_host(const std::string& file) {
  MailerIds ids;
  auto config = load_config(file, ids, Certificates::load);
  if (!config) {
    return config;
  }
  const std::vector<rules::IpAddress> own = local_addresses();
  std::ranges::move(warn_against_host(*config, own), std::back_inserter(config->warnings));
  Diagnostics conflicts = check_against_host(*config, own);
  if (!conflicts.empty()) {
    conflicts.insert(conflicts.end(), config->warnings.begin(), config->warnings.end());
    return std::unexpected(std::move(conflicts));
  }
  return config;
}

boost::json::object json_of(const Diagnostic& diagnostic) {
  return {{"severity", diagnostic.severity == Severity::error ? "error" : "warning"},
          {"file", diagnostic.file},
          {"line", diagnostic.line},
          {"column", diagnostic.column},
          {"key", diagnostic.key},
          {"message", diagnostic.message}};
}

void print_json(const std::string& file, bool valid, const Diagnostics& diagnostics) {
  boost::json::array list;
  for (const Diagnostic& diagnostic : diagnostics) {
    list.push_back(json_of(diagnostic));
  }
  print(boost::json::serialize(boost::json::object{
            {"file", file}, {"valid", valid}, {"diagnostics", std::move(list)}}) +
        "\n");
}

int refuse(const CheckOptions& options, const Diagnostics& diagnostics) {
  if (options.json) {
    print_json(options.config, false, diagnostics);
    return kAnswerIsNo;
  }
  const auto errors = static_cast<std::size_t>(
      std::ranges::count(diagnostics, Severity::error, &Diagnostic::severity));
  print_error(render(diagnostics, Style::of(STDERR_FILENO)) +
              fmt::format("{} is not valid: {}.\n", options.config, count_of(errors, "error")));
  return kAnswerIsNo;
}

int approve(const CheckOptions& options, const Config& config) {
  if (options.json) {
    print_json(options.config, true, config.warnings);
    return kFine;
  }
  const Style style = Style::of(STDOUT_FILENO);
  std::string text =
      style.good(fmt::format("{} is valid.", options.config)) + "\n" + policy_text(config, style);
  if (!config.warnings.empty()) {
    text += fmt::format("\n{}\n{}", style.heading("Warnings"), render(config.warnings, style));
  }
  print(text);
  return kFine;
}

}  // namespace

int run_check(const CheckOptions& options) {
  const auto config = load_and_compare_with_host(options.config);
  return config ? approve(options, *config) : refuse(options, config.error());
}

}  // namespace postern::gateway::cli
