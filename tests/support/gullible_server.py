#!/usr/bin/env python3
"""A mail server that believes everything, for the sessions of session_cases.py.

CR, LF and CRLF each end a line, and a dot alone on any such line ends a message. Commands are taken
in any case, behind blanks, with or without blanks, colons and brackets, with junk behind them, and
in any order. XCLIENT, ETRN, BURL, VRFY and all the others are obeyed. DATA needs no recipient. Only a
BDAT that it does not expect (no recipient, or CHUNKING not offered) is refused, and then its octets
are carried out as commands. So is, in an AUTH exchange, what is no base64. What even this server does
not do, no server does.

It writes down what it carries out, one JSON line each, before it answers. Octets are characters of
the same number; `reply` is the code it gives, "" if none:
    {"event": "connect", "session": 1, "peer": "198.18.0.1"}
    {"event": "command", "session": 1, "verb": "RCPT", "line": "RCPT TO:<a@example.org>",
                         "domains": ["example.org"], "authenticated": false, "reply": "250"}
    {"event": "message", "session": 1, "octets": "...", "by": "DATA", "reply": "250"}
    {"event": "end",     "session": 1}
`domains` are all that a recipient might be sent on to. Each of its own replies carries its number and
what it answers, as "250 2.1.5 #4 RCPT", so that a reply given to another command is seen.

A client's address says which case it runs, and the case's `server:` lines how it is treated:
    without CHUNKING DSN       EHLO does not show these
    size 1000                  EHLO says SIZE 1000
    RCPT#2 450 4.2.1 later     the second RCPT gets this reply; without #2: each. Escapes as there
    RCPT#2 close               closes; without a reply of its own line before, says nothing
    RCPT#2 reset               the same with a RST
    RCPT#2 silent              never answers
    RCPT#2 hold 100            so many milliseconds before the reply
    RCPT#2 forget              forgets the transaction, whatever it replies
Besides verbs: CONNECT, BODY (its first octet has come: a reply is too early), MESSAGE (a whole one has
come), CHUNK (one of BDAT's has), RESPONSE (to a 334). BDAT is answered at CHUNK or MESSAGE; a reply at BDAT is too early.
"""
import argparse
import asyncio
import json
import re
import socket
import struct
import sys

from session_cases import read_sessions, runs_of, unescape

OFFERS = ["PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "CHUNKING",
          "BINARYMIME", "STARTTLS", "AUTH PLAIN LOGIN", "ETRN", "BURL imap", "XCLIENT ADDR NAME", "XFORWARD ADDR",
          "VRFY", "EXPN", "HELP"]
VERBS = ["HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "STARTTLS", "AUTH", "XCLIENT",
         "XFORWARD", "BURL", "ETRN", "ATRN", "TURN", "VRFY", "EXPN", "SEND", "SOML", "SAML", "HELP"]
JUNK = bytes(range(33)) + b"\x7f\xff"


class Habits:
    """What the `server:` lines of a case say."""

    def __init__(self, lines):
        self.without, self.size, self.actions = set(), None, []
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "without":
                self.without |= set(rest.split())
            elif word == "size":
                self.size = rest
            else:
                event, _, number = word.partition("#")
                self.actions.append((event, int(number or 0), rest))

    def offers(self):
        for offer in OFFERS:
            keyword = offer.split()[0]
            if keyword == "SIZE" and self.size:
                offer = f"SIZE {self.size}"
            if keyword not in self.without:
                yield offer

    def at(self, event, count):
        return [what for name, number, what in self.actions if name == event and number in (0, count)]


def verb_of(line):
    text = line.lstrip(JUNK).decode("latin-1").upper()
    for verb in VERBS:
        if text.startswith(verb):
            return verb
    return re.match(r"\S*", text)[0]


def end_of_path(text):
    """Where the first ">" outside quotes stands."""
    quoted = False
    at = 0
    while at < len(text):
        if quoted and text[at] == "\\":
            at += 1
        elif text[at] == '"':
            quoted = not quoted
        elif text[at] == ">" and not quoted:
            return at
        at += 1
    return len(text)


