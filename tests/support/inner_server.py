#!/usr/bin/env python3
"""A mail server that accepts everything and writes down what it heard.

Each event is one JSON line in the record file, written before the reply goes out:
    {"event": "connect",  "session": 1, "peer": "198.51.100.2", "local": "203.0.113.26"}
    {"event": "command",  "session": 1, "line": "RCPT TO:<a@example.org>", "tls": false}
    {"event": "tls",      "session": 1, "version": "TLSv1.3"}
    {"event": "message",  "session": 1, "recipients": [...], "data": "..."}
    {"event": "end",      "session": 1, "raw": "every octet received, as latin-1"}

It is laxer than any real server on purpose: a line ends at LF, with or without CR; verbs come in
any case and any order; DATA works without a recipient. With --lax a dot between any two line ends
closes a message. Whatever it would obey shows up as a "command". What came in clear behind STARTTLS
it obeys inside TLS.

With a certificate it offers STARTTLS, and does as --starttls says:
    ok             speaks TLS
    454, 502       refuses by this code
    close, silent  closes, or says nothing, in place of a reply
    220-close      says 220 and closes
    220-silent     says 220 and then nothing any more
    220-garbage    says 220 and then what is no TLS
    220-inject     says 220 and, in the same segment, the reply to a command that nobody has said yet
With --password it offers AUTH, and lets in whoever names it.
"""
import argparse
import asyncio
import base64
import binascii
import json
import os
import re
import socket
import ssl
import struct
import sys


class Session:
    def __init__(self, server, number, reader, writer):
        self.server, self.number = server, number
        self.reader, self.writer = reader, writer
        self.raw = bytearray()
        self.recipients = []
        self.has_tls = False

    def record(self, event, **fields):
        line = json.dumps({"event": event, "session": self.number, **fields})
        self.server.record.write(line + "\n")
        self.server.record.flush()

    async def reply(self, text):
        if self.server.options.delay:
            await asyncio.sleep(self.server.options.delay / 1000)
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def read_line(self):
        line = await self.reader.readline()
        self.raw += line
        return line

    async def read_message(self):
        """The body with its last line end, or None when the client went away inside it."""
        body = bytearray(b"\r\n")
        end = rb"[\r\n]\.[\r\n]+$" if self.server.options.lax else rb"\r\n\.\r\n$"
        while True:
            line = await self.read_line()
            body += line
            if re.search(end, body[-6:]):
                return bytes(body[2 : body.rindex(b".")])
            if not line.endswith(b"\n"):
                return None

    async def greet(self):
        options = self.server.options
        if options.silent:
            await self.reader.read()
            return False
        if options.reset:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        await self.reply(options.greeting)
        return options.greeting.startswith("220")

    def offers(self):
        options = self.server.options
        offers = ["inner.example"] + options.extension
        if options.certificate and not self.has_tls and not options.hide_starttls:
            offers.append("STARTTLS")
        if self.has_tls:
            offers += options.extension_in_tls
        if options.password:
            offers.append("AUTH PLAIN LOGIN")
        if not options.no_pipelining:
            offers.append("PIPELINING")
        return offers + ["8BITMIME", "SIZE 52428800", "ENHANCEDSTATUSCODES", "XINNER secret"]

    def write_past_tls(self, octets):
        os.write(self.writer.get_extra_info("socket").fileno(), octets)

    async def start_tls(self):
        """False ends the session."""
        behaviour = self.server.options.starttls
        if behaviour in ("close", "silent"):
            if behaviour == "silent":
                await self.reader.read()
            return False
        if behaviour in ("454", "502"):
            await self.reply(f"{behaviour} 5.5.1 not now")
            return True
        if behaviour == "220-inject":
            await self.reply("220 2.0.0 go on\r\n250-injected\r\n250 AUTH PLAIN")
        else:
            await self.reply("220 2.0.0 go on")
        if behaviour == "220-garbage":
            await self.reader.read(1)  # in place of an answer: before, it would be an injected one
            await self.reply("250 2.0.0 what do you mean?")
        if behaviour in ("220-garbage", "220-silent"):
            await self.reader.read()
        if behaviour in ("220-garbage", "220-silent", "220-close"):
            return False
        try:
            await self.writer.start_tls(self.server.tls)
        except (ssl.SSLError, ConnectionError):
            return False
        self.has_tls = True
        self.record("tls", version=self.writer.get_extra_info("ssl_object").version())
        return True

    async def authenticate(self, line):
        """False: the client is gone."""
        responses = line.split(" ")[2:]
        wanted = 2 if line.upper().startswith("AUTH LOGIN") else 1
        while len(responses) < wanted:
            await self.reply("334 " + base64.b64encode(b"say it").decode())
            response = (await self.read_line()).decode("latin-1").rstrip("\r\n")
            if not response:
                return False
            responses.append(response)
            if response == "*":
                break
        try:
            said = b" ".join(base64.b64decode(response) for response in responses)
        except binascii.Error:
            said = b""
        if self.server.options.hold_auth:
            await self.reader.read()
            return False
        if self.server.options.password.encode() in said:
            await self.reply("235 2.7.0 welcome")
        else:
            await self.reply("535 5.7.8 who are you?")
        return True

    async def obey(self, line):
        """Answers one command; False ends the session."""
        options = self.server.options
        verb = line.upper().split(" ")[0].split(":")[0]
        if options.break_tls_at == verb:
            self.write_past_tls(b"\x17\x03\x03\x00\x20" + b"no TLS record".ljust(32))
        if options.close_at == verb:
            return False
        if verb == "EHLO":
            offers = self.offers()
            await self.reply("\r\n".join(f"250-{offer}" for offer in offers[:-1]) + f"\r\n250 {offers[-1]}")
        elif verb == "STARTTLS" and options.certificate and not self.has_tls:
            return await self.start_tls()
        elif verb == "AUTH" and options.password:
            return await self.authenticate(line)
        elif verb == "RCPT":
            self.recipients.append(line[5:])
            await self.reply("250 2.1.5 recipient heard")
        elif verb == "DATA":
            await self.reply("354 go on")
            if options.break_tls_at == "BODY":
                await self.read_line()
                self.write_past_tls(b"\x17\x03\x03\x00\x20" + b"no TLS record".ljust(32))
            body = await self.read_message()
            if body is None or options.close_at == "BODY":
                return False
            self.record("message", recipients=self.recipients, data=body.decode("latin-1"))
            self.recipients = []
            await self.reply("250 2.0.0 stored")
        elif verb == "RSET":
            self.recipients = []
            await self.reply("250 2.0.0 forgotten")
        elif verb == "QUIT":
            await self.reply("221 2.0.0 bye")
            return False
        elif verb == "VRFY":
            await self.reply("252 2.0.0 perhaps")
        else:
            await self.reply("250 2.0.0 whatever you say")
        return True

    async def run(self):
        local = self.writer.get_extra_info("sockname")[0]
        self.record("connect", peer=self.writer.get_extra_info("peername")[0], local=local)
        try:
            if await self.greet():
                while line := await self.read_line():
                    text = line.rstrip(b"\r\n").decode("latin-1")
                    self.record("command", line=text, tls=self.has_tls)
                    if not await self.obey(text):
                        break
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            self.record("end", raw=self.raw.decode("latin-1"))
            self.writer.close()


