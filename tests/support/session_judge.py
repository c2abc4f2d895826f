"""What must be true of every hostile session, whatever it is about.

A session is read strictly, by the book: commands and end of data end in CRLF, BDAT counts octets. That
tells which reply answers what, and which messages were sent. What the server carried out, as
gullible_server.py wrote it down, is then held against it. Written apart from the product on purpose.
"""
import re
from dataclasses import dataclass

from session_cases import escape, unescape

LOCAL_DOMAIN = re.compile(r"(.+\.)?example\.org|xn--bcher-kva\.example|b\u00fccher\.example|postmaster")
ALLOWED_VERBS = {"HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT"}


@dataclass
class Command:
    verb: str
    text: bytes
    reply: bytes | None = None


@dataclass
class Message:
    octets: bytes  # as a server stores it
    reply: bytes | None = None


def normalise(octets):
    """Each CR, LF and CRLF becomes CRLF."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", octets)


def unstuff(octets):
    """Lines end in CRLF and in nothing else; one dot less at the start of each."""
    return b"\r\n".join(line.removeprefix(b".") for line in octets.split(b"\r\n"))


def code(reply):
    return (reply or b"")[:3].decode("latin-1")


class Reading:
    """The client's octets and the replies that it read, by the book."""

    def __init__(self, octets, replies):
        self.octets, self.at = octets, 0
        self.replies, self.used = replies[1:], 0
        self.commands, self.messages = [], []
        self.chunks = b""
        self.breaks_off = False  # inside a command, a body or a chunk
        if code(replies[0] if replies else None) == "220":
            while self.read_command():
                pass
        self.unasked = self.replies[self.used :]

    def next_reply(self):
        self.used += 1
        return self.replies[self.used - 1] if self.used <= len(self.replies) else None

    def read_command(self):
        end = self.octets.find(b"\r\n", self.at)
        if end < 0:
            self.breaks_off = self.at < len(self.octets)
            return False
        line = self.octets[self.at : end]
        self.at = end + 2
        verb = re.match(rb"\s*([^\s:]*)", line)[1].decode("latin-1").upper()
        chunk = re.fullmatch(rb"\s*BDAT +(\d{1,19})( +LAST)? *", line, re.I)
        if verb == "BDAT" and chunk:
            return self.read_chunk(line, int(chunk[1]), bool(chunk[2]))
        command = Command(verb, line, self.next_reply())
        self.commands.append(command)
        if code(command.reply)[:1] == "2" and verb in ("HELO", "EHLO", "MAIL", "RSET"):
            self.chunks = b""
        if verb == "AUTH":
            return self.read_responses(command)
        if verb == "DATA" and code(command.reply) in ("354", ""):
            return command.reply is not None and self.read_body()
        return code(command.reply) not in ("221", "421")

    def read_responses(self, command):
        while code(command.reply) == "334":
            end = self.octets.find(b"\r\n", self.at)
            if end < 0:
                self.breaks_off = True
                return False
            command = Command("AUTH", self.octets[self.at : end], self.next_reply())
            self.at = end + 2
            self.commands.append(command)
        return code(command.reply) not in ("221", "421")

    def read_body(self):
        rest = self.octets[self.at :]
        end = 0 if rest.startswith(b".\r\n") else rest.find(b"\r\n.\r\n") + 2
        if end == 1:
            self.breaks_off = True
            return False
        self.at += end + 3
        message = Message(normalise(unstuff(rest[:end])), self.next_reply())
        self.messages.append(message)
        self.commands.append(Command("MESSAGE", b"(end of data)", message.reply))
        return code(message.reply) != "421"

    def read_chunk(self, line, size, is_last):
        chunk = self.octets[self.at : self.at + size]
        self.at += len(chunk)
        self.breaks_off = len(chunk) < size
        reply = self.next_reply()
        self.commands.append(Command("BDAT", line, reply))
        if self.breaks_off:
            return False
        self.chunks += chunk
        if is_last:
            self.messages.append(Message(self.chunks, reply))
        if is_last or code(reply)[:1] != "2":
            self.chunks = b""
        return code(reply) != "421"


@dataclass
class Carried:
    """What the server carried out in one session."""

    commands: list
    messages: list


def carried_out(events):
    """By client address."""
    sessions, by_peer = {}, {}
    for event in events:
        if event["event"] == "connect":
            sessions[event["session"]] = by_peer.setdefault(event["peer"], Carried([], []))
        elif event["event"] == "command":
            sessions[event["session"]].commands.append(event)
        elif event["event"] == "message":
            sessions[event["session"]].messages.append(event)
    return by_peer


def is_subsequence(few, many):
    rest = iter(many)
    return all(any(one == other for other in rest) for one in few)


