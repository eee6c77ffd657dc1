"""Requests in flight in nginx's old workers: which of them delay a process's end, and for how long."""

import pytest

from saltern.system import sockets
from saltern.web import in_flight

OLD, OTHER = "127.0.0.1:8101", "127.0.0.1:8201"


@pytest.fixture
def opened():
    """A host's sockets by inode: nginx listens on 80; 1x are clients, 2x go to the old process, 3x to another app's."""
    made = {1: sockets.Socket(sockets.LISTEN, 80, "0.0.0.0:0")}
    for inode, peer in {11: "9.9.9.9:1111", 12: "9.9.9.9:1112", 21: OLD, 22: OLD, 31: OTHER}.items():
        port = 80 if inode < 20 else 40_000 + inode
        made[inode] = sockets.Socket(sockets.ESTABLISHED, port, peer, 0, inode == 22, 100)
    return made


# Each worker's sockets and bodies; then the expected connections, bodies, and clients with an incomplete request.
WORKERS = {
    "no worker": ([], [], 0, 0),
    "a worker without connections": ([([], [])], [], 0, 0),
    "a request": ([([11, 21], [])], [21], 0, 0),
    "two requests, of two workers": ([([11, 21], []), ([12, 22], [])], [21, 22], 0, 0),
    "another app's WebSocket": ([([11, 31], [])], [], 0, 0),
    "an upload": ([([11], ["shop"])], [], 1, 0),
    "another app's upload": ([([11], ["faq"])], [], 0, 0),
    "an upload, sent on": ([([11, 21], ["shop"])], [21], 1, 0),
    "a header that is not complete": ([([11], [])], [], 0, 1),
    "that, beside another app's WebSocket": ([([11, 12, 31], [])], [], 0, 1),
    "several requests over one connection, by HTTP/2": ([([11, 21, 22], [])], [21, 22], 0, 0),
    "a socket that is gone": ([([99], [])], [], 0, 0),
}


@pytest.mark.parametrize("workers, connections, bodies, unknown", WORKERS.values(), ids=WORKERS)
def test_only_requests_to_this_apps_old_processes_count(opened, workers, connections, bodies, unknown):
    held = in_flight.held(workers, opened, [OLD], "shop")
    assert (sorted(held.connections), held.bodies, held.unknown) == (connections, bodies, unknown)


def held(bodies=0, unknown=0, **received):
    """Bytes that each connection in flight has received; an answer has begun where the name ends in ``begun``."""
    connections = {
        name: sockets.Socket(sockets.ESTABLISHED, 40_000, OLD, 0, name.endswith("begun"), count)
        for name, count in received.items()
    }
    return in_flight.Held(connections, bodies, unknown)


# Looks at several times: the second, and what is in flight then; last, the expected counts of requests and streams.
LOOKS = {
    "nothing": ([(0, {})], (0, 0)),
    "an answer that has not begun": ([(0, {"a": 0}), (90, {"a": 0})], (1, 0)),
    "one on a connection that was used before": ([(0, {"a": 700}), (90, {"a": 700})], (1, 0)),
    "an upload": ([(0, {"bodies": 1}), (900, {"bodies": 1})], (1, 0)),
    "an upload that waits for its answer is one": ([(0, {"bodies": 1, "a": 0})], (1, 0)),
    "an upload beside a WebSocket": ([(0, {"bodies": 1, "ws_begun": 9}), (40, {"bodies": 1, "ws_begun": 9})], (1, 1)),
    "a WebSocket in which the client spoke last": ([(0, {"a": 200}), (20, {"a": 210}), (40, {"a": 220})], (0, 1)),
    "a stream of events": ([(0, {"s_begun": 200}), (20, {"s_begun": 900}), (40, {"s_begun": 1500})], (0, 1)),
    "a stream that is silent": ([(0, {"s_begun": 200}), (20, {"s_begun": 200})], (0, 1)),
    "a download": ([(0, {"d_begun": 0}), (20, {"d_begun": 2_000_000}), (30, {"d_begun": 3_000_000})], (1, 0)),
    "a download that has just begun": ([(0, {"a": 0}), (1, {"a": 50_000})], (1, 0)),
    "a download that has come to a halt": (
        [(0, {"d_begun": 0}), (10, {"d_begun": 9_000_000}), (20, {"d_begun": 9_000_000})],
        (0, 1),
    ),
    "a header that is not complete": ([(0, {"unknown": 1})], (0, 0)),
}


@pytest.mark.parametrize("looks, counted", LOOKS.values(), ids=LOOKS)
def test_requests_downloads_and_streams_are_told_apart(looks, counted):
    watch = in_flight.Watch()
    for seconds, what in looks:
        left = watch.left(held(**what), seconds)
    assert (left["requests"], left["streams"]) == counted


WAITS = {
    "nothing is in flight": ({}, 0, True),
    "a request": ({"requests": 1}, 119, False),
    "a request whose time is over": ({"requests": 1}, 120, True),
    "a stream": ({"streams": 1}, 4, False),
    "a stream whose time is over": ({"streams": 1}, 5, True),
    "a request beside a stream whose time is over": ({"requests": 1, "streams": 1}, 60, False),
    "a client of whom nothing is known": ({"unknown": 1}, 29, False),
    "the same after half a minute": ({"unknown": 1}, 30, True),
}


@pytest.mark.parametrize("left, elapsed, is_over", WAITS.values(), ids=WAITS)
def test_a_drain_is_over_when_nothing_is_left_or_its_time_is_over(left, elapsed, is_over):
    none = {"requests": 0, "streams": 0, "unknown": 0}
    assert in_flight.is_over(none | left, elapsed, requests=120, streams=5) is is_over


def test_a_long_wait_says_for_what():
    left = {"requests": 2, "streams": 1, "unknown": 0}
    assert in_flight.waits("shop: v7", left, 30, 3600, 60) == (
        "shop: v7: waits since 30 s for what is under way: 2 requests, 3600 s at most; 1 stream, 60 s at most"
    )
    assert "streams" not in in_flight.waits("shop: v7", left, 60, 3600, 60)
