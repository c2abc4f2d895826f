// posternd(8): arguments to App, and what becomes of each failure.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sysexits.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "gateway/app.hpp"
#include "gateway/config.hpp"
#include "gateway/host.hpp"
#include "gateway/privileges.hpp"
#include "gateway/proxy_process.hpp"
#include "gateway/version.hpp"

namespace {

using namespace postern::gateway;

void print(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    fmt::print(stderr, "{}\n", diagnostic.to_string());
  }
}

int run(const std::string& file, bool only_check) {
  keep_memory_private();
  MailerIds mailer_ids;
  auto config = load_config(file, mailer_ids, Certificates::load);
  if (!config) {
    print(config.error());
    fmt::print(stderr, "posternd: {} has errors, nothing was changed\n", file);
    return EX_CONFIG;
  }
  const std::vector<postern::rules::IpAddress> own = local_addresses();
  if (const Diagnostics problems = check_against_host(*config, own); !problems.empty()) {
    print(problems);
    return EX_CONFIG;
  }
  std::ranges::move(warn_against_host(*config, own), std::back_inserter(config->warnings));
  if (only_check) {
    print(config->warnings);
    fmt::print("{}: ok, {} mailers\n", file, config->policy->mailers().size());
    return EX_OK;
  }
  if (!has_capability(CAP_NET_ADMIN) || !has_capability(CAP_NET_RAW)) {
    fmt::print(stderr,
               "posternd: CAP_NET_ADMIN and CAP_NET_RAW are needed, to divert connections and to "
               "keep the clients' "
               "addresses; start it as root or by its systemd unit\n");
    return EX_NOPERM;
  }
  ForkedProxy proxy = fork_proxy(*config, mailer_ids);
  config->tls = nullptr;  // keys are the proxy's
  App app(file, std::move(*config), std::move(mailer_ids), std::move(proxy));
  return app.run() ? EX_OK : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App arguments{"posternd: a transparent SMTP firewall for this router\n"};
  std::string file = "/etc/postern/postern.toml";
  bool only_check = false;
  arguments.add_option("--config", file, "the configuration")
      ->type_name("FILE")
      ->capture_default_str();
  arguments.add_flag("--check", only_check,
                     "say whether the configuration is right, and change nothing");
  arguments.set_version_flag("--version", std::string(kVersion));
  arguments.footer(
      "SIGHUP reloads the configuration, SIGTERM drains the sessions and stops.\nSee posternd(8).");
  try {
    arguments.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return arguments.exit(error) == 0 ? EX_OK : EX_USAGE;
  }
  try {
    return run(file, only_check);
  } catch (const std::exception& error) {
    fmt::print(stderr, "posternd: {}\n", error.what());
    const auto* system = dynamic_cast<const std::system_error*>(&error);
    return system != nullptr && system->code() == std::errc::operation_not_permitted ? EX_NOPERM
                                                                                     : EXIT_FAILURE;
  }
}