def domains_of(line):
    """Every domain that some server might send this recipient on to; "" if it has none at all."""
    text = re.sub(r"^[\W_]*RCPT[\s:]*(TO)?[\s:]*", "", line.decode("utf-8", "surrogateescape"), flags=re.I)
    end = end_of_path(text)
    # More mailboxes behind the first one; parameters are none.
    rest = re.sub(r"(?<=\s)[\w-]+=\S*", "", text[end + 1 :])
    others = re.findall(r"<[^>]*@[^>]*|(?<=[,\s])[^\s<>,]+@[^\s<>,]+", rest)
    found = []
    for path in [text[:end].lstrip("< "), *others]:
        behind = re.findall(r"[@%]([^\s\"@,:%!<>\\]*)", path)
        before = re.findall(r"([^\s\"@,:%!<>]+)(?:!|::)", path)
        found += behind + before or ["" if not re.fullmatch(r'"?postmaster"?', path.strip(), re.I) else "postmaster"]
    return found


class Session:
    def __init__(self, server, number, reader, writer):
        self.server, self.number = server, number
        self.reader, self.writer = reader, writer
        self.peer = writer.get_extra_info("peername")[0]
        self.habits = Habits(server.lines_for(self.peer))
        self.counts = {}
        self.replies = 0
        self.closed = False
        self.unread = b""
        self.skips_lf = False
        self.state = "command"
        self.is_authenticated = False
        self.chunk_octets, self.chunk_is_last, self.chunk_was_answered = 0, False, False
        self.forget()

    def forget(self):
        self.message, self.recipients = b"", 0

    def record(self, event, **fields):
        self.server.record.write(json.dumps({"event": event, "session": self.number, **fields}) + "\n")
        self.server.record.flush()

    # What becomes of an event: the actions, and the code that the client will read.
    def plan(self, event, usual, about=None):
        self.counts[event] = self.counts.get(event, 0) + 1
        actions = self.habits.at(event, self.counts[event])
        if all(action.startswith(("hold", "forget")) for action in actions) and usual:
            self.replies += 1
            code, _, rest = usual.partition(" ")
            separator = "-" if "\r\n" in usual else " "
            actions.append(f"{code}{separator}#{self.replies} {about or event} {rest}")
        code = next((action[:3] for action in actions if action[:3].isdigit()), "")
        return actions, code

    async def perform(self, actions):
        for action in actions:
            word, _, rest = action.partition(" ")
            if word == "hold":
                await asyncio.sleep(int(rest) / 1000)
            elif word == "forget":
                self.forget()
            elif word == "close":
                self.closed = True
            elif word == "reset":
                linger = struct.pack("ii", 1, 0)
                self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.writer.transport.abort()
                self.closed = True
            elif word != "silent":
                self.writer.write(b"".join(unescape(action)) + b"\r\n")
                await self.writer.drain()

    def take_line(self):
        """(line, its line end), or None. A CR ends a line at once, without waiting for an LF."""
        if self.skips_lf and self.unread:
            self.skips_lf = False
            if self.unread[:1] == b"\n":
                self.unread = self.unread[1:]
                if self.state == "body" and self.message:
                    self.message += b"\n"
        end = re.search(rb"[\r\n]", self.unread)
        if not end:
            return None
        line, self.unread = self.unread[: end.start()], self.unread[end.end() :]
        self.skips_lf = end[0] == b"\r"
        return line, end[0]

    async def on_body_octets(self):
        if self.unread and not self.counts.get("BODY", 0):
            await self.perform(self.plan("BODY", "")[0])
        if (taken := self.take_line()) is None:
            return False
        line, end = taken
        if line != b".":
            self.message += line + end
            return True
        self.state = "command"
        actions, code = self.plan("MESSAGE", "250 2.0.0 stored")
        self.record("message", octets=self.message.decode("latin-1"), by="DATA", reply=code)
        self.forget()
        await self.perform(actions)
        return True

    async def on_chunk_octets(self):
        # The line end of the BDAT is not of the chunk: an LF that follows its CR is dropped.
        if self.skips_lf and self.unread:
            self.skips_lf = False
            self.unread = self.unread.removeprefix(b"\n")
        taken = self.unread[: self.chunk_octets]
        self.unread = self.unread[len(taken) :]
        self.message += taken
        self.chunk_octets -= len(taken)
        if self.chunk_octets > 0:
            return False
        self.state = "command"
        event = "MESSAGE" if self.chunk_is_last else "CHUNK"
        actions, code = self.plan(event, "" if self.chunk_was_answered else "250 2.0.0 octets", "BDAT")
        if self.chunk_is_last:
            self.record("message", octets=self.message.decode("latin-1"), by="BDAT", reply=code)
        if self.chunk_is_last or code[:1] in "45":
            self.forget()
        await self.perform(actions)
        return True

    def usual_reply(self, verb, line):
        if verb == "EHLO":
            return "250 mx.example.org" + "".join(f"\r\n250-{offer}" for offer in self.habits.offers()) + "\r\n250 OK"
        if verb == "BDAT":
            size = re.match(rb"[\x00-\x20]*BDAT[\s:]*(\d+)", line, re.I)
            if "CHUNKING" in self.habits.without or not self.recipients or not size:
                return "503 5.5.1 not expected"
            self.chunk_octets = int(size[1])
            self.chunk_is_last = b"LAST" in line.upper()
            self.state = "chunk"
            return ""
        if verb == "AUTH":
            return "235 2.7.0 welcome" if len(line.split()) > 2 else "334 go on"
        replies = {"DATA": "354 go on", "QUIT": "221 2.0.0 bye", "STARTTLS": "220 go on",
                   "VRFY": "252 2.0.0 perhaps", "HELP": "214 2.0.0 no"}
        return replies.get(verb, "250 2.0.0 done")

    async def on_command(self, line):
        verb = verb_of(line)
        actions, code = self.plan(verb, self.usual_reply(verb, line))
        self.chunk_was_answered = self.state == "chunk" and code != ""
        known = self.is_authenticated
        fields = {"domains": domains_of(line), "authenticated": known} if verb == "RCPT" else {}
        self.record("command", verb=verb, line=line.decode("latin-1"), reply=code, **fields)
        if code[:1] in ("2", "3"):
            if verb in ("HELO", "EHLO", "MAIL", "RSET"):
                self.forget()
            self.recipients += verb == "RCPT"
            if verb == "DATA" and code == "354":
                self.state = "body"
                self.counts.pop("BODY", None)
        if verb == "AUTH":
            self.on_auth_reply(code)
        await self.perform(actions)
        self.closed |= verb == "QUIT" and code == "221"

    def on_auth_reply(self, code):
        self.state = "response" if code == "334" else "command"
        self.is_authenticated |= code == "235"

    async def on_response(self, line):
        if line != b"*" and re.search(rb"[^A-Za-z0-9+/=]", line):
            self.state = "command"
            return await self.on_command(line)
        usual = "501 5.7.0 cancelled" if line == b"*" else "235 2.7.0 welcome"
        actions, code = self.plan("RESPONSE", usual, "AUTH")
        self.on_auth_reply(code)
        await self.perform(actions)

    async def take(self, octets):
        self.unread += octets
        goes_on = True
        while goes_on and not self.closed:
            if self.state == "body":
                goes_on = await self.on_body_octets()
            elif self.state == "chunk":
                goes_on = await self.on_chunk_octets()
            elif (taken := self.take_line()) is not None:
                await (self.on_response if self.state == "response" else self.on_command)(taken[0])
            else:
                goes_on = False

    async def run(self):
        self.record("connect", peer=self.peer)
        try:
            await self.perform(self.plan("CONNECT", "220 mx.example.org ESMTP")[0])
            while not self.closed and (octets := await self.reader.read(65536)):
                await self.take(octets)
        except ConnectionError:
            pass
        finally:
            self.record("end")
            self.writer.close()


class Server:
    def __init__(self, options):
        self.options = options
        self.record = open(options.record, "a", encoding="ascii")
        self.cases = {run.client: run.case for run in runs_of(read_sessions(options.sessions).cases)}
        self.sessions = 0

    def lines_for(self, peer):
        return self.cases[peer].server if peer in self.cases else []

    async def accept(self, reader, writer):
        self.sessions += 1
        await Session(self, self.sessions, reader, writer).run()

    async def serve(self):
        listeners = [await asyncio.start_server(self.accept, address, 25, backlog=1024)
                     for address in self.options.listen]
        print("ready", flush=True)
        await asyncio.gather(*(listener.serve_forever() for listener in listeners))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS")
    parser.add_argument("--record", required=True, metavar="FILE")
    parser.add_argument("sessions", metavar="FILE.session")
    try:
        asyncio.run(Server(parser.parse_args()).serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
