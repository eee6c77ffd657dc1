"""Sources of builds: what is fetched, and when a download is given up."""

import contextlib
import http.server
import ssl
import subprocess
import threading
import time
from pathlib import Path

import certifi
import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds import room, source
from tests.unit.builds.members import LIMITS


def test_a_source_that_is_not_there_is_told(tmp_path):
    for place in (str(tmp_path / "none.tar.gz"), str(tmp_path), "salt://builds/none.tar.gz"):
        with pytest.raises(CommandExecutionError) as raised:
            source.fetch(lambda name, place: "", "shop", place, "unused", LIMITS)
        assert (
            str(raised.value) == f"app.shop.build.source: {place}: no such file; put the build there that was declared"
        )


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers by path: /200, /404, /503, /503-then-200, /cut (whose body ends too early) and those of ``ODD``."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path in ODD:
            with contextlib.suppress(OSError):
                self.say(*ODD[self.path])
            return
        status = 200 if self.path in ("/200", "/cut") or self.server.asked.count(self.path) > 1 else int(self.path[1:4])
        if self.path == "/503":
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", "2000" if self.path == "/cut" else "8")
        # The client must not decompress the body, since the sha256 is that of the file.
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(b"a build\n")

    def say(self, first, again, pause):
        self.wfile.write(first)
        while again:
            time.sleep(pause)
            self.wfile.write(again)

    def log_message(self, *_arguments):
        pass


def leads(to):
    return b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\n\r\n"


# The first part, the part that is repeated, and the seconds between parts.
ODD = {
    "/dripping-headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", 0.1),
    "/dripping-body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.1),
    "/endless": (b"HTTP/1.1 200 OK\r\n\r\n", bytes(100_000), 0),
    "/endless-chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2710\r\n%s\r\n" % bytes(10_000), 0),
    "/too-long": (b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n", b"x", 0.1),
    "/announced": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    "/round": (leads(b"/round"), b"", 0),
    "/to-http": (leads(b"http://127.0.0.1/200"), b"", 0),
    "/to-200": (leads(b"200"), b"", 0),
    "/to-200-with-an-endless-body": (leads(b"/200"), bytes(100_000), 0),
    "/no-http": (b"hello\r\n", b"", 0),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    directory = tmp_path_factory.mktemp("authority")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=builds "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.pem"
    )
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture
def server(authority, monkeypatch):
    """A server of builds, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.asked = []
        served.socket = context.wrap_socket(served.socket, server_side=True)
        served.at = f"https://127.0.0.1:{served.server_port}"
        monkeypatch.setattr(source, "CA_BUNDLE", str(authority / "ca.pem"))
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("path, times", [("/200", 1), ("/503-then-200", 2)])
def test_a_build_is_downloaded_as_it_is(server, tmp_path, path, times):
    fetched = source.download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert Path(fetched).read_bytes() == b"a build\n"
    assert server.asked == [path] * times


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/404", "answered 404"),
        ("/503", "answered 503"),
        ("/cut", "cannot be reached (ProtocolError)"),
        ("/no-http", "cannot be reached (ConnectionError)"),
    ],
)
def test_an_answer_that_is_no_build_is_told(server, tmp_path, path, reason):
    with pytest.raises(CommandExecutionError) as raised:
        source.download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert str(raised.value) == f"app.shop.build.source: the server {reason}; expected the tarball"


@pytest.mark.parametrize("path", ["/to-200", "/to-200-with-an-endless-body"])
def test_a_redirect_is_followed_and_its_own_content_not_read(server, tmp_path, path):
    fetched = source.download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert Path(fetched).read_bytes() == b"a build\n"


HELD = {
    "/dripping-headers": "sends nothing, or next to nothing, within 1 s",
    "/dripping-body": "sends nothing, or next to nothing, within 1 s",
    "/announced": "sends nothing, or next to nothing, within 1 s",
    "/endless": "sends more than the 10 MB that app.shop.unpacked allows",
    "/endless-chunks": "sends more than the 10 MB that app.shop.unpacked allows",
    "/too-long": "says that it sends 99 MB, and app.shop.unpacked allows 10",
    "/round": "leads on and on, 5 times and more",
    "/to-http": "leads elsewhere than to https://",
}


@pytest.mark.parametrize("path, reason", HELD.items(), ids=HELD)
def test_an_answer_that_would_hold_a_run_is_given_up(server, monkeypatch, tmp_path, path, reason):
    monkeypatch.setattr(source, "PART", 1)
    before = time.monotonic()
    with pytest.raises(CommandExecutionError) as raised:
        source.download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert str(raised.value) == f"app.shop.build.source: the server {reason}; expected the tarball"
    assert time.monotonic() - before < 30


def test_a_download_for_which_there_is_no_room_is_given_up(server, monkeypatch, tmp_path):
    monkeypatch.setattr(room, "RESERVE", 10**18)
    with pytest.raises(CommandExecutionError, match="sends more than there is room for in"):
        source.download("shop", f"{server.at}/200", str(tmp_path / "fetched"), LIMITS)


def test_a_server_that_the_host_does_not_trust_is_told(server, monkeypatch, tmp_path):
    monkeypatch.setattr(source, "CA_BUNDLE", certifi.where())
    with pytest.raises(CommandExecutionError, match=r"the server cannot be reached \(SSLError\)"):
        source.download("shop", f"{server.at}/200", str(tmp_path / "fetched"), LIMITS)
    assert server.asked == []


def test_a_server_that_does_not_answer_is_told(tmp_path, authority, monkeypatch):
    monkeypatch.setattr(source, "CA_BUNDLE", str(authority / "ca.pem"))
    # A port that nothing listens on, so that the connection is refused at once.
    with pytest.raises(CommandExecutionError, match=r"the server cannot be reached \(ConnectionError\)"):
        source.download("shop", "https://127.0.0.1:1/shop.tar.gz", str(tmp_path / "fetched"), LIMITS)
