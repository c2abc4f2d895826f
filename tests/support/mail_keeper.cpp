#include "tests/support/mail_keeper.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace postern::testing {
namespace {

// Set by CMake.
constexpr const char* kKeeper = POSTERN_TEST_SUPPORT "/mail_keeper.py";
constexpr const char* kWholeMail = POSTERN_TEST_SUPPORT "/whole_mail.py";

// -B: no compiled modules beside the sources.
std::vector<std::string> python(const char* script) {
  return {"/usr/bin/python3", "-B", script};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace

MailKeeper::MailKeeper(const Lab& lab, const std::optional<IssuedCertificate>& certificate)
    : folder_(lab.folder() / "kept"), process_([&] {
        auto arguments = python(kKeeper);
        arguments.insert(arguments.end(), {"--folder", folder_.string(), "--listen", kIpv4.mx2,
                                           "--listen", kIpv6.mx2});
        if (certificate) {
          arguments.insert(arguments.end(), {"--certificate", certificate->certificate, "--key",
                                             certificate->private_key});
        }
        return lab.start(Side::inside, std::move(arguments));
      }()) {
  const auto listens = wait_until("the keeper listens", [&] {
    return process_.output().contains("ready") || !process_.is_running();
  });
  if (!listens || !process_.is_running()) {
    throw std::runtime_error("the keeper: " + process_.output());
  }
}

std::vector<MailKeeper::Message> MailKeeper::messages() const {
  std::vector<Message> result;
  std::istringstream index(read_file(folder_ / "index"));
  // The last line may be half written.
  for (std::string line; std::getline(index, line) && !index.eof();) {
    const auto entry = boost::json::parse(line).as_object();
    result.push_back(
        {.way = std::string(entry.at("way").as_string()),
         .peer = std::string(entry.at("peer").as_string()),
         .came_in_tls = !entry.at("tls").is_null(),
         .recipients = boost::json::value_to<std::vector<std::string>>(entry.at("recipients")),
         .content = read_file(folder_ / std::string(entry.at("file").as_string()))});
  }
  return result;
}

Process start_whole_mail(const Lab& lab, const MailKeeper& keeper, const std::string& server,
                         const std::vector<std::string>& ways,
                         const std::vector<std::string>& options) {
  auto arguments = python(kWholeMail);
  arguments.insert(arguments.end(), {"--server", server, "--folder", keeper.folder().string()});
  for (const std::string& way : ways) {
    arguments.insert(arguments.end(), {"--way", way});
  }
  arguments.insert(arguments.end(), options.begin(), options.end());
  return lab.start(Side::outside, std::move(arguments));
}

}  // namespace postern::testing
