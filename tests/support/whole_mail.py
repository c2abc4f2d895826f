#!/usr/bin/env python3
"""Sends a corpus of messages to a mail server, and compares what a mail_keeper.py kept of them.

The last line is "N whole of N"; before it stands, for each message that is not whole, where it
differs. A reply other than the expected one is told with the dialogue before it.
"""
import argparse
import collections
import dataclasses
import json
import os
import random
import re
import socket
import sys
import threading

import mail_corpus
import mail_signing

WAYS = ["DATA", "DATA pipelined", "BDAT", "BDAT pipelined"]
# So many replies a pipelining client leaves unread.
MOST_OUTSTANDING = 20
TIMEOUT = 60
NEEDED = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8"}
NEEDED_FOR_BDAT = {"CHUNKING", "BINARYMIME"}


@dataclasses.dataclass(frozen=True)
class Step:
    octets: bytes
    reply: int
    synchronises: bool  # nothing may follow before the reply


class Mailing:
    """One message on one way, under an identity of its own."""

    def __init__(self, identity, message, way, seed):
        self.identity, self.message = identity, message
        self.way, _, pipelined = way.partition(" ")
        self.is_pipelined = bool(pipelined)
        self.rng = random.Random(f"{seed} {identity}")
        self.chunks = []
        if self.way == "BDAT":
            sizes = message.chunks or mail_corpus.choose_chunks(self.rng, message.content)
            self.chunks = [*sizes, len(message.content) - sum(sizes)]
        self.envelope = self.make_envelope()

    def __str__(self):
        pipelined = ", pipelined" if self.is_pipelined else ""
        return f'"{self.message.name}" by {self.way}{pipelined} {self.chunks[:20] or ""}'

    def make_envelope(self):
        content, rng = self.message.content, self.rng
        names = [f"m{self.identity}", *(f"also-{n}" for n in range(rng.choice([0, 0, 0, 2])))]
        mail = "MAIL FROM:<someone@stranger.example>"
        if self.way == "BDAT" and not self.message.is_text:
            mail += " BODY=BINARYMIME"
        elif not content.isascii():
            mail += " BODY=8BITMIME"
        if rng.random() < 0.3:
            mail += f" SIZE={len(content)}"
        if rng.random() < 0.2:
            mail += " SMTPUTF8"
            names[0] = f"grüße-{names[0]}"
        return [mail, *(f"RCPT TO:<{name}@script.example>" for name in names)]

    def body(self):
        content = self.message.content
        if self.way == "DATA":
            stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
            return [(b"DATA\r\n", 354), (stuffed + b".\r\n", 250)]
        result, begin = [], 0
        for number, octets in enumerate(self.chunks, 1):
            last = b" LAST" if number == len(self.chunks) else b""
            result.append((b"BDAT %d%s\r\n" % (octets, last) + content[begin : begin + octets], 250))
            begin += octets
        return result

    def steps(self):
        steps = [(line.encode() + b"\r\n", 250) for line in self.envelope] + self.body()
        return [Step(octets, reply, not self.is_pipelined or reply == 354) for octets, reply in steps]


class Unexpected(Exception):
    """Another reply than it should be, or none."""


