"""Messages that honest people send, some of them odd: made by hand, and at random from a seed.

A message here is its content, the octets that a mail server must hold in the end. `is_text` says
that it consists of lines that end in CRLF, and so may travel by DATA; all may travel by BDAT.
"""
import dataclasses
import random

CRLF = b"\r\n"
MEBIBYTE = 2**20
LARGEST = 50 * MEBIBYTE
HEADER = b"From: <someone@stranger.example>\r\nSubject: test\r\n\r\n"

# What an SMTP server would obey, were it read as a command.
TEMPTATIONS = [
    b"QUIT", b"RSET", b"DATA", b"MAIL FROM:<a@b.example>", b"RCPT TO:<victim@far.example>",
    b"BDAT 5 LAST", b"250 2.0.0 stored", b"354 go on", b"421 4.3.0 bye", b"\x00.", b". ", b".\t",
    b" .", b".\x00", b"\xff\xf4\xff\xfd\x06", b"\x16\x03\x01", b"From someone", b"-----",
]


@dataclasses.dataclass(frozen=True)
class Message:
    name: str
    content: bytes
    chunks: tuple = ()  # octets of each BDAT but the last; empty: chosen at random

    @property
    def is_text(self):
        rest = self.content.replace(CRLF, b"")
        whole = not self.content or self.content.endswith(CRLF)
        return whole and b"\r" not in rest and b"\n" not in rest


def of_lines(*lines):
    return b"".join(line + CRLF for line in lines)


