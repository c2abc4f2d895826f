// The proxy's process as the daemon sees it.
//
// What strangers send is read by a process of its own, which holds CAP_NET_RAW and nothing else and cannot touch the
// kernel's rules. The two share the configuration's text and short messages (proxy_messages.hpp).
// Lifetime: it ends when the daemon does, however that dies; the daemon is told when it ends.
// Errors:   the constructor throws std::system_error.
// Threads:  one owner, the io_context's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/config.hpp"
#include "gateway/line_channel.hpp"
#include "gateway/proxy_messages.hpp"
#include "smtp_proxy/transparent.hpp"

namespace postern::gateway {

struct ForkedProxy {
  pid_t pid = -1;
  smtp_proxy::FileDescriptor channel;
};

// Before there are threads and descriptors that are none of the proxy's business. Returns only in the daemon. The proxy waits
// until it is told to listen.
[[nodiscard]] ForkedProxy fork_proxy(const Config& config, const MailerIds& mailer_ids);

// {"command": NAME}. A function, because GCC 12 takes no braces within co_await.
[[nodiscard]] boost::json::object command(std::string_view name);

class ProxyProcess {
 public:
  struct News {
    std::function<void(const Barred&)> on_barred;
    std::function<void()> on_drained;
    // How it ended, in words. Not after stop().
    std::function<void(const std::string&)> on_ended;
  };

  ProxyProcess(boost::asio::io_context& context, ForkedProxy proxy, News news);
  ~ProxyProcess();
  ProxyProcess(const ProxyProcess&) = delete;
  ProxyProcess& operator=(const ProxyProcess&) = delete;

  // The answer without its id, or why there is none.
  using Answer = std::expected<boost::json::object, std::string>;
  [[nodiscard]] boost::asio::awaitable<Answer> ask(
      boost::json::object request, std::chrono::milliseconds patience = std::chrono::seconds(5));

  // Its sessions end at once.
  void stop();
  // Whatever it is doing.
  void kill();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  struct Question {
    explicit Question(boost::asio::io_context& context) : patience(context) {}
    boost::asio::steady_timer patience;
    std::optional<boost::json::object> answer;
  };

  boost::asio::awaitable<void> read();
  void take(boost::json::object message);
  void tell(const boost::json::object& news);
  // How it ended; kills it if it does not.
  std::string wait(std::chrono::milliseconds patience);

  boost::asio::io_context& context_;
  pid_t pid_;
  LineChannel channel_;
  News news_;
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, Question*> questions_;
  bool is_stopping_ = false;
};

}  // namespace postern::gateway
