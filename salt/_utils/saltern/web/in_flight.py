"""Requests that nginx has in flight: what its workers from before a reload have accepted, and whom they wait for.

After a reload the old workers answer what they had accepted, by the configuration that they had: also an upload that is
not over, for which they connect to a process only then. So a process may end when no old worker needs it any more. The
kernel tells that: which connections a worker has, to whom, and what came last on each (``sock_diag``); and which bodies
it is still writing, each app's in a directory of its own.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from saltern.system import sockets
from saltern.system.sockets import Socket

# Where nginx keeps the bodies of requests that it is still receiving; see formulas/nginx/files/site.conf.jinja.
BODIES = "/var/lib/nginx/body-"

# A body of less than 16 kB, or a header that is not complete, tells nothing of its app. nginx waits for a header this
# long, too (client_header_timeout).
UNKNOWN = 30

# An answer that brings so many bytes a second, over so many seconds, is a download and no stream of events.
DOWNLOAD_RATE = 16_000
DOWNLOAD_WINDOW = 10

# Seconds between two looks, at first and later, and between two words about what is waited for.
POLL, LATER = 0.1, 1
TOLD = 30

# What one worker has open: the inodes of its sockets, and the apps whose bodies it is writing, one for each body.
Opened = tuple[Collection[int], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Held:
    """What old workers have in flight for processes.

    :param connections: to the processes, by inode.
    :param bodies: how many requests have a body that nginx has written to its disk, complete or not.
    :param unknown: connections of clients of which nothing else can be told.
    """

    connections: dict[int, Socket] = dataclasses.field(default_factory=dict)
    bodies: int = 0
    unknown: int = 0


def drain(
    workers: Callable[[], Sequence[int]],
    servers: Collection[str],
    app: str | None = None,
    requests: int = 3600,
    streams: int = 30,
    what: str = "",
) -> dict[str, int]:
    """Wait until nginx's old workers have in flight nothing for some servers, or a time is over.

    A request whose answer has not begun is waited for until nginx itself gives it up. WebSockets and streams of events
    have a time of their own: they do not end by themselves.

    :param workers: returns the PIDs of nginx's workers from before a reload; see ``workers.old``.
    :param servers: such as ``127.0.0.1:8101``.
    :param app: whose uploads count: those are for these servers. ``None`` where any other server takes them.
    :param requests: seconds for requests, uploads and downloads.
    :param streams: seconds for WebSockets and streams.
    :param what: who waits, for a word about it every half minute.
    :return: how many ``requests`` and ``streams`` had not ended.
    """
    started = told = time.monotonic()
    watch = Watch()
    while True:
        pids = workers()
        held = look(pids, servers, app) if pids else Held()
        now = time.monotonic()
        left = watch.left(held, now)
        if is_over(left, now - started, requests, streams):
            return {"requests": left["requests"], "streams": left["streams"]}
        if what and now > told + TOLD:
            told = now
            print(waits(what, left, now - started, requests, streams), file=sys.stderr, flush=True)
        time.sleep(POLL if now < started + TOLD else LATER)


def waits(what: str, left: Mapping[str, int], elapsed: float, requests: int, streams: int) -> str:
    """Say what is waited for; see ``drain``.

    :param left: as ``Watch.left`` gives it.
    :param elapsed: seconds.
    """
    kinds = [(left["requests"] or left["unknown"], "requests", requests), (left["streams"], "streams", streams)]
    parts = [f"{worded(count, kind)}, {limit} s at most" for count, kind, limit in kinds if count and elapsed < limit]
    return f"{what}: waits since {elapsed:.0f} s for what is under way: {'; '.join(parts)}"


def worded(count: int, kind: str) -> str:
    """Say how many requests or streams there are.

    :param count: the number.
    :param kind: ``requests`` or ``streams``.
    """
    return f"{count} {kind if count > 1 else kind.removesuffix('s')}"


def left_there(left: Mapping[str, int], limits: Mapping[str, int]) -> list[str]:
    """Say what is still under way on hosts that were drained; nothing where it is nothing.

    :param left: as ``drain`` returns it.
    :param limits: the seconds that each kind had.
    :return: a list of sentences.
    """
    return [f"{worded(left[kind], kind)} still under way there after {limits[kind]} s" for kind in left if left[kind]]


def is_over(left: Mapping[str, int], elapsed: float, requests: int, streams: int) -> bool:
    """Tell whether nothing is waited for any more; see ``drain``.

    :param left: as ``Watch.left`` gives it.
    :param elapsed: seconds.
    """
    limits = {"requests": requests, "streams": streams, "unknown": min(UNKNOWN, requests)}
    return not any(left[kind] and elapsed < limit for kind, limit in limits.items())


class Watch:
    """Tells requests that wait for an answer, downloads and streams from each other, by what comes on a connection.

    An old worker uses no connection a second time: once something has come on it, its answer has begun.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._since: dict[int, tuple[float, int]] = {}
        self._rates: dict[int, float] = {}

    def left(self, held: Held, now: float) -> dict[str, int]:
        """Count what is in flight.

        :param held: see ``Held``.
        :param now: seconds.
        :return: the number of ``requests``, downloads and uploads among them, of ``streams``, and of ``unknown``
            connections.
        """
        waiting = downloads = 0
        for inode, one in held.connections.items():
            if not one.is_answering and one.received == self._first.setdefault(inode, one.received):
                waiting += 1
            else:
                self._first[inode] = -1
                downloads += self._rate(inode, one.received, now) >= DOWNLOAD_RATE
        # The body of a request stays on the disk until it is answered.
        uploads = max(0, held.bodies - waiting - downloads)
        streams = len(held.connections) - waiting - downloads
        return {"requests": waiting + downloads + uploads, "streams": streams, "unknown": held.unknown}

    def _rate(self, inode: int, received: int, now: float) -> float:
        """Return the bytes a second that come, over the last whole window, or so far where there was none yet."""
        then, before = self._since.setdefault(inode, (now, received))
        if now >= then + DOWNLOAD_WINDOW:
            self._rates[inode] = (received - before) / (now - then)
            self._since[inode] = (now, received)
        if inode in self._rates:
            return self._rates[inode]
        return (received - before) / (now - then) if now > then else math.inf


