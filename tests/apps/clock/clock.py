"""An app with jobs: each run writes down when it began and ended, and with which code and config."""

import os
import pathlib
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "first"
TOLD = pathlib.Path("/var/tmp/clock.log")
GO = pathlib.Path("/var/tmp/clock.go")


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(VERSION.encode())


def tell(kind, word):
    text = f"{kind} {word} {time.time():.3f} {VERSION} {os.environ['WORD']} {os.getpid()}\n"
    print(text, end="", flush=True)
    with TOLD.open("a") as stream:
        stream.write(text)


def main(kind):
    if kind == "web":
        ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
    tell(kind, "begins")
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    while kind == "long" and not GO.exists():
        time.sleep(0.1)
    if kind == "fail":
        print(f"the word is {os.environ['WORD']}")
        sys.exit(3)
    tell(kind, "ends")


if __name__ == "__main__":
    main(sys.argv[1])
