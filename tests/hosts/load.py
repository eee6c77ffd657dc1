"""A steady load from outside, through nginx: hey, with and without keep-alive."""

import dataclasses
import re
import subprocess
import time

from lab import Host


@dataclasses.dataclass(frozen=True)
class Answers:
    """What hey counted.

    :param statuses: how often each status came.
    :param errors: how often something else came in place of an answer.
    :param p50: the median of the seconds that an answer took.
    :param p99: the seconds within which 99 of 100 answers came.
    """

    statuses: dict[int, int]
    errors: dict[str, int]
    p50: float
    p99: float

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(self.statuses.values()) + sum(self.errors.values())


def parse(output: str) -> Answers:
    """Read hey's summary.

    :param output: what it printed.
    """
    statuses = {int(status): int(count) for status, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", output)}
    failed = re.findall(r"\[(\d+)\]\s+(.*)", output.partition("Error distribution:")[2])
    errors = {message: int(count) for count, message in failed}
    quantiles = {percent: float(seconds) for percent, seconds in re.findall(r"(\d+)%+ in ([\d.]+) secs", output)}
    return Answers(statuses, errors, quantiles.get("50", 0.0), quantiles.get("99", 0.0))


# Requests that health checks and the tests may add to nginx's log meanwhile.
OTHERS = 200


class Load:
    """A load on one page. It starts when the object is made and ends with ``finish``.

    :param host: the host.
    :param domain: what goes into the header Host.
    :param path: the page.
    :param requests: ``finish`` returns only after this many requests.
    :param rate: requests a second, for each of the two generators.
    :param scheme: ``http`` or ``https``; hey believes any certificate.
    """

    def __init__(
        self,
        host: Host,
        domain: str,
        path: str = "/healthz",
        requests: int = 6_000,
        rate: int = 250,
        scheme: str = "http",
    ):
        workers = 10
        # hey takes a number of requests or a time. An interrupt ends it early, and hey still prints its summary.
        command = ["hey", "-z", "600s", "-c", str(workers), "-q", str(rate // workers), "-host", domain]
        url = f"{scheme}://{host.address}{path}"
        self.host, self.requests = host, requests + OTHERS
        self.before = self.logged()
        self.generators = [
            subprocess.Popen([*command, *extra, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for extra in ([], ["-disable-keepalive"])
        ]
        # The load is steady before the test goes on.
        time.sleep(2)

    def logged(self) -> int:
        """How many requests nginx has logged."""
        return int(self.host.sh("wc -l </var/log/nginx/access.log").stdout)

    def finish(self) -> list[Answers]:
        """End the load after enough requests; return the counts with keep-alive and those without."""
        try:
            time.sleep(2)
            deadline = time.monotonic() + 300
            while self.logged() - self.before < self.requests:
                assert time.monotonic() < deadline, "the load does not come through"
                time.sleep(1)
        finally:
            for generator in self.generators:
                generator.send_signal(2)
        return [parse(generator.communicate()[0]) for generator in self.generators]
