// postern reload, postern drain
#include <unistd.h>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/terminal.hpp"

namespace postern::gateway::cli {
namespace {

using boost::json::value;

std::string in_words(const value& answer, std::string_view done, std::string_view refused) {
  const std::string message = text_at(answer, "message");
  std::string out;
  for (const value& diagnostic : array_at(answer, "diagnostics")) {
    out += text_at(diagnostic, "") + "\n";
  }
  out += is_true_at(answer, "ok") ? done : refused;
  return out + (message == "-" ? "" : ": " + message) + "\n";
}

int run(const ControlOptions& options, std::string_view command, std::string_view done,
        std::string_view refused) {
  const auto answer = ask(options, {{"command", command}}, kReloadPatience);
  if (!answer) {
    print_error(answer.error() + "\n");
    return kAnswerIsNo;
  }
  const value document(*answer);
  const bool ok = is_true_at(document, "ok");
  if (options.json) {
    print(boost::json::serialize(document) + "\n");
  } else if (ok) {
    print(in_words(document, done, refused));
  } else {
    print_error(in_words(document, done, refused));
  }
  return ok ? kFine : kAnswerIsNo;
}

}  // namespace

int run_reload(const ControlOptions& options) {
  return run(options, "reload", "reloaded", "not reloaded, the old configuration stays in force");
}

int run_drain(const ControlOptions& options) {
  return run(options, "drain", "draining: no new sessions are taken", "not draining");
}

}  // namespace postern::gateway::cli
