#include "smtp_proxy/core/dialogue.hpp"

#include <limits>
#include <utility>

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

// More answers than this and the client waits: what a flood of pipelined commands can make us hold.
constexpr std::size_t kMostOutstandingReplies = 128;

}  // namespace

Dialogue::Dialogue(std::shared_ptr<const rules::Policy> policy, const rules::Mailer& mailer,
                   rules::UpstreamTls upstream_tls, rules::Zone zone, const Settings& settings)
    : policy_(std::move(policy)),
      mailer_(&mailer),
      settings_(&settings),
      client_{.zone = zone, .authenticated = false},
      // Where nothing is refused nothing is changed either; and the client's own TLS with the mailer
      // must find it in clear.
      upstream_tls_(policy_->observe || mailer.starttls == rules::Starttls::pass
                        ? rules::UpstreamTls::off
                        : upstream_tls) {}

bool Dialogue::reads_client() const {
  switch (phase_) {
    case Phase::greeting:
      return settings_->early_talker == EarlyTalker::refuse && !early_talker_was_told_;
    case Phase::opaque:
      return true;
    case Phase::securing_client:
    case Phase::securing_server:
      return false;
    case Phase::commands:
    case Phase::sasl:
    case Phase::body:
    case Phase::chunk:
    case Phase::quitting:
    case Phase::ended:
      break;
  }
  return !holds_client_ && !is_paused_ && !ends_after_replies_ &&
         replies_.size() < kMostOutstandingReplies;
}

std::size_t Dialogue::on_client(std::string_view input, Output& out) {
  std::size_t position = 0;
  while (position < input.size() && reads_client()) {
    const std::string_view rest = input.substr(position);
    const Phase phase_before = phase_;
    const bool skipped_line = skips_line_;
    std::size_t consumed = 0;
    switch (phase_) {
      case Phase::greeting:
        on_early_talker(out);
        break;
      case Phase::commands:
        consumed = read_command(rest, out);
        break;
      case Phase::sasl:
        consumed = read_sasl(rest, out);
        break;
      case Phase::body:
        consumed = read_body(rest, out);
        break;
      case Phase::chunk:
        consumed = read_chunk(rest, out);
        break;
      case Phase::opaque:
        out.to_server_without_copy(rest);
        consumed = rest.size();
        break;
      case Phase::securing_client:
      case Phase::securing_server:
        break;
      case Phase::quitting:
        if (observes()) {
          out.to_server_without_copy(rest);
        }
        return input.size();
      case Phase::ended:
        return input.size();
    }
    if (consumed == 0 && phase_ == phase_before) {
      break;
    }
    // The rest of an over-long line is no progress, however long it goes on.
    progress_ += consumed != 0 && !(skipped_line && skips_line_) ? 1 : 0;
    position += consumed;
  }
  const std::string_view unread = input.substr(position);
  if (!unread.empty() && (is_securing_client() || awaits_opaque_tls())) {
    on_injection(out);
    return phase_ == Phase::ended ? input.size() : position;
  }
  if (!unread.empty() && client_must_wait_) {
    on_unauthorised_pipelining(out);
  }
  if (is_securing_client()) {
    out.secure = Secure::client;
  }
  return position;
}

void Dialogue::on_client_eof(Output& out) {
  client_ended_ = true;
  switch (phase_) {
    case Phase::greeting:
    case Phase::sasl:
    case Phase::body:
    case Phase::chunk:
    case Phase::securing_client:
      return end(Reason::none, out);
    case Phase::securing_server:
      return;
    case Phase::commands:
      if (!replies_.empty()) {
        return;
      }
      if (server_has_part_of_a_message()) {
        return end(Reason::none, out);
      }
      out.shut_down_server = true;
      return;
    case Phase::opaque:
      out.shut_down_server = true;
      return;
    case Phase::quitting:
    case Phase::ended:
      // After QUIT the server closes first: the socket left in TIME_WAIT is then its own, and the
      // client's address does not run out of ports on this leg.
      return;
  }
}

void Dialogue::on_client_gone(Output& out) {
  client_ended_ = true;
  if (phase_ != Phase::quitting) {
    end(Reason::none, out);
  }
}

void Dialogue::on_server_eof(Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  // Some servers close instead of saying 221.
  const bool only_quit_is_open = replies_.empty() || replies_.front().answer == Answer::quit;
  const bool is_expected = only_quit_is_open && (phase_ == Phase::quitting || client_ended_);
  if (is_expected || phase_ == Phase::opaque) {
    phase_ = Phase::quitting;  // whatever was under way, the server has ended it
    return end(Reason::none, out);
  }
  on_unreachable(rules::UpstreamError::lost, out);
}

void Dialogue::on_unreachable(rules::UpstreamError error, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  report_upstream(error, out);
  end_session(phase_ == Phase::greeting ? Reason::upstream_unreachable : Reason::upstream_lost,
              out);
}

