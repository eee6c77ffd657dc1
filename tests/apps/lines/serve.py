"""A web server whose child processes share its socket and survive it. It speaks HTTP/1.0, one answer at a time.

`/held` is answered once a file exists.
"""

import http.server
import os
import time

HEAD = os.getpid()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while self.path == "/held" and not os.path.exists("/var/tmp/lines.go"):
            time.sleep(0.1)
        self.send_response(200)
        if self.path == "/events":
            self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        match self.path:
            case "/events":
                for number in range(3):
                    self.wfile.write(f"data: {number}\n\n".encode())
                    time.sleep(0.5)
            case "/large":
                self.wfile.write(bytes(50_000_000))
            case _:
                self.wfile.write(str(HEAD).encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
for _ in range(2):
    if not os.fork():
        server.serve_forever()
while True:
    time.sleep(1)