def by_hand():
    every_octet = bytes(range(256))
    without_newlines = every_octet.replace(b"\r", b"").replace(b"\n", b"")
    messages = [
        Message("empty", b""),
        Message("one empty line", CRLF),
        Message("many empty lines", CRLF * 5000),
        Message("header alone", HEADER),
        Message("one octet and no newline", b"x"),
        Message("a dot", b".\r\n"),
        Message("a dot and no newline", b"."),
        Message("two dots", b"..\r\n"),
        Message("dots alone", of_lines(*(b"." * n for n in range(1, 70)))),
        Message("a dot on each of many lines", b".\r\n" * 3000),
        Message("lines that start with dots", of_lines(*(b"." * n + b"text" for n in range(9)))),
        Message("the end of data inside", HEADER + of_lines(b"a", b".", b"b", b".", b"", b".")),
        Message("the end of data first", b".\r\n" + HEADER),
        Message("temptations", HEADER + of_lines(*TEMPTATIONS)),
        Message("temptations behind dots", HEADER + of_lines(*(b"." + t for t in TEMPTATIONS))),
        Message("no header", of_lines(b"no header at all")),
        Message("utf-8", HEADER + of_lines("Grüße, 你好, привет, 🙂".encode(), "ẞ".encode() * 400)),
        Message("latin-1", HEADER + of_lines(bytes(range(0xA0, 0x100)))),
        Message("every octet but newlines", HEADER + of_lines(without_newlines)),
        Message("every octet doubled", of_lines(*(bytes([o, o]) for o in without_newlines))),
        Message("NULs", HEADER + of_lines(b"\x00", b"\x00" * 100, b"a\x00b", b".\x00")),
        Message("trailing white space", HEADER + of_lines(b"a ", b"b\t", b" ", b"\t ", b"", b"")),
        Message("folded header", b"Subject: a\r\n b\r\n\tc\r\nX: " + b"y" * 900 + b"\r\n\r\n"),
        Message("binary: every octet", every_octet),
        Message("binary: every octet, thrice, a chunk each", every_octet * 3, (1,) * 300),
        Message("binary: NULs", b"\x00" * 5000),
        Message("binary: newlines", b"\n\r\r\n\n\r.\r\n.\n.\r.\r\n"),
        Message("binary: bare newlines", HEADER + b"a\nb\rc\n.\nd\r.\re\r\n.\r\n"),
        Message("binary: a CR at the end", b"text\r"),
        Message("binary: an LF at the end", b"text\n"),
        Message("binary: commands", b"\r\n.\r\n" + of_lines(*TEMPTATIONS)),
        Message("chunk border inside CRLF", of_lines(b"one", b"two", b"three"), (4, 5, 1, 5, 1)),
        Message("chunk border inside CRLF.CRLF", HEADER + b"\r\n.\r\n", (len(HEADER) + 1, 1, 1)),
        Message("an octet a chunk", of_lines(b".", b"", b".x", b"y"), (1,) * 11),
        Message("empty chunks", of_lines(b"a", b"b"), (0, 0, 3, 0, 1, 0)),
        Message("nothing but empty chunks", b"", (0, 0, 0)),
        Message("nothing in the last chunk", HEADER, (len(HEADER),)),
        Message("two in the first chunk", HEADER, (2,)),
    ]
    for octets in (997, 998, 999, 1000, 1001, 4094, 4095, 4096, 4097, 100_000, MEBIBYTE):
        line = (b"long and longer " * (octets // 16 + 1))[:octets]
        messages.append(Message(f"a line of {octets}", HEADER + of_lines(line, b".after")))
        messages.append(Message(f"a line of {octets} dots", HEADER + of_lines(b"." * octets)))
    for octets in (1, 2, 511, 512, 4095, 4096, 4097, 65535, 65536, 262_143, 262_144, 262_145):
        # All blocks of one size: buffers of the same size meet the borders again and again.
        content = random.Random(octets).randbytes(3 * octets + 7)
        messages.append(Message(f"binary: chunks of {octets}", content, (octets,) * 3))
    return messages


def word(rng):
    return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz.", k=rng.randint(1, 12)))


def text_line(rng):
    return b" ".join(word(rng) for _ in range(rng.randint(0, 14)))


def eight_bit_line(rng):
    return "".join(rng.choices("aé.ß 你🙂ж", k=rng.randint(0, 200))).encode()


def dotted_line(rng):
    return b"." * rng.randint(0, 5) + rng.choice([b"", b"", text_line(rng), b" ", b"\x00"])


def long_line(rng):
    return bytes(rng.choices(b"abc. =", k=10)) * rng.randint(1, 900)


def base64_like(rng):
    return bytes(rng.choices(b"ABCDEFabcdef0123456789+/", k=76))


def any_octets_line(rng):
    return rng.randbytes(rng.randint(0, 300)).replace(b"\r", b"").replace(b"\n", b"")


TEXT_LINES = [text_line, eight_bit_line, dotted_line, long_line, base64_like, any_octets_line,
              lambda rng: rng.choice(TEMPTATIONS)]


def generate_text(rng):
    """A header, and lines of a few kinds, or a few pieces of newlines and dots."""
    if rng.random() < 0.2:
        return b"".join(rng.choices([b"\r\n", b".", b"..", b"a"], k=rng.randint(0, 60))) + CRLF
    kinds = rng.sample(TEXT_LINES, k=rng.randint(1, 3))
    return HEADER + of_lines(*(rng.choice(kinds)(rng) for _ in range(rng.randint(0, 120))))


def generate_binary(rng):
    if rng.random() < 0.4:
        return b"".join(rng.choices([b"\r", b"\n", b"\r\n", b".", b"\x00", b"a"], k=rng.randint(0, 80)))
    return rng.randbytes(rng.choice([10, 1000, 5000, 70_000]) + rng.randint(0, 9))


def generate(seed, count):
    messages = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        make = generate_text if number % 4 else generate_binary
        messages.append(Message(f"{make.__name__} {number}, seed {seed}", make(rng)))
    return messages


def choose_chunks(rng, content):
    """Octets of each BDAT but the last, which takes the rest."""
    style = rng.randrange(4)
    if style == 0:
        return ()
    if style == 1:
        return (len(content),)  # then BDAT 0 LAST
    if style == 2 and (at := content.find(CRLF, rng.randint(0, len(content)))) >= 0:
        return (at + 1,)
    sizes, left = [], len(content)
    while left and len(sizes) < 12:
        sizes.append(min(left, rng.choice([0, 1, 2, 3, 64, 4095, 4096, 4097, left])))
        left -= sizes[-1]
    return tuple(sizes)


def huge(is_text):
    """50 MiB: lines, some of which start with dots, or octets of every value."""
    if is_text:
        rng = random.Random(50)
        block = of_lines(*(rng.choice([text_line, dotted_line])(rng) for _ in range(20_000)))
        content = (HEADER + block * (LARGEST // len(block) + 1))[: LARGEST - 2].rstrip(b"\r\n.")
        return Message("50 MiB of text", content.ljust(LARGEST - 2, b"x") + CRLF)
    return Message("50 MiB of octets", random.Random(51).randbytes(LARGEST), (0, 1, MEBIBYTE) + (MEBIBYTE,) * 20)


# Pieces of bodies that a client should not send, and some do.
NEWLINES = [b"\r", b"\n", b"\r\n", b"\r\n", b".", b"..", b"a", b" ", b"\x00"]


def with_bare_newlines(seed, count):
    messages = []
    for number in range(count):
        rng = random.Random(f"bare {seed} {number}")
        content = b"".join(rng.choices(NEWLINES, k=rng.randint(1, 40))) + b"a\r\n"
        messages.append(Message(f"with bare newlines {number}, seed {seed}", content))
    return messages


def normalise(content):
    """What postern.toml(5) says of bare_newline = "normalize", octet by octet."""
    result, at = bytearray(), 0
    while at < len(content):
        octet = content[at : at + 1]
        if octet == b"\r" and content[at + 1 : at + 2] == b"\n":
            at += 1
        result += CRLF if octet in CRLF else octet
        at += 1
    return bytes(result)
