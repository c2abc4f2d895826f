#!/usr/bin/env python3
"""A mail server that keeps to the book, and keeps each message just as it came.

Every message becomes a file 1, 2, ... in the folder, and a line in its file "index", written before
the reply goes out:
    {"file": "7", "way": "BDAT", "chunks": [10, 0], "mail": "FROM:<...> BODY=BINARYMIME",
     "recipients": ["TO:<a@script.example>"], "peer": "198.51.100.2", "tls": "TLSv1.3"}
What came by DATA is kept without the dots that transparency adds. The end of data is CRLF.CRLF.
"tls" is null for what came in clear. With a certificate it offers STARTTLS.
"""
import argparse
import json
import os
import socket
import ssl
import sys
import threading

OFFERS = ["PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN",
          "CHUNKING", "BINARYMIME"]
END = b"\r\n.\r\n"


class Gone(Exception):
    """The client closed its connection."""


class Session:
    def __init__(self, keeper, connection, peer):
        self.keeper, self.connection, self.peer = keeper, connection, peer
        self.buffer = bytearray()
        self.tls = None
        self.forget()

    def forget(self):
        self.mail, self.recipients, self.chunks, self.content = None, [], [], bytearray()

    def reply(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def fill(self):
        octets = self.connection.recv(2**20)
        if not octets:
            raise Gone
        self.buffer += octets

    def take(self, octets):
        result = bytes(self.buffer[:octets])
        del self.buffer[:octets]
        return result

    def read_line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.fill()
        return self.take(end + 2)[:-2].decode("utf-8", "surrogateescape")

    def read_chunk(self, octets):
        while octets > 0:
            if not self.buffer:
                self.fill()
            piece = self.take(octets)
            self.content += piece
            octets -= len(piece)

    def read_body(self):
        """The body of DATA, unstuffed."""
        self.buffer[:0] = b"\r\n"
        looked_at = 0
        while (end := self.buffer.find(END, looked_at)) < 0:
            looked_at = max(0, len(self.buffer) - len(END))
            self.fill()
        body = self.take(end + len(END))[: end + 2]
        return body.replace(b"\r\n.", b"\r\n")[2:]

    def store(self, way):
        self.keeper.store(bytes(self.content), way=way, chunks=self.chunks, mail=self.mail,
                          recipients=self.recipients, peer=self.peer, tls=self.tls)
        self.forget()
        self.reply("250 2.0.0 stored")

    def on_bdat(self, argument):
        words = argument.upper().split()
        octets = int(words[0])
        self.read_chunk(octets)
        if not self.recipients:
            self.reply("503 5.5.1 no recipients")
            return
        self.chunks.append(octets)
        if words[1:] == ["LAST"]:
            self.store("BDAT")
        else:
            self.reply("250 2.0.0 chunk read")

    def on_data(self):
        if not self.recipients or self.chunks:
            self.reply("503 5.5.1 not now")
            return
        self.reply("354 go on")
        self.content = self.read_body()
        self.store("DATA")

    def on_starttls(self):
        self.reply("220 2.0.0 go on")
        self.forget()
        self.buffer.clear()
        self.connection = self.keeper.tls.wrap_socket(self.connection, server_side=True)
        self.tls = self.connection.version()

    def offers(self):
        return OFFERS + (["STARTTLS"] if self.keeper.tls and not self.tls else [])

    def obey(self, line):
        """Answers one command; False ends the session."""
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb == "EHLO":
            self.forget()
            lines = ["keeper.example"] + self.offers()
            self.reply("\r\n".join(f"250-{text}" for text in lines[:-1]) + f"\r\n250 {lines[-1]}")
        elif verb == "STARTTLS" and "STARTTLS" in self.offers():
            self.on_starttls()
        elif verb == "MAIL" and self.mail is None:
            self.mail = argument
            self.reply("250 2.1.0 sender heard")
        elif verb == "RCPT" and self.mail is not None:
            self.recipients.append(argument)
            self.reply("250 2.1.5 recipient heard")
        elif verb == "DATA":
            self.on_data()
        elif verb == "BDAT":
            self.on_bdat(argument)
        elif verb in ("RSET", "HELO", "NOOP"):
            if verb != "NOOP":
                self.forget()
            self.reply("250 2.0.0 done")
        elif verb == "QUIT":
            self.reply("221 2.0.0 bye")
            return False
        else:
            self.reply("503 5.5.1 not now")
        return True

    def run(self):
        try:
            self.reply("220 keeper.example ESMTP")
            while self.obey(self.read_line()):
                pass
        except (Gone, OSError):  # ssl.SSLError is one
            pass
        finally:
            self.connection.close()


class Keeper:
    def __init__(self, folder, tls):
        self.folder = folder
        self.tls = tls
        self.lock = threading.Lock()
        self.count = 0
        os.mkdir(folder)
        self.index = open(os.path.join(folder, "index"), "w", encoding="ascii")

    def store(self, content, **facts):
        with self.lock:
            self.count += 1
            name = str(self.count)
        with open(os.path.join(self.folder, name), "wb") as file:
            file.write(content)
        with self.lock:
            self.index.write(json.dumps({"file": name, **facts}) + "\n")
            self.index.flush()

    def listen(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=1024)
        threading.Thread(target=self.serve, args=[listener]).start()

    def serve(self, listener):
        while True:
            connection, peer = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, connection, peer[0])
            threading.Thread(target=session.run, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--folder", required=True, help="is made")
    parser.add_argument("--certificate", metavar="FILE")
    parser.add_argument("--key", metavar="FILE")
    options = parser.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate, options.key)
    keeper = Keeper(options.folder, tls)
    for address in options.listen:
        keeper.listen(address, options.port)
    print("ready", flush=True)


if __name__ == "__main__":
    sys.exit(main())
