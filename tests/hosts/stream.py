"""A steady stream of requests from outside, with the outcome of each."""

import dataclasses
import http.client
import itertools
import json
import threading
import time

# Every third request is a POST.
POSTS = 3
# Seconds after which a host that takes no connections must be out.
OUT = 3


@dataclasses.dataclass(frozen=True)
class Sent:
    """One request.

    :param number: the request's number.
    :param method: ``GET`` or ``POST``.
    :param start: when it began, in seconds since 1970.
    :param seconds: how long it took.
    :param status: the answer's status; 0 where there was no answer.
    """

    number: int
    method: str
    start: float
    seconds: float
    status: int

    @property
    def failed(self) -> bool:
        """Whether it failed. 200 to a POST is a failure: the question existed, so the request was sent twice."""
        return self.status != (201 if self.method == "POST" else 200)


class Stream:
    """Requests to the app faq: POST makes a question, GET lists questions. Begins at once and ends with ``finish``.

    :param address: the proxy's address.
    :param domain: what goes into the header Host.
    :param first: the number of the first one.
    """

    def __init__(self, address: str, domain: str, first: int, threads: int = 8, pause: float = 0.06):
        self.address, self.domain, self.pause = address, domain, pause
        self.numbers, self.sent, self.over = itertools.count(first), [], threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()
        # The stream is steady before the test goes on.
        time.sleep(1.5)

    def run(self):
        while not self.over.is_set():
            self.sent.append(self.one(next(self.numbers)))
            time.sleep(self.pause)

    def one(self, number: int) -> Sent:
        """Send one request, over a connection of its own."""
        start, method, body = time.time(), "GET", None
        headers = {"Host": self.domain, "Content-Type": "application/json"}
        path = f"/v1/questions?limit=1&offset={number}"
        if number % POSTS == 0:
            method, path = "POST", f"/v1/create?{number}"
            body = json.dumps({"question": f"Number {number}?", "source": f"stream:{number}"})
        connection = http.client.HTTPConnection(self.address, timeout=40)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            connection.close()
        return Sent(number, method, start, time.time() - start, status)

    def finish(self) -> list[Sent]:
        """End the stream after the last answer, and return the requests."""
        self.over.set()
        for thread in self.threads:
            thread.join()
        return sorted(self.sent, key=lambda one: one.number)


class Seen:
    """The requests of a stream, and the time of an event during it."""

    def __init__(self, what):
        self.what, self.at, self.sent = what, None, []

    def happens(self):
        """Note that the event happens now."""
        self.at = time.time()

    @property
    def failed(self):
        return [one for one in self.sent if one.failed]

    def since(self, seconds):
        """Return the failed requests that began at least ``seconds`` seconds after the event."""
        return [one for one in self.failed if one.start >= self.at + seconds]

    def told(self, suite):
        methods = {method: sum(one.method == method for one in self.failed) for method in ("GET", "POST")}
        at = self.at or 0
        flight = sum(one.start < at for one in self.failed)
        slowest = max(one.seconds for one in self.sent)
        return (
            f"{suite}: {self.what:<42} {len(self.sent):>5} requests, failed: {len(self.failed)} "
            f"({methods['GET']} GET, {methods['POST']} POST; {flight} in flight when it happened, "
            f"{len(self.since(0)) if self.at else 0} later, {len(self.since(OUT)) if self.at else 0} after {OUT} s); "
            f"slowest {slowest:.1f} s"
        )
