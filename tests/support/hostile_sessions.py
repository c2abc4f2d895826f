#!/usr/bin/env python3
"""Runs the sessions of a file (session_cases.py) through Postern, and judges each (session_judge.py).

Prints what went wrong in which case, with the dialogue, and the sum as its last line. The exit status
is 1 when anything went wrong. With --real the server behind is one that says nothing of what it does:
then no particular replies are expected, and cases with `server:` lines are left out.
"""
import argparse
import asyncio
import collections
import fcntl
import json
import re
import socket
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field

from session_cases import STARTS, escape, read_sessions, runs_of
from session_judge import Carried, Judge, carried_out, code

IPV6_FREEBIND = 78
# For a reply that a real server may give or not, as it likes.
REAL_PATIENCE = 1


@dataclass
class Seen:
    """A session from the client's side."""

    sent: bytes = b""
    replies: list = field(default_factory=list)
    unparsed: bytes = b""
    end: str = "open"  # closed, reset: by the other side; ours
    was_half_closed: bool = False  # before the other side closed
    started_with: int = 0  # commands of `start:`
    mistakes: list = field(default_factory=list)
    dialogue: list = field(default_factory=list)


class Client:
    def __init__(self, run, options):
        self.run, self.options = run, options
        self.seen = Seen(started_with=sum(bool(octets) for _, octets in STARTS[run.case.start]))
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Condition()
        self.awaited = 0
        self.socket = None

    async def connect(self):
        is_v6 = self.run.family == "IPv6"
        self.socket = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        self.socket.bind((self.run.client, 0))
        server = self.options.server[is_v6]
        await asyncio.wait_for(self.loop.sock_connect(self.socket, (server, 25)), self.options.patience)

    async def read_all(self):
        """Until the other side closes; cut into replies as they come."""
        unread, end = b"", "closed"
        try:
            while octets := await self.loop.sock_recv(self.socket, 65536):
                unread += octets
                while reply := re.match(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n", unread):
                    self.seen.replies.append(reply[0])
                    self.seen.dialogue.append(("C<", reply[0]))
                    unread = unread[reply.end() :]
                await self.tell()
        except OSError:
            end = "reset"
        self.seen.unparsed = unread
        if self.seen.end == "open":
            self.seen.end = end
        await self.tell()

    async def tell(self):
        async with self.news:
            self.news.notify_all()

    async def wait_for(self, condition, patience=None):
        try:
            async with self.news:
                await asyncio.wait_for(self.news.wait_for(condition), patience or self.options.patience)
            return True
        except asyncio.TimeoutError:
            return False

    async def send(self, segments):
        for number, segment in enumerate(segments):
            self.seen.dialogue.append(("C>", segment))
            self.seen.sent += segment
            try:
                await asyncio.wait_for(self.loop.sock_sendall(self.socket, segment), self.options.patience)
                if number + 1 < len(segments):
                    await self.arrival()
            except (OSError, asyncio.TimeoutError):
                return  # closed by the other side, as the replies will tell

    async def arrival(self):
        """Of what was sent, at the other end's kernel: so the next octets are a segment of their own."""
        deadline = time.monotonic() + self.options.patience
        while time.monotonic() < deadline:
            unsent = struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0]
            if unsent == 0 or self.seen.end != "open":
                return
            await asyncio.sleep(0.0005)

    async def expect(self, beginning, place):
        self.awaited += 1
        patience = REAL_PATIENCE if self.options.real else None
        await self.wait_for(lambda: len(self.seen.replies) >= self.awaited or self.seen.end != "open", patience)
        if self.options.real:
            return
        got = self.seen.replies[self.awaited - 1] if len(self.seen.replies) >= self.awaited else None
        if got is None or not got.startswith(beginning.encode()):
            shown = escape(got) if got else "nothing"
            self.seen.mistakes.append(f"{place}: expected a reply that begins with {beginning!r}, got {shown}")

    def half_close(self):
        self.seen.dialogue.append(("! ", b"half-close"))
        if self.seen.end == "open":
            self.seen.was_half_closed = True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed by the other side meanwhile

    def close(self, with_reset):
        self.seen.dialogue.append(("! ", b"reset" if with_reset else b"close"))
        self.seen.end = "ours"
        if with_reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def act(self, step):
        if step.text == "half-close":
            self.half_close()
        elif step.text == "closed":
            patience = REAL_PATIENCE if self.options.real else None
            closed = await self.wait_for(lambda: self.seen.end != "open", patience)
            if not closed and not self.options.real:
                self.seen.mistakes.append(f"line {step.line}: expected the session to be ended")
        else:
            self.close(step.text == "reset")

    def cut(self, segments, sent_before):
        """The same octets in the segments that `cut:` asks for."""
        case = self.run.case
        if self.run.cut_at:
            cut, result = self.run.cut_at - sent_before, []
            for segment in segments:
                result += [part for part in (segment[: max(cut, 0)], segment[max(cut, 0) :]) if part]
                cut -= len(segment)
            return result
        if case.cut and case.cut != "everywhere":
            size = int(case.cut)
            return [s[at : at + size] for s in segments for at in range(0, len(s), size)]
        return segments

    async def begin(self):
        for beginning, octets in STARTS[self.run.case.start]:
            if octets:
                await self.send([octets])
            await self.expect(beginning, "start")

    async def converse(self):
        await self.begin()
        sent_in_steps = 0
        for step in self.run.case.steps:
            if self.seen.end == "ours":
                raise ValueError(f"{self.run.case.place}: line {step.line}: this side has closed")
            if step.kind == "send":
                await self.send(self.cut(step.segments, sent_in_steps))
                sent_in_steps += sum(len(segment) for segment in step.segments)
            elif step.kind == "await":
                await self.expect(step.text, f"line {step.line}")
            else:
                await self.act(step)
        if self.seen.end == "open":
            if not self.seen.was_half_closed:
                self.half_close()
            await self.wait_for(lambda: self.seen.end != "open")

    async def perform(self):
        try:
            await self.connect()
        except (OSError, asyncio.TimeoutError) as error:
            self.seen.mistakes.append(f"cannot connect: {error!r}")
            return self.seen
        reader = asyncio.create_task(self.read_all())
        try:
            await self.converse()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self.socket.close()
        return self.seen


