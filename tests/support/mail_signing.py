"""DKIM: messages with signatures, and whether a signature still holds. Keys are made at each run.

The "DNS" is a table in this process.
"""
import base64
import subprocess

import dkim
import nacl.encoding
import nacl.signing

from mail_corpus import Message, of_lines

DOMAIN = b"stranger.example"
HEADER = of_lines(
    b"From: Someone <someone@stranger.example>",
    b"To: user@script.example",
    b"Subject:   white  space \t and",
    b"\tfolding ",
    b"Date: Tue, 4 Nov 2025 10:00:00 +0000",
    b"MIME-Version: 1.0",
    b"Content-Type: text/plain; charset=utf-8",
)
BODIES = {
    "plain": of_lines(b"Hello,", b"", b"this is signed."),
    "empty": b"",
    "empty lines at the end": of_lines(b"text", b"", b"", b""),
    "white space": of_lines(b" a  b\t\tc ", b"\t", b"  ", b"d "),
    "dots": of_lines(b".", b"..", b".text", b"...", b"a", b"."),
    "8-bit": of_lines("Grüße, 你好 🙂".encode(), bytes(range(0x80, 0x100))),
    "long line": of_lines(b"x" * 20_000),
}


def make_keys():
    """(algorithm, selector) -> private key, and the records that the DNS would hold."""
    pem = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True).stdout
    public = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=pem, check=True,
                            capture_output=True).stdout
    ed = nacl.signing.SigningKey.generate()
    private = {(b"rsa-sha256", b"rsa"): pem,
               (b"ed25519-sha256", b"ed"): ed.encode(nacl.encoding.Base64Encoder)}
    records = {b"rsa": b"v=DKIM1; k=rsa; p=" + base64.b64encode(public),
               b"ed": b"v=DKIM1; k=ed25519; p=" + ed.verify_key.encode(nacl.encoding.Base64Encoder)}
    return private, {s + b"._domainkey." + DOMAIN + b".": r for s, r in records.items()}


PRIVATE, DNS = make_keys()


def look_up(name, **_):
    return DNS[name]


def signed_messages():
    messages = []
    for (algorithm, selector), key in PRIVATE.items():
        for header in (b"simple", b"relaxed"):
            for body in (b"simple", b"relaxed"):
                for name, text in BODIES.items():
                    content = HEADER + b"\r\n" + text
                    signature = dkim.sign(content, selector, DOMAIN, key, canonicalize=(header, body),
                                          signature_algorithm=algorithm)
                    title = f"{name}, {algorithm.decode()} {header.decode()}/{body.decode()}"
                    messages.append(Message(title, signature + content))
    return messages


def verifies(content):
    return dkim.verify(content, dnsfunc=look_up)


def judge(kept):
    """What is wrong with the signature, or nothing."""
    if not verifies(kept):
        return "its DKIM signature does not hold any more"
    # A verifier that believes everything would show nothing.
    if verifies(kept.replace(b"Subject:", b"Subject: changed", 1)) or verifies(kept + b"changed\r\n"):
        return "its DKIM signature holds for another message too"
    return None