def look(pids: Iterable[int], servers: Collection[str], app: str | None = None) -> Held:
    """Look at what workers of nginx have in flight for some servers.

    :param pids: the workers.
    :param servers: such as ``127.0.0.1:8101``.
    :param app: see ``drain``.
    :return: see ``Held``.
    """
    found = sockets.diagnosed((sockets.ESTABLISHED, sockets.SYN_SENT, sockets.LISTEN))
    return held([opened(pid) for pid in pids], found, servers, app)


def opened(pid: int) -> Opened:
    """Return what a worker has open.

    :param pid: its PID.
    :return: the inodes of its sockets, and the apps whose bodies it is writing, one for each body.
    """
    inodes, files = sockets.opened(pid)
    return inodes, [path.removeprefix(BODIES).partition("/")[0] for path in files if path.startswith(BODIES)]


def held(workers: Iterable[Opened], found: Mapping[int, Socket], servers: Collection[str], app: str | None) -> Held:
    """Find what workers have in flight for some servers; see ``look``.

    :param workers: of each, what ``opened`` gives.
    :param found: the sockets of the host, by inode.
    """
    asked: dict[int, Socket] = {}
    written = unknown = 0
    listening = {one.port for one in found.values() if one.state == sockets.LISTEN}
    for inodes, bodies in workers:
        connections = {inode: found[inode] for inode in inodes if inode in found}
        clients = sum(one.port in listening for one in connections.values())
        asked |= {inode: one for inode, one in connections.items() if one.peer in servers}
        written += sum(body == app for body in bodies)
        if app is not None:
            unknown += max(0, clients - max(len(connections) - clients, len(bodies)))
    return Held(asked, written, unknown)
