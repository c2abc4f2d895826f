#include "tests/support/hostile_files.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <stdexcept>
#include <string_view>

namespace postern::testing {
namespace {

namespace fs = std::filesystem;

// Set by CMake.
constexpr const char* kFolder = POSTERN_HOSTILE_SESSIONS;
constexpr const char* kServer = POSTERN_TEST_SUPPORT "/gullible_server.py";
constexpr const char* kClients = POSTERN_TEST_SUPPORT "/hostile_sessions.py";
constexpr const char* kPostern = POSTERN_PROGRAMS "/postern";

constexpr std::chrono::seconds kWholeFile{150};

// What the file says of the configuration stands before its first case.
HostileFile read_head(const fs::path& path) {
  HostileFile file{.path = path, .smtp = {}, .mailer = {}};
  std::ifstream text(path);
  for (std::string line; std::getline(text, line) && !line.starts_with("== ");) {
    constexpr std::string_view kSmtp = "smtp: ";
    constexpr std::string_view kMailer = "mailer: ";
    if (line.starts_with(kSmtp)) {
      file.smtp += line.substr(kSmtp.size()) + "\n";
    } else if (line.starts_with(kMailer)) {
      file.mailer += line.substr(kMailer.size()) + "\n";
    }
  }
  return file;
}

std::vector<std::string> clients(std::vector<std::string> more, const HostileFile& file) {
  std::vector<std::string> arguments{"/usr/bin/python3", kClients, "--server", kIpv4.mx1,
                                     kIpv6.mx1};
  arguments.insert(arguments.end(), more.begin(), more.end());
  arguments.push_back(file.path.string());
  return arguments;
}

}  // namespace

ConfigText HostileFile::config() const {
  // The gullible server says that it speaks TLS, as it says everything, and does not.
  return {.domains = R"("example.org", "*.example.org", "bücher.example")",
          .mailer = "upstream_tls = \"off\"\n" + mailer,
          .smtp = smtp};
}

std::string HostileFile::test_name() const {
  std::string name;
  bool begins_a_word = true;
  for (const char c : path.stem().string()) {
    if (c == '-') {
      begins_a_word = true;
    } else {
      name += begins_a_word ? static_cast<char>(std::toupper(c)) : c;
      begins_a_word = false;
    }
  }
  return name;
}

void PrintTo(const HostileFile& file, std::ostream* out) {
  *out << file.path.filename().string();
}

std::vector<HostileFile> hostile_files() {
  std::vector<HostileFile> files;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".session") {
      files.push_back(read_head(entry.path()));
    }
  }
  std::ranges::sort(files, {}, &HostileFile::path);
  return files;
}

GullibleMailer::GullibleMailer(const Lab& lab, const HostileFile& file)
    : record_(lab.folder() / "gullible-record"),
      process_(
          lab.start(Side::inside, {"/usr/bin/python3", kServer, "--listen", kIpv4.mx1, "--listen",
                                   kIpv6.mx1, "--record", record_.string(), file.path.string()})) {
  const auto listens = wait_until("the gullible server listens", [&] {
    return process_.output().contains("ready") || !process_.is_running();
  });
  if (!listens || !process_.is_running()) {
    throw std::runtime_error("the gullible server: " + process_.output());
  }
}

Finished run_hostile_sessions(const Lab& lab, const HostileFile& file,
                              const GullibleMailer& mailer) {
  return run({.arguments = clients({"--record", mailer.record().string(), "--postern", kPostern,
                                    "--socket", (lab.folder() / "control.sock").string()},
                                   file),
              .network_namespace = lab.network_namespace(Side::outside)},
             kWholeFile);
}

Finished run_hostile_sessions(const Lab& lab, const HostileFile& file) {
  return run({.arguments = clients({"--real"}, file),
              .network_namespace = lab.network_namespace(Side::outside)},
             kWholeFile);
}

std::size_t count_acknowledged(const Finished& sessions) {
  constexpr std::string_view kBefore = " failed, ";
  const std::size_t at = sessions.output.rfind(kBefore);
  if (at == std::string::npos) {
    throw std::runtime_error("no sum at the end of: " + sessions.output);
  }
  return std::stoul(sessions.output.substr(at + kBefore.size()));
}

}  // namespace postern::testing
