"""An app with static files, made by a step of its build; its page names the one that belongs to it."""

import hashlib
import os
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATIC = pathlib.Path(__file__).parent / "static"


def build():
    """Make the static files, as Django's ManifestStaticFilesStorage does: one with a hash in its name."""
    STATIC.mkdir()
    (STATIC / "plain.css").write_bytes(content := pathlib.Path("site.css").read_bytes() * 100)
    (STATIC / f"site.{hashlib.md5(content).hexdigest()[:12]}.css").write_bytes(content)
    (STATIC / "module.mjs").write_text("export {};\n")
    (STATIC / "below").mkdir()
    (STATIC / "below/index.html").write_text("<p>an index\n")
    (STATIC / ".env").write_text("SECRET=none\n")
    (STATIC / ".well-known").mkdir()
    (STATIC / ".well-known/security.txt").write_text("Contact: mailto:security@example.com\n")
    (STATIC / "link.txt").symlink_to("below/index.html")
    for status in ("404", "502", "503"):
        (STATIC / "below" / f"{status}.html").write_text(f"<p>{status} of the shelf\n")


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        name = next(path.name for path in STATIC.glob("site.*.css"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"/static/{name}".encode())


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        build()
    else:
        ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
