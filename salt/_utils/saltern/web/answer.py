"""An answer over HTTP, of which only the head is read, until a time and so many bytes."""

import http.client
import io
import socket
import time
from collections.abc import Mapping
from typing import Any, cast

# Bytes of an answer's head, the ones that only announce it (1xx) among them. nginx takes 8 kB by default.
MAX_HEAD = 65_536


class AnswerTooLong(http.client.HTTPException):
    """The head of an answer has no end, or none worth waiting for."""


class AnswerCutOff(http.client.HTTPException):
    """The head of an answer ends before it is whole."""


class _Reader(io.RawIOBase):
    """Reads from a socket until a time, and so many bytes.

    :param stream: a connected socket.
    :param deadline: seconds of the monotonic clock.
    """

    def __init__(self, stream: socket.socket, deadline: float) -> None:
        self.stream, self.deadline, self.left = stream, deadline, MAX_HEAD
        self.is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self.stream.settimeout(seconds)
        count = self.stream.recv_into(buffer)
        self.left -= count
        self.is_at_end = not count
        if self.left < 0:
            raise AnswerTooLong(f"more than {MAX_HEAD} bytes")
        return count


class _Connection:
    """What ``http.client`` takes for a socket.

    :param stream: a connected socket.
    :param deadline: seconds of the monotonic clock.
    """

    def __init__(self, stream: socket.socket, deadline: float) -> None:
        self.stream, self.deadline = stream, deadline
        # One for all heads of an answer: http.client asks for it anew at each.
        self.reader = _Reader(stream, deadline)
        self.file = io.BufferedReader(self.reader)

    def sendall(self, data: Any) -> None:
        self.stream.settimeout(max(self.deadline - time.monotonic(), 0.001))
        self.stream.sendall(data)

    def makefile(self, *_: Any) -> Any:
        return self.file

    def close(self) -> None:
        pass


def answer(stream: socket.socket, path: str, headers: Mapping[str, str], deadline: float) -> tuple[int, str | None]:
    """Ask for a path over HTTP, and return the status and where it leads. A redirect is not followed.

    Of the answer its head is read and nothing else. ``http.client`` alone bounds each read, and so waits without an end
    for whoever sends a byte now and then, or announces the answer again and again.

    :param stream: a connected socket, which stays the caller's.
    :param path: what is asked for, with GET.
    :param headers: a mapping, ``Host`` among them.
    :param deadline: seconds of the monotonic clock at which the head must be whole.
    :return: the status, and the header ``Location`` or ``None``.
    :raises TimeoutError: when it is not.
    :raises http.client.HTTPException: when it is no HTTP, or too much.
    """
    connection = _Connection(stream, deadline)
    asking = http.client.HTTPConnection(headers["Host"])
    asking.sock = connection
    asking.request("GET", path, headers=headers)
    heads = []
    while True:
        # One that nobody refers to closes the file that the next one is read from.
        heads.append(response := http.client.HTTPResponse(cast(Any, connection), method="GET"))
        response.begin()
        # http.client takes the end of the connection for the end of a head. nginx does not.
        if connection.reader.is_at_end:
            raise AnswerCutOff("the head is not whole")
        # 100 to 199 announce an answer, but for 101, after which there is none.
        if response.status >= 200 or response.status == http.client.SWITCHING_PROTOCOLS:
            return response.status, response.headers.get("Location")
