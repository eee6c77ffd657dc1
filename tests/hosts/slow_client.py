"""Slow uploads, downloads, answers and WebSockets, and how each ended."""

import dataclasses
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Exchange:
    """How a request ended.

    :param status: of the answer, or 0 where there was none.
    :param count: bytes: for an upload those that the app received, or else those of the answer.
    :param seconds: until the answer was there, or was cut off.
    :param port: the port of the process that answered; 0 where the answer does not say.
    """

    status: int
    count: int
    seconds: float
    port: int = 0


def paced(size: int, seconds: float) -> Iterator[bytes]:
    """Yield ``size`` bytes, spread over ``seconds`` seconds."""
    started, sent = time.monotonic(), 0
    while sent < size:
        chunk = min(CHUNK, size - sent)
        time.sleep(max(0, started + seconds * sent / size - time.monotonic()))
        yield bytes(chunk)
        sent += chunk


def upload(address: str, domain: str, size: int, seconds: float, extra: dict | None = None) -> Exchange:
    """Send a body slowly to the app mirror, which answers with the bytes that it received.

    :param address: the host's.
    :param domain: the app's.
    :param size: bytes.
    :param seconds: how long to take.
    :param extra: further headers.
    """
    headers = {"Host": domain, "Content-Length": str(size)} | (extra or {})
    return _exchange(address, "POST", "/request", headers, paced(size, seconds))


def held_upload(address: str, domain: str, size: int, until: threading.Event) -> Exchange:
    """Send a body to the app mirror: two bytes a second until an event is set, and then the rest.

    :param address: the host's.
    :param domain: the app's.
    :param size: bytes.
    :param until: the event.
    """

    def body():
        # More than nginx buffers in memory.
        yield bytes(CHUNK)
        sent = CHUNK
        while not until.wait(0.5):
            yield b"\0"
            sent += 1
        yield bytes(size - sent)

    headers = {"Host": domain, "Content-Length": str(size)}
    return _exchange(address, "POST", "/request", headers, body())


def slow(address: str, domain: str, seconds: float) -> Exchange:
    """Ask the app mirror for an answer that takes so many seconds."""
    return _exchange(address, "GET", f"/slow?{seconds}", {"Host": domain})


def download(address: str, domain: str, megabytes: int, rate: float = 0) -> Exchange:
    """Ask the app mirror for an answer of ``megabytes``, of which it sends ten a second, and read it.

    :param rate: the megabytes a second that are read at most; 0 for all that come.
    """
    return _exchange(address, "GET", f"/download?{megabytes}", {"Host": domain}, rate=rate)


def _exchange(address, method, path, headers, body=None, rate=0.0):
    started = time.monotonic()
    connection = http.client.HTTPConnection(address, timeout=300)
    try:
        # Set before the connection is there, so that what is not read waits with the sender.
        connection.connect()
        if rate:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        connection.request(method, path, body=body, headers={"Connection": "close"} | headers)
        answer = connection.getresponse()
        count, text = 0, b""
        while chunk := answer.read(CHUNK):
            count += len(chunk)
            text = (text + chunk)[:1000]
            if rate:
                time.sleep(max(0, started + count / rate / 1e6 - time.monotonic()))
        status = answer.status
        if answer.length:
            status = 0
    except (OSError, http.client.HTTPException):
        return Exchange(0, 0, time.monotonic() - started)
    finally:
        connection.close()
    shown = json.loads(text) if text.startswith(b"{") and status == 200 else {}
    count = shown.get("size", count) if method == "POST" else count
    return Exchange(status, count, time.monotonic() - started, int(shown.get("port") or 0))


class Socket:
    """A WebSocket to the app mirror, which echoes."""

    def __init__(self, address: str, domain: str):
        connection = socket.create_connection((address, 80), timeout=10)
        self._opened = connect(f"ws://{domain}/echo", sock=connection, open_timeout=10)

    def __enter__(self):
        self.connection = self._opened.__enter__()
        return self

    def __exit__(self, *reason):
        self._opened.__exit__(*reason)

    def echoes(self, text: str) -> bool:
        """Send a text; tell whether it comes back."""
        try:
            self.connection.send(text)
            return self.connection.recv(timeout=10) == text
        except (ConnectionClosed, TimeoutError):
            return False