class Server:
    def __init__(self, options):
        self.options = options
        self.record = open(options.record, "a", encoding="ascii")
        self.sessions = 0
        self.tls = None
        if options.certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(options.certificate, options.key)

    async def accept(self, reader, writer):
        self.sessions += 1
        await Session(self, self.sessions, reader, writer).run()

    async def serve(self):
        options = self.options
        listeners = [
            await asyncio.start_server(self.accept, address, options.port, limit=2**20, backlog=1024)
            for address in options.listen
        ]
        print("ready", flush=True)
        await asyncio.gather(*(listener.serve_forever() for listener in listeners))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--record", required=True, metavar="FILE")
    parser.add_argument("--extension", action="append", default=[], help="one more EHLO line")
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="before each reply")
    parser.add_argument("--greeting", default="220 inner.example ESMTP", help="any but 220 ends the session")
    parser.add_argument("--reset", action="store_true", help="reset each connection")
    parser.add_argument("--silent", action="store_true", help="never greet")
    parser.add_argument("--close-at", metavar="VERB", help="close at this command; BODY: before its reply")
    parser.add_argument("--certificate", metavar="FILE")
    parser.add_argument("--key", metavar="FILE")
    parser.add_argument("--starttls", default="ok",
                        choices=["ok", "454", "502", "close", "silent", "220-close", "220-silent",
                                 "220-garbage", "220-inject"])
    parser.add_argument("--hide-starttls", action="store_true", help="do not offer it")
    parser.add_argument("--extension-in-tls", action="append", default=[], help="one more EHLO line in TLS")
    parser.add_argument("--password", help="of everybody")
    parser.add_argument("--hold-auth", action="store_true", help="never answer a password")
    parser.add_argument("--break-tls-at", metavar="VERB", help="send no TLS at this command, or in the BODY")
    parser.add_argument("--lax", action="store_true", help="any dot alone on a line ends a message")
    server = Server(parser.parse_args())
    try:
        asyncio.run(server.serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
