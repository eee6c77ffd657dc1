"""A web server whose children share its socket, and go on without it."""

import http.server
import os
import time

HEAD = os.getpid()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(HEAD).encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
for _ in range(2):
    if not os.fork():
        server.serve_forever()
while True:
    time.sleep(1)
