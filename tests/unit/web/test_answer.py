"""Bounds: no answer of a server can keep a run busy for long."""

import contextlib
import http.client
import socket
import threading
import time

import pytest

from saltern.web.answer import answer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def serve():
    """Return a function that has a socket send parts, one after the other and then repeated, and returns its port."""
    with contextlib.ExitStack() as stack:

        def start(first, again=None, pause=0.0):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def say():
                with contextlib.suppress(OSError):
                    stream = stack.enter_context(listener.accept()[0])
                    stream.recv(4096)
                    stream.sendall(first)
                    while again:
                        time.sleep(pause)
                        stream.sendall(again)
                    stream.close()

            threading.Thread(target=say, daemon=True).start()
            return listener.getsockname()[1]

        yield start


def ask(port, seconds=0.5):
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        return answer(stream, "/healthz", {"Host": "shop.example.com"}, time.monotonic() + seconds)


ANSWERS = {
    "a whole one": (OK, (200, None)),
    "one without a length": (b"HTTP/1.0 503 no\r\n\r\nno", (503, None)),
    "one after those that announce it": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + OK, (200, None)),
    "one after a hundred": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, (200, None)),
    "one that changes the protocol": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", (101, None)),
    "a redirect, which is not followed": (b"HTTP/1.1 301 no\r\nLocation: http://a/b\r\n\r\n", (301, "http://a/b")),
}


@pytest.mark.parametrize("said, expected", ANSWERS.values(), ids=ANSWERS)
def test_only_the_head_of_an_answer_is_read(serve, said, expected):
    assert ask(serve(said), 5) == expected


def test_an_answer_counts_however_slow_or_endless_its_body_is(serve):
    assert ask(serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", 0.01))[0] == 200


LATE = {
    "nothing at all": (b"", b"", 0),
    "a status line, bit by bit": (b"HTTP/1.1 200 ", b"O", 0.02),
    "headers, one now and then": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", 0.02),
    "a header, bit by bit": (b"HTTP/1.1 200 OK\r\nX-A: ", b"1", 0.02),
    "its announcement again and again": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
    "other announcements": (b"HTTP/1.1 103 Hints\r\n\r\n", b"HTTP/1.1 103 Hints\r\n\r\n", 0.02),
}


@pytest.mark.parametrize("first, again, pause", LATE.values(), ids=LATE)
def test_what_is_not_whole_in_time_is_given_up(serve, first, again, pause):
    before = time.monotonic()
    # A server that sends nothing keeps the connection open.
    with pytest.raises(TimeoutError):
        ask(serve(first, again or b"", pause) if again else silent())
    assert time.monotonic() - before < 5


def silent():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: time.sleep(30) or listener.close(), daemon=True).start()
    return listener.getsockname()[1]


TOO_MUCH = {
    "a long status line": (b"HTTP/1.1 200 ", b"O" * 9000),
    "long headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"1" * 9000 + b"\r\n"),
    "many headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n" * 1000),
    "many announcements": (b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 1000),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", None),
    "a status that is none": (b"HTTP/1.1 9999999999 OK\r\n\r\n", None),
    "nothing": (b"", None),
    "a status and no more": (b"HTTP/1.1 200", None),
    "headers that break off": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", None),
    "an announcement that nothing follows": (b"HTTP/1.1 100 Continue\r\n\r\n", None),
}


@pytest.mark.parametrize("first, again", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_no_answer_or_too_much_of_one_is_told(serve, first, again):
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(serve(first, again), 5)


# --- Work in a process of its own -------------------------------------------------------------------------------------