class Client:
    """A connection. Whatever may go together is written together, cut at random places at times."""

    def __init__(self, server, needed, rng):
        self.needed, self.rng = needed, rng
        self.dialogue = collections.deque(maxlen=30)
        self.connection = socket.create_connection((server, 25), timeout=TIMEOUT)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.connection.makefile("rb")
        self.unsent = []
        self.outstanding = collections.deque()

    def __enter__(self):
        self.expect(220, "the greeting")
        self.connection.sendall(b"EHLO stranger.example\r\n")
        offers = {line[4:].split()[0] for line in self.expect(250, "EHLO").splitlines()[1:]}
        if missing := self.needed - offers:
            raise Unexpected(f"EHLO does not offer {', '.join(sorted(missing))}, but {offers}")
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.connection.sendall(b"QUIT\r\n")
            self.expect(221, "QUIT")
        self.replies.close()
        self.connection.close()

    def expect(self, code, what):
        reply = ""
        while reply[-2:] != "\r\n" or reply.splitlines()[-1][3:4] == "-":
            line = self.replies.readline().decode("utf-8", "replace")
            reply += line
            if not line:
                break
        self.dialogue.append(f"    S: {reply!r}")
        if not reply.startswith(f"{code} ") and not reply.startswith(f"{code}-"):
            told = "\n".join(self.dialogue)
            raise Unexpected(f"{what}: expected {code}, got {reply!r} after\n{told}")
        return reply

    def write(self, octets):
        octets = memoryview(octets)
        for _ in range(self.rng.choice([0, 0, 0, 0, 0, 0, 0, 1, 5, 30])):
            if not len(octets):
                return
            piece = self.rng.randint(1, min(len(octets), self.rng.choice([1, 3, 100, 10_000])))
            self.connection.sendall(octets[:piece])
            octets = octets[piece:]
        self.connection.sendall(octets)

    def flush(self):
        octets, self.unsent = b"".join(self.unsent), []
        self.write(octets)

    def settle(self, outstanding):
        self.flush()
        while len(self.outstanding) > outstanding:
            self.expect(*self.outstanding.popleft())

    def send(self, mailing):
        for step in mailing.steps():
            self.dialogue.append(f"C: {step.octets[:100]!r} ({len(step.octets)} octets)")
            self.unsent.append(step.octets)
            self.outstanding.append((step.reply, f"{mailing}: {step.octets[:40]!r}"))
            if step.synchronises:
                self.settle(0)
            elif len(self.outstanding) > MOST_OUTSTANDING:
                self.settle(MOST_OUTSTANDING // 2)

    def send_all(self, mailings):
        for mailing in mailings:
            self.send(mailing)
        self.settle(0)


class Run:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.failures = []
        messages = {
            "mixed": lambda: mail_corpus.by_hand() + mail_corpus.generate(options.seed, options.count),
            "huge text": lambda: [mail_corpus.huge(is_text=True)],
            "huge binary": lambda: [mail_corpus.huge(is_text=False)],
            "bare newlines": lambda: mail_corpus.with_bare_newlines(options.seed, options.count),
            "signed": mail_signing.signed_messages,
        }[options.corpus]()
        takes_any = options.corpus == "bare newlines"
        pairs = [(message, way) for message in messages for way in options.way
                 if takes_any or message.is_text or way.startswith("BDAT")]
        random.Random(options.seed).shuffle(pairs)
        self.needed = NEEDED | (NEEDED_FOR_BDAT if any(m[:4] == "BDAT" for m in options.way) else set())
        self.mailings = [Mailing(n, *pair, options.seed) for n, pair in enumerate(pairs)]

    def work(self, number):
        rng = random.Random(f"{self.options.seed} worker {number}")
        mine = self.mailings[number :: self.options.parallel]
        try:
            while mine:
                # Some connections carry one message, some many.
                count = rng.choice([1, 5, 60])
                with Client(self.options.server, self.needed, rng) as client:
                    client.send_all(mine[:count])
                mine = mine[count:]
        except (OSError, Unexpected) as error:
            with self.lock:
                self.failures.append(f"{type(error).__name__}: {error}")

    def send(self):
        workers = [threading.Thread(target=self.work, args=[n]) for n in range(self.options.parallel)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def wanted(self, mailing):
        content = mailing.message.content
        # The model is slow, and changes nothing in text.
        is_mended = (mailing.way == "DATA" and self.options.bare_newlines == "mended"
                     and not mailing.message.is_text)
        return mail_corpus.normalise(content) if is_mended else content

    def judge(self, mailing, entries):
        """What is wrong with what was kept of it, or nothing."""
        if len(entries) != 1:
            return f"kept {len(entries)} times"
        entry = entries[0]
        if (entry["way"], entry["chunks"]) != (mailing.way, mailing.chunks):
            return f"came by {entry['way']} {entry['chunks'][:20]}"
        recipients = [line.removeprefix("RCPT ") for line in mailing.envelope[1:]]
        if entry["recipients"] != recipients:
            return f"came for {entry['recipients']}, not for {recipients}"
        with open(os.path.join(self.options.folder, entry["file"]), "rb") as file:
            kept = file.read()
        if difference := describe_difference(self.wanted(mailing), kept):
            return difference
        return mail_signing.judge(kept) if self.options.corpus == "signed" else None

    def compare(self):
        """The number of messages that are whole."""
        kept = collections.defaultdict(list)
        with open(os.path.join(self.options.folder, "index"), encoding="ascii") as index:
            for line in index:
                entry = json.loads(line)
                kept[int(re.search(r"m(\d+)@", entry["recipients"][0])[1])].append(entry)
        whole = 0
        for mailing in self.mailings:
            wrong = self.judge(mailing, kept.pop(mailing.identity, []))
            whole += not wrong
            if wrong:
                self.failures.append(f"{mailing}: {wrong}")
        self.failures += [f"kept, and never sent: {entries}" for entries in kept.values()]
        return whole


def describe_difference(wanted, got):
    if wanted == got:
        return None
    at = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), min(len(wanted), len(got)))
    around = slice(max(0, at - 40), at + 40)
    return (f"{len(wanted)} octets wanted, {len(got)} kept, and the first difference is at {at}:\n"
            f"    wanted ...{wanted[around]!r}\n    kept   ...{got[around]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    parser.add_argument("--folder", required=True, help="the keeper's")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--way", action="append", choices=WAYS, required=True)
    parser.add_argument("--seed", default=os.environ.get("WHOLE_MAIL_SEED", "1"))
    parser.add_argument("--count", type=int, default=0, help="of generated messages")
    parser.add_argument("--bare-newlines", choices=["mended", "kept"], default="mended",
                        help="what is to become of them in DATA")
    parser.add_argument("--parallel", type=int, default=6)
    run = Run(parser.parse_args())
    run.send()
    whole = run.compare()
    for failure in run.failures[:20]:
        print(failure)
    print(f"{whole} whole of {len(run.mailings)}")
    return whole != len(run.mailings) or bool(run.failures)


if __name__ == "__main__":
    sys.exit(main())
