"""Requests through nginx, compared with requests to the same gunicorn directly: ``make bench``."""

import csv
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import in_turn
from bench.report import Result
from lab import Host, Lab
from lab.podman import LabError
from lab.steps import Steps
from lab.tree import ROOT
from lab.worktree import commit

ROUNDS = 5
SECONDS = 8
CONNECTIONS = 8
APP = "faq"
DOMAIN = f"{APP}.localhost"
# A view that takes 5 ms of CPU time in its own thread.
VIEW = """

def bench(request):
    import json
    import time

    from django.http import JsonResponse

    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        json.dumps(list(range(100)))
    return JsonResponse({"answer": 42})


urlpatterns.append(path("bench", bench))
"""
ASKED = {"gunicorn, directly": "http://127.0.0.1:8201/bench", "through nginx": "http://127.0.0.1:80/bench"}


def prepared(lab: Lab) -> Host:
    """Boot, bootstrap and converge a host with the app, which has one process and the view."""
    host = lab.boot("dev")
    host.bootstrap()
    lab.build(ROOT / "examples/tickets", host.python)
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / APP
        shutil.copytree(ROOT / "examples" / APP, code)
        with (code / "faq_site/urls.py").open("a") as stream:
            stream.write(VIEW)
        commit(code)
        lab.build(code, host.python)
    host.converge(line=lambda _: None)
    # It is a single program without dependencies.
    subprocess.run(["podman", "cp", shutil.which("hey"), f"{host.name}:/usr/local/bin/hey"], check=True)
    return host


def asked(host: Host, url: str) -> tuple[float, float]:
    """Send requests for some seconds with keep-alive; return requests per second, and the 99th percentile in ms.

    :raises LabError: when any answer is not 200.
    """
    done = host.run("hey", "-z", f"{SECONDS}s", "-c", str(CONNECTIONS), "-o", "csv", "-host", DOMAIN, url)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    wrong = [row["status-code"] for row in rows if row["status-code"] != "200"]
    if wrong or not rows:
        raise LabError(f"{url}: {len(wrong)} of {len(rows)} answers were not 200, such as {wrong[:1]}")
    times = sorted(float(row["response-time"]) * 1000 for row in rows)
    return len(rows) / SECONDS, times[int(len(times) * 0.99)]


def main() -> int:
    """Measure on a fresh host, and keep the result. Return an exit code."""
    steps = Steps()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ASKED}
    with Lab.temporary("bench-serving") as lab:
        with steps.step("boot, bootstrap, converge"):
            host = prepared(lab)
        for n in range(ROUNDS + 1):
            with steps.step(f"round {n} of {ROUNDS}" if n else "a round to warm up"):
                for name, url in in_turn(ASKED.items(), n):
                    one = asked(host, url)
                    found[name] += [one] if n else []
    middle = {name: [statistics.median(column) for column in zip(*one, strict=True)] for name, one in found.items()}
    direct = next(iter(middle.values()))
    Result(
        part="serving",
        title="Requests through the proxy",
        columns=["", "requests per second", "p99, ms", "of asking directly"],
        rows=[[name, f"{rate:.0f}", f"{p99:.1f}", f"{rate / direct[0]:.2f}"] for name, (rate, p99) in middle.items()],
        notes=[
            f"A Django view of 5 ms of CPU, gunicorn with a worker of 4 threads, {CONNECTIONS} connections that are "
            f"kept, {ROUNDS} rounds of {SECONDS} s in turn; hey on the host. Goal: at least 0.9 of asking directly."
        ],
        bars={name: rate for name, (rate, _) in middle.items()},
        unit="requests per second",
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
