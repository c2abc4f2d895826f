"""Hostile sessions written down: the files tests/netns/hostile/*.session.

A file begins with what all its cases share, and then has one case after another:

    # a comment
    smtp: bare_newline = "reject"           a line for [smtp] of postern.toml; any number of them
    mailer: allow_address_literals = true   likewise for the [[mailer]]

    == a percent sign in the local part     a case, and what it is about
    server: RCPT#2 450 4.2.1 later          how the server behaves (gullible_server.py); any number
    start: mail                             what has gone well before the first line (see STARTS)
    cut: 1                                  sends segments of so many octets; "everywhere": runs the
                                            case once for each place where its octets can be cut in two
    C> RCPT TO:<a%b@example.org>            what the client sends; CRLF is added
    C< 550 5.7.1                            what the next reply begins with; it is waited for
    ! half-close                            also: close, reset (with RST), closed (waits for the
                                            other side to close)
    reason: routing_character               expectations at the end, see EXPECTATIONS

Lines that the client sends one after the other go out together. Escapes, as in
tests/support/transcript.hpp: \\r \\n \\t \\0 \\xHH \\\\ and \\{c*N} for N times c; \\c at the end of a
line: no CRLF here. And \\| : a segment ends here, the rest is sent once this has arrived.
"""
import re
from dataclasses import dataclass, field

# What `start:` stands for: the commands that have been answered well before the case's own lines.
GREETING = ("220", b"")
STARTS = {
    "connected": [],  # nothing was read or sent
    "greeted": [GREETING],
    "helo": [GREETING, ("250", b"HELO stranger.example\r\n")],
    "ehlo": [GREETING, ("250", b"EHLO stranger.example\r\n")],
}
STARTS["mail"] = [*STARTS["ehlo"], ("250", b"MAIL FROM:<someone@stranger.example>\r\n")]
STARTS["rcpt"] = [*STARTS["mail"], ("250", b"RCPT TO:<user@example.org>\r\n")]
STARTS["data"] = [*STARTS["rcpt"], ("354", b"DATA\r\n")]

# Besides what is checked of every session (session_judge.py).
EXPECTATIONS = {
    "reason": "words that `postern blocked` gives for this client, each at least once",
    "hears": "the verbs that the server carried out behind the start, in order; or nothing",
    "stores": "how many messages the server stored",
    "body": "the octets of the first of them, escaped",
}
ACTS = ("half-close", "close", "reset", "closed")


class Mistake(Exception):
    """A file that cannot be read."""


@dataclass
class Step:
    line: int
    kind: str  # send, await, act
    text: str = ""  # await: the beginning of the reply; act: which
    segments: list = field(default_factory=list)  # send


@dataclass
class Case:
    path: str
    line: int
    title: str
    mailer: list = field(default_factory=list)  # its file's
    start: str = "ehlo"
    cut: str = ""
    server: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    expectations: dict = field(default_factory=dict)

    @property
    def place(self):
        return f"{self.path}:{self.line}: {self.title}"


@dataclass
class SessionFile:
    smtp: list = field(default_factory=list)
    mailer: list = field(default_factory=list)
    cases: list = field(default_factory=list)


ESCAPE = re.compile(r"\\(?:([rnt0\\|])|x([0-9A-Fa-f]{2})|\{((?:[^}\\]|\\.[0-9A-Fa-f]{0,2})+)\*(\d+)\})")
SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text):
    """The segments that the text stands for: a list of bytes, cut at each \\|."""
    segments, at = [b""], 0
    for match in re.finditer(r"\\", text):
        if match.start() < at:
            continue  # inside an escape
        segments[-1] += text[at : match.start()].encode()
        escape = ESCAPE.match(text, match.start())
        if not escape:
            raise Mistake(f"unknown escape: {text[match.start():]}")
        simple, octet, repeated, times = escape.groups()
        if simple == "|":
            segments.append(b"")
        elif simple:
            segments[-1] += SIMPLE[simple]
        elif octet:
            segments[-1] += bytes([int(octet, 16)])
        else:
            segments[-1] += b"".join(unescape(repeated)) * int(times)
        at = escape.end()
    segments[-1] += text[at:].encode()
    return segments


def escape(octets):
    """One line a line, for people."""
    names = {10: "\\n", 13: "\\r", 9: "\\t", 0: "\\0", 92: "\\\\"}
    text = "".join(
        names.get(octet) or (chr(octet) if 32 <= octet < 127 else f"\\x{octet:02X}") for octet in octets
    )
    return re.sub(r"(.)\1{39,}", lambda run: f"\\{{{run[1]}*{len(run[0])}}}", text)


def add_sent(case, number, text):
    has_crlf = not text.endswith("\\c")
    segments = unescape(text if has_crlf else text[:-2])
    segments[-1] += b"\r\n" if has_crlf else b""
    if case.steps and case.steps[-1].kind == "send":
        last = case.steps[-1].segments
        last[-1] += segments[0]
        last += segments[1:]
    else:
        case.steps.append(Step(number, "send", segments=segments))


def read_case_line(case, number, line):
    if line.startswith("C>"):
        add_sent(case, number, line[3:])
    elif line.startswith("C<"):
        case.steps.append(Step(number, "await", line[3:]))
    elif line.startswith("! "):
        if line[2:] not in ACTS:
            raise Mistake(f"expected one of {', '.join(ACTS)}")
        case.steps.append(Step(number, "act", line[2:]))
    else:
        key, _, value = line.partition(": ")
        if key == "server":
            case.server.append(value)
        elif key == "start" and value in STARTS:
            case.start = value
        elif key == "cut" and re.fullmatch(r"\d+|everywhere", value):
            case.cut = value
        elif key in EXPECTATIONS:
            case.expectations[key] = value
        else:
            raise Mistake("neither a step nor a key that a case has")


def read_sessions(path):
    result = SessionFile()
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines, 1):
        try:
            if not line or line.startswith("#"):
                continue
            if line.startswith("== "):
                result.cases.append(Case(path, number, line[3:], result.mailer))
            elif result.cases:
                read_case_line(result.cases[-1], number, line)
            elif line.startswith("smtp: "):
                result.smtp.append(line[6:])
            elif line.startswith("mailer: "):
                result.mailer.append(line[8:])
            else:
                raise Mistake("neither a key that a file has, nor the first case")
        except Mistake as mistake:
            raise Mistake(f"{path}:{number}: {line}: {mistake}") from None
    return result


@dataclass
class Run:
    """A case over one address family, from an address that no other run has."""

    number: int
    case: Case
    family: str  # IPv4, IPv6
    client: str
    cut_at: int = 0  # cut: everywhere

    @property
    def place(self):
        cut = f", cut behind {self.cut_at} octets" if self.cut_at else ""
        return f"{self.case.place} ({self.family}{cut})"


# Networks outside; tests/netns/hostile_sessions_test.cpp routes them. A /64 a run, as limits count.
def client_address(number, family):
    if family == "IPv4":
        return f"198.18.{number // 250}.{number % 250 + 1}"
    return f"2001:db8:f000:{number:x}::2"


def runs_of(cases):
    """Every case over both families; one cut everywhere takes them in turn."""
    runs = []

    def add(case, family, cut_at=0):
        runs.append(Run(len(runs), case, family, client_address(len(runs), family), cut_at))

    for case in cases:
        if case.cut == "everywhere":
            octets = sum(len(s) for step in case.steps for s in step.segments)
            for cut_at in range(1, octets):
                add(case, ("IPv4", "IPv6")[cut_at % 2], cut_at)
        else:
            add(case, "IPv4")
            add(case, "IPv6")
    return runs