async def perform_all(runs, options):
    slots = asyncio.Semaphore(options.at_once)

    async def perform(run):
        async with slots:
            return await Client(run, options).perform()

    return await asyncio.gather(*(perform(run) for run in runs))


def read_record(options):
    """The server's lines, once every session has come to its end; and the clients of those that have not."""
    deadline = time.monotonic() + options.patience
    while True:
        with open(options.record, encoding="ascii") as file:
            events = [json.loads(line) for line in file if line.endswith("\n")]
        still_open = {event["session"]: event["peer"] for event in events if event["event"] == "connect"}
        for event in events:
            if event["event"] == "end":
                del still_open[event["session"]]
        if not still_open or time.monotonic() > deadline:
            return events, set(still_open.values())
        time.sleep(0.01)


def read_reasons(options):
    """By client address, from `postern blocked`."""
    reasons = collections.defaultdict(set)
    command = [options.postern, "blocked", "--json", "--limit", "100000", "--socket", options.socket]
    answer = subprocess.run(command, capture_output=True, check=True, text=True)
    for line in answer.stdout.splitlines():
        attempt = json.loads(line)
        reasons[attempt["client"]].add(attempt["reason"])
    return reasons


def describe(run, seen, carried, mistakes):
    text = f"FAILED {run.place}, from {run.client}\n"
    text += "".join(f"  {mistake}\n" for mistake in mistakes)
    text += "  client and Postern:\n"
    for side, octets in seen.dialogue:
        text += f"    {side} {escape(octets)[:3000]}\n"
    text += f"    the client sees: {seen.end}\n"
    if carried:
        text += "  Postern and server:\n"
        for command in carried.commands:
            text += f"    S< {escape(command['line'].encode('latin-1'))[:3000]}   -> {command['reply']}\n"
        for message in carried.messages:
            text += f"    stored: {escape(message['octets'].encode('latin-1'))[:3000]}   -> {message['reply']}\n"
    return text


def judge_all(runs, sessions, options):
    events, still_open = ([], set()) if options.real else read_record(options)
    carried = carried_out(events)

    def carried_by(run):
        return None if options.real else carried.get(run.client, Carried([], []))

    reasons = {} if options.real else read_reasons(options)
    failed = acknowledged = 0
    for run, seen in zip(runs, sessions):
        judge = Judge(run, seen, carried_by(run), reasons.get(run.client, set()))
        acknowledged += sum(code(message.reply)[:1] == "2" for message in judge.reading.messages)
        judge.check(run.client not in still_open, "the session stays open between Postern and the server")
        if mistakes := judge.judge():
            failed += 1
            print(describe(run, seen, carried_by(run), mistakes))
    return failed, acknowledged


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", nargs=2, required=True, metavar=("IPV4", "IPV6"))
    parser.add_argument("--record", metavar="FILE", help="of gullible_server.py")
    parser.add_argument("--postern", metavar="PROGRAM")
    parser.add_argument("--socket", metavar="PATH", help="posternd's control socket")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--patience", type=float, default=15, metavar="SECONDS")
    parser.add_argument("--at-once", type=int, default=24, metavar="N")
    parser.add_argument("--only", default="", metavar="WORDS", help="cases with these words in their title")
    parser.add_argument("sessions", metavar="FILE.session")
    options = parser.parse_args()
    runs = [run for run in runs_of(read_sessions(options.sessions).cases)
            if options.only in run.case.title and not (options.real and run.case.server)]
    seen = asyncio.run(perform_all(runs, options))
    failed, acknowledged = judge_all(runs, seen, options)
    cases = len({run.case.line for run in runs})
    print(f"{len(runs)} sessions of {cases} cases, {failed} failed, {acknowledged} messages acknowledged")
    return failed > 0 or not runs


if __name__ == "__main__":
    sys.exit(main())
