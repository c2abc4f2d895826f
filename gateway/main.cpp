// posternd(8): arguments to App, and what becomes of each failure.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <system_error>

#include "gateway/app.hpp"
#include "gateway/config.hpp"
#include "gateway/host.hpp"
#include "gateway/version.hpp"

namespace {

using namespace postern::gateway;

void print(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    fmt::print(stderr, "{}\n", diagnostic.to_string());
  }
}

bool has_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) {
    return false;
  }
  const auto has = [&data](unsigned capability) {
    return (data[capability / 32].effective & (1U << (capability % 32))) != 0;
  };
  return has(CAP_NET_ADMIN) && has(CAP_NET_RAW);
}

// A core dump, or a debugger of the same user, would have private keys and what clients said.
// LimitCORE= of the unit is not enough: it does not hold for a core_pattern with a pipe. The
// programs that are run, nft among them, are not affected.
void keep_memory_private() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
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
  if (const Diagnostics problems = check_against_host(*config, local_addresses());
      !problems.empty()) {
    print(problems);
    return EX_CONFIG;
  }
  if (only_check) {
    print(config->warnings);
    fmt::print("{}: ok, {} mailers\n", file, config->policy->mailers().size());
    return EX_OK;
  }
  if (!has_capabilities()) {
    fmt::print(stderr,
               "posternd: CAP_NET_ADMIN and CAP_NET_RAW are needed, to divert connections and to "
               "keep the clients' "
               "addresses; start it as root or by its systemd unit\n");
    return EX_NOPERM;
  }
  App app(file, std::move(*config), std::move(mailer_ids));
  app.run();
  return EX_OK;
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
