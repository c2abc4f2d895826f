#include "gateway/proxy_process.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "gateway/proxy_server.hpp"
#include "smtp_proxy/event_loop.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
// To end its sessions when it is told to, and to die when it has closed its channel.
constexpr std::chrono::milliseconds kPatienceWithAStop{5000};
constexpr std::chrono::milliseconds kPatienceWithADeath{500};
// A report of a thousand mailers, with all that was blocked, fits several times.
constexpr std::size_t kLongestAnswer = 16 * 1024 * 1024;
constexpr std::chrono::milliseconds kLookAgain{5};

// An id that nobody asked under is no answer.
std::optional<std::uint64_t> id_of(const json::object& message) {
  const json::value* id = message.if_contains("id");
  if (id == nullptr || !id->is_int64() || id->get_int64() < 0) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(id->get_int64());
}

std::string describe_end(int status) {
  return WIFSIGNALED(status) ? fmt::format("killed by signal {} ({})", WTERMSIG(status),
                                           strsignal(WTERMSIG(status)))
                             : fmt::format("exit status {}", WEXITSTATUS(status));
}

}  // namespace

ForkedProxy fork_proxy(const Config& config, const MailerIds& mailer_ids) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  smtp_proxy::FileDescriptor daemons(ends[0]);
  smtp_proxy::FileDescriptor proxys(ends[1]);
  const pid_t daemon = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    throw std::system_error(errno, std::generic_category(), "the proxy cannot be forked");
  }
  if (pid == 0) {
    daemons = {};
    std::exit(serve_as_proxy(std::move(proxys), daemon, config, mailer_ids));
  }
  return {.pid = pid, .channel = std::move(daemons)};
}

json::object command(std::string_view name) {
  return {{"command", name}};
}

ProxyProcess::ProxyProcess(net::io_context& context, ForkedProxy proxy, News news)
    : context_(context),
      pid_(proxy.pid),
      channel_(context, std::move(proxy.channel), kLongestAnswer),
      news_(std::move(news)) {
  net::co_spawn(context_, [this]() { return read(); }, smtp_proxy::rethrow);
}

ProxyProcess::~ProxyProcess() {
  stop();
}

net::awaitable<ProxyProcess::Answer> ProxyProcess::ask(json::object request,
                                                       std::chrono::milliseconds patience) {
  if (pid_ < 0) {
    co_return std::unexpected("the proxy has ended");
  }
  const std::uint64_t id = ++last_id_;
  Question question(context_);
  questions_[id] = &question;
  request["id"] = id;
  channel_.send(request);
  question.patience.expires_after(patience);
  co_await question.patience.async_wait(use_tuple);
  questions_.erase(id);
  if (!question.answer) {
    co_return std::unexpected(pid_ < 0 ? "the proxy has ended" : "the proxy does not answer");
  }
  co_return std::move(*question.answer);
}

net::awaitable<void> ProxyProcess::read() {
  while (auto message = co_await channel_.receive()) {
    take(std::move(*message));
  }
  if (is_stopping_) {
    co_return;
  }
  const std::string end = wait(kPatienceWithADeath);
  for (const auto& [id, question] : questions_) {
    question->patience.cancel();
  }
  news_.on_ended(end);
}

void ProxyProcess::take(json::object message) {
  if (message.contains("news")) {
    tell(message);
    return;
  }
  const auto id = id_of(message);
  const auto asked = id ? questions_.find(*id) : questions_.end();
  if (asked != questions_.end() && !asked->second->answer) {
    message.erase("id");
    asked->second->answer = std::move(message);
    asked->second->patience.cancel();
  }
}

void ProxyProcess::tell(const json::object& news) {
  if (news.at("news") == "drained") {
    news_.on_drained();
  } else if (const auto barred = barred_of(news)) {
    news_.on_barred(*barred);
  }
}

void ProxyProcess::stop() {
  if (!std::exchange(is_stopping_, true)) {
    channel_.close();
    (void)wait(kPatienceWithAStop);
  }
}

void ProxyProcess::kill() {
  is_stopping_ = true;
  channel_.close();
  (void)wait(std::chrono::milliseconds(0));
}

std::string ProxyProcess::wait(std::chrono::milliseconds patience) {
  if (pid_ < 0) {
    return {};
  }
  int status = 0;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(kLookAgain);
  }
  pid_ = -1;
  return describe_end(status);
}

}  // namespace postern::gateway