class Judge:
    """`seen` is what the client saw (hostile_sessions.py), `carried` what the server did, or None for
    a server that does not say."""

    def __init__(self, run, seen, carried, reasons):
        self.run, self.seen, self.carried, self.reasons = run, seen, carried, reasons
        self.reading = Reading(seen.sent, seen.replies)
        self.mistakes = list(seen.mistakes)

    def check(self, is_true, what):
        if not is_true:
            self.mistakes.append(what)

    def judge(self):
        self.judge_replies()
        self.judge_end()
        if self.carried:
            self.judge_commands()
            self.judge_messages()
            self.judge_expectations()
        return self.mistakes

    def judge_replies(self):
        number = 0
        for command in self.reading.commands:
            tag = re.match(rb"\d{3}[ -](?:\d\.\d+\.\d+ )?#(\d+) (\S+)", command.reply or b"")
            if not tag:
                continue
            self.check(int(tag[1]) > number, f"reply out of order: {escape(command.reply)}")
            self.check(
                tag[2].decode() == command.verb,
                f"{escape(command.text)} was answered with {escape(command.reply)}",
            )
            number = int(tag[1])
        # The end of a session may be announced without a command before it.
        unasked = self.reading.unasked
        is_farewell = len(unasked) == 1 and code(unasked[0]) in ("421", "554", "500", "501")
        self.check(not unasked or is_farewell, f"replies that nothing asked for: {escape(b''.join(unasked))}")

    def judge_end(self):
        seen = self.seen
        if seen.end == "ours":
            return
        self.check(seen.end == "closed", f"the session did not end in order: {seen.end}")
        self.check(not seen.unparsed, f"what is no reply: {escape(seen.unparsed)}")
        self.check(seen.replies or not seen.sent, "closed without a word")
        last = code(seen.replies[-1]) if seen.replies else ""
        is_farewell = last[:1] in "45" or last == "221"
        unanswered = [c for c in self.reading.commands if c.reply is None]
        # Some servers close instead of saying 221.
        if not is_farewell and [c.verb for c in unanswered] == ["QUIT"]:
            return
        if not seen.was_half_closed:
            self.check(is_farewell, f"closed in the middle behind the reply {last}")
        if unanswered and not self.reading.breaks_off:
            self.check(is_farewell, f"no reply to {escape(unanswered[0].text)}")

    def judge_commands(self):
        verbs = [command["verb"] for command in self.carried.commands]
        may_authenticate = "authenticated_relay = true" in self.run.case.mailer
        allowed = ALLOWED_VERBS | ({"AUTH"} if may_authenticate else set())
        for command in self.carried.commands:
            self.check(command["verb"] in allowed, f"the server carried out {command['line']!r}")
            foreign = [d for d in command.get("domains", []) if not LOCAL_DOMAIN.fullmatch(d.lower().removesuffix("."))]
            is_known = may_authenticate and command.get("authenticated")
            self.check(not foreign or is_known, f"a recipient reached the server that may go to {foreign}: {command['line']!r}")
        sent = [command.verb for command in self.reading.commands]
        self.check(is_subsequence(verbs, sent), f"the server heard {verbs}, the client said {sent}")

    def judge_messages(self):
        stored = [(m["octets"].encode("latin-1"), m["by"], m["reply"]) for m in self.carried.messages]
        stored = [(unstuff(octets) if by == "DATA" else octets, reply) for octets, by, reply in stored]
        sent = self.reading.messages
        self.check(
            is_subsequence([octets for octets, _ in stored], [message.octets for message in sent]),
            "what the server stored is not what the client sent:"
            + "".join(f"\n      stored {escape(octets)[:2000]}" for octets, _ in stored)
            + "".join(f"\n      sent   {escape(message.octets)[:2000]}" for message in sent),
        )
        acknowledged = [message.octets for message in sent if code(message.reply)[:1] == "2"]
        accepted = [octets for octets, reply in stored if reply[:1] == "2"]
        self.check(
            is_subsequence(acknowledged, accepted),
            f"the client was told of {len(acknowledged)} messages, the server accepted {len(accepted)}",
        )
        # The other way round only where both sides stayed to the end.
        if self.seen.end == "closed" and not self.run.case.server:
            self.check(
                len(acknowledged) == len(accepted),
                f"the server accepted {len(accepted)} messages, the client was told of {len(acknowledged)}",
            )

    def judge_expectations(self):
        expected = self.run.case.expectations
        if "hears" in expected:
            verbs = [command["verb"] for command in self.carried.commands[self.seen.started_with :]]
            wanted = [] if expected["hears"] == "nothing" else expected["hears"].split()
            self.check(verbs == wanted, f"expected the server to hear {wanted}, it heard {verbs}")
        if "stores" in expected:
            count = len(self.carried.messages)
            self.check(count == int(expected["stores"]), f"expected {expected['stores']} messages stored, got {count}")
        if "body" in expected:
            first = self.carried.messages[0] if self.carried.messages else {"octets": "", "by": "BDAT"}
            octets = first["octets"].encode("latin-1")
            octets = unstuff(octets) if first["by"] == "DATA" else octets
            wanted = b"".join(unescape(expected["body"]))
            self.check(octets == wanted, f"expected the body {escape(wanted)}, got {escape(octets)}")
        for reason in expected.get("reason", "").split():
            self.check(reason in self.reasons, f"expected the reason {reason}, got {sorted(self.reasons) or 'none'}")
