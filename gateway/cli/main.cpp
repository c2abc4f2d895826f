// `postern`: arguments to commands, nothing else.
#include <CLI/CLI.hpp>

#include <exception>
#include <functional>
#include <string>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/terminal.hpp"

namespace postern::gateway::cli {
namespace {

constexpr const char* kVersion = "postern " POSTERN_VERSION;

// The commands of the program; `chosen` is the one that the arguments name.
class CommandLine {
 public:
  CommandLine() {
    app_.set_version_flag("--version", kVersion);
    app_.footer(
        "Exit codes: 0 fine, 1 the answer is no, 2 wrong usage. See postern(1).\n"
        "Example:\n  postern check");
    add_check();
    add_explain();
    add_ruleset();
    add_blocked();
    add_offenders();
    add_plain("status", "Show the daemon, its workers and mailers, and what was blocked today",
              "Exits 0 only if all is well.\nExample:\n  postern status --json", run_status);
    add_plain("counters", "Show all counters", "Example:\n  postern counters --json", run_counters);
    add_plain("doctor", "Find what on this router stands in the way, and say how to mend it",
              "Exits 1 if mail would not flow, or the policy would not hold; works without a "
              "running posternd.\nExample:\n  sudo postern doctor",
              run_doctor);
    add_plain("reload", "Have the daemon read its configuration again",
              "With an error in it the old one stays in force.\nExample:\n  postern check && "
              "postern reload",
              run_reload);
    add_plain("drain", "Have the daemon take no new sessions",
              "Sessions that are open go on to their end.\nExample:\n  postern drain", run_drain);
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app_.exit(error) == 0 ? kFine : kUsage;
    }
    if (!chosen_) {
      print_error("a command is missing\nRun with --help for more information.\n");
      return kUsage;
    }
    return chosen_();
  }

 private:
  CLI::App* add(const char* name, const char* description, const char* footer,
                std::function<int()> command) {
    CLI::App* app = app_.add_subcommand(name, description);
    app->footer(footer);
    app->callback([this, command = std::move(command)] { chosen_ = command; });
    return app;
  }

  static void add_config(CLI::App* app, std::string& config) {
    app->add_option("--config", config, "The configuration file")
        ->type_name("FILE")
        ->capture_default_str();
  }

  static void add_control(CLI::App* app, ControlOptions& options) {
    app->add_flag("--json", options.json, "Answer in JSON");
    app->add_option("--socket", options.socket,
                    "The daemon's control socket; by default the one that the configuration names")
        ->type_name("PATH");
    add_config(app, options.config);
  }

  void add_check() {
    CLI::App* app = add("check", "Validate a configuration and print its policy in plain words",
                        "Exits 1 if the configuration is wrong; every error is shown.\n"
                        "Example:\n  postern check ./postern.toml",
                        [this] { return run_check(check_); });
    app->add_option("file", check_.config, "The configuration file")
        ->type_name("FILE")
        ->capture_default_str();
    app->add_flag("--json", check_.json, "Answer in JSON");
  }

  void add_explain() {
    CLI::App* app = add(
        "explain", "Say what the policy decides on a connection, and by which rule",
        "Exits 0 if it is allowed, 1 if it is refused.\n"
        "Example:\n  postern explain --from 198.51.100.2 --interface wan0 --to 203.0.113.25 \\\n"
        "      --recipient someone@example.org",
        [this] { return run_explain(explain_); });
    app->add_option("--from", explain_.from, "The client's address")->required()->type_name("ADDR");
    app->add_option("--interface", explain_.interface, "The interface that it comes in on")
        ->required()
        ->type_name("IF");
    app->add_option("--to", explain_.to, "The address that it connects to, on port 25")
        ->required()
        ->type_name("ADDR");
    app->add_option("--recipient", explain_.recipient, "The recipient of its message")
        ->type_name("MAILBOX");
    app->add_flag("--authenticated", explain_.authenticated,
                  "As if the mailer had accepted its AUTH");
    app->add_flag("--json", explain_.json, "Answer in JSON");
    add_config(app, explain_.config);
  }

  void add_ruleset() {
    CLI::App* app = add("ruleset", "Print the kernel's rules that a configuration stands for",
                        "Nothing is installed by this.\nExample:\n  postern ruleset | nft -c -f -",
                        [this] { return run_ruleset(ruleset_); });
    add_config(app, ruleset_.config);
  }

  void add_blocked() {
    CLI::App* app =
        add("blocked", "Show the latest blocked attempts: when, from, to, what, why",
            "Example:\n  postern blocked --follow", [this] { return run_blocked(blocked_); });
    app->add_option("--limit", blocked_.limit, "How many to show of those that are remembered")
        ->type_name("N")
        ->check(CLI::Range(0, 1'000'000))
        ->capture_default_str();
    app->add_flag("--follow", blocked_.follow, "Go on with each new one as it happens");
    add_control(app, blocked_.control);
  }

  void add_offenders() {
    CLI::App* app =
        add("offenders", "Show the inside hosts that send mail past the mailers",
            "The one with most attempts first.\nExample:\n  postern offenders --limit 10",
            [this] { return run_offenders(offenders_); });
    app->add_option("--limit", offenders_.limit, "How many to show")
        ->type_name("N")
        ->check(CLI::Range(0, 1'000'000))
        ->capture_default_str();
    add_control(app, offenders_.control);
  }

  void add_plain(const char* name, const char* description, const char* footer,
                 int (*command)(const ControlOptions&)) {
    CLI::App* app = add(name, description, footer, [this, command] { return command(control_); });
    add_control(app, control_);
  }

  CLI::App app_{"Postern, a transparent SMTP firewall: ask it, check it, tell it.", "postern"};
  std::function<int()> chosen_;
  CheckOptions check_;
  ExplainOptions explain_;
  RulesetOptions ruleset_;
  BlockedOptions blocked_;
  OffendersOptions offenders_;
  ControlOptions control_;
};

}  // namespace
}  // namespace postern::gateway::cli

int main(int argc, char** argv) {
  using namespace postern::gateway::cli;
  try {
    return CommandLine().run(argc, argv);
  } catch (const std::exception& error) {
    print_error(std::string("postern: ") + error.what() + "\n");
    return kUsage;
  }
}