void Dialogue::on_timeout(Output& out) {
  switch (wait()) {
    case Wait::greeting:
    case Wait::reply:
    case Wait::data_initiation:
    case Wait::data_termination:
      return on_unreachable(rules::UpstreamError::timed_out, out);
    case Wait::handshake:
      return is_securing_client() ? end(Reason::timeout, out)
                                  : on_handshake_failed(rules::TlsPeer::server, out);
    case Wait::command:
    case Wait::data_block:
    case Wait::opaque:
      return end_session(Reason::timeout, out);
    case Wait::pause:
      is_paused_ = false;
      return;
    case Wait::closing:
      return end(Reason::none, out);
  }
}

void Dialogue::pause(std::chrono::seconds duration) {
  pause_ = duration;
  is_paused_ = true;
}

void Dialogue::end_session(Reason reason, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  // In the middle of a handshake clear text would be read as a broken record.
  if (phase_ != Phase::opaque && !is_securing_client()) {
    out.to_client += render_reply(reason);
  }
  end(reason, out);
}

void Dialogue::end(Reason reason, Output& out) {
  if (phase_ == Phase::ended) {
    return;
  }
  out.end = server_has_part_of_a_message() ? End::reset_server : End::close;
  out.reason = reason;
  end_message(rules::MessageOutcome::aborted, out);
  end_auth(rules::AuthResult::aborted, out);
  replies_.clear();
  phase_ = Phase::ended;
}

void Dialogue::become_opaque(rules::OpaqueCause cause, Output& out) {
  out.events.emplace_back(
      rules::SessionBecameOpaque{.mailer = mailer_->id, .zone = client_.zone, .cause = cause});
  message_is_open_ = false;  // what becomes of it nobody reads
  replies_.clear();
  phase_ = Phase::opaque;
  out.shut_down_server = client_ended_;
}

// Chunks are one also where a lax server takes the end of the stream for the end of the message.
bool Dialogue::server_has_part_of_a_message() const {
  // To a DATA that is not answered yet the server may have said 354 already.
  const bool awaits_354 = !replies_.empty() && replies_.front().answer == Answer::data;
  const bool lacks_chunks = transaction_.has_chunks &&
                            (phase_ == Phase::chunk || transaction_.chunking != Chunking::complete);
  return phase_ == Phase::body || phase_ == Phase::opaque || awaits_354 || lacks_chunks;
}

void Dialogue::end_message(rules::MessageOutcome outcome, Output& out) {
  if (!message_is_open_) {
    return;
  }
  message_is_open_ = false;
  out.events.emplace_back(rules::MessageEnded{
      .mailer = mailer_->id,
      .zone = client_.zone,
      .outcome = outcome,
      .octets = transaction_.has_chunks ? transaction_.chunk_octets : body_.octets()});
}

void Dialogue::report_refusal(const Refusal& refusal, Output& out) const {
  out.events.emplace_back(rules::CommandRefused{.mailer = mailer_->id,
                                                .zone = client_.zone,
                                                .reason = refusal.reason,
                                                .detail = make_printable(refusal.detail),
                                                .observed = observes()});
}

void Dialogue::report_upstream(rules::UpstreamError error, Output& out) const {
  out.events.emplace_back(rules::UpstreamFailed{.mailer = mailer_->id, .error = error});
}

Wait Dialogue::wait() const {
  switch (phase_) {
    case Phase::greeting:
      return Wait::greeting;
    case Phase::body:
    case Phase::chunk:
      return Wait::data_block;
    case Phase::opaque:
      return Wait::opaque;
    case Phase::securing_client:
    case Phase::securing_server:
      return Wait::handshake;
    case Phase::ended:
      return Wait::closing;
    case Phase::commands:
    case Phase::sasl:
    case Phase::quitting:
      break;
  }
  if (replies_.empty()) {
    const bool is_closing = phase_ == Phase::quitting || client_ended_;
    return is_closing ? Wait::closing : is_paused_ ? Wait::pause : Wait::command;
  }
  switch (replies_.front().answer) {
    case Answer::data:
      return Wait::data_initiation;
    case Answer::end_of_data:
    case Answer::chunk:
    case Answer::last_chunk:
      return Wait::data_termination;
    case Answer::ours:
    case Answer::ehlo:
    case Answer::helo:
    case Answer::mail:
    case Answer::rcpt:
    case Answer::rset:
    case Answer::noop:
    case Answer::quit:
    case Answer::starttls:
    case Answer::auth:
    case Answer::securing_hello:
    case Answer::securing_starttls:
    case Answer::other:
      break;
  }
  return Wait::reply;
}

std::uint64_t Dialogue::body_octets_expected() const {
  constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();
  return phase_ == Phase::chunk                             ? chunk_left_
         : phase_ == Phase::body || phase_ == Phase::opaque ? kUnknown
                                                            : 0;
}

bool Dialogue::is_between_transactions() const {
  return phase_ == Phase::greeting ||
         (phase_ == Phase::commands && replies_.empty() && !transaction_.is_open);
}

}  // namespace postern::smtp_proxy
