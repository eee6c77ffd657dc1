"""How long a release takes compared with the app's own boot, and what config costs a process: ``make bench``.

All figures come from one run on one host, so that their ratios hold on a busy machine.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from bench.report import Result
from lab import Host, Lab, pillar
from lab.tree import ROOT
from lab.worktree import commit

RUNS = 5
MIRROR = {"port": 8300, "domains": ["mirror.localhost"], "formation": {"web": 2}, "config": {"SHADE": "0"}}

# Runs a command, and asks until its process answers. Arguments: a URL, the header Host, and the command.
BOOT = """
import subprocess, sys, time, urllib.request
started = time.monotonic()
process = subprocess.Popen(sys.argv[3:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while True:
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2]}), timeout=5)
        break
    except OSError:
        time.sleep(0.01)
print(time.monotonic() - started)
process.terminate()
process.wait()
"""
APP_ALONE = ("mirror-run", "uvicorn", "mirror:app", "--port", "8399", "--no-access-log")

# Asks through nginx until the new processes answer. They use the other slot of ports.
ANSWERS = """
import json, time, urllib.request
request = urllib.request.Request("http://127.0.0.1/healthz", headers={"Host": "mirror.localhost"})
slots, deadline = [], time.monotonic() + 60
while len(set(slots)) < 2:
    if time.monotonic() > deadline:
        raise SystemExit("no other process answers after 60 s")
    slots.append(int(json.load(urllib.request.urlopen(request, timeout=5))["port"]) >= 8350)
    time.sleep(0.01)
print(time.time())
"""
MIGRATION = ("mirror-run", "python", "mirror.py", "release")

# Runs a command, and prints the seconds that it took.
TAKEN = """
import subprocess, sys, time
started = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.monotonic() - started)
"""

STARTS = """
import subprocess, time
taken = []
for _ in range(20):
    started = time.monotonic()
    subprocess.run(["mirror-run", "true"], check=True)
    taken.append(time.monotonic() - started)
print(sorted(taken)[10])
"""


def declare(lab: Lab, **changes) -> None:
    """Declare mirror with changed settings, beside its build."""
    for said in ({"config": None, "provides": None}, MIRROR | changes):
        pillar.declare(lab.tree / "pillar", "dev", {"app": {"mirror": said}})


def timed(host: Host, *command: str) -> float:
    """Run a command on the host and return its seconds."""
    started = time.monotonic()
    host.run(*command)
    return time.monotonic() - started


def booted(host: Host, domain: str, *command: str) -> float:
    """Start another process of an app at port 8399, and end it. Return the seconds until it answered."""
    asked = ("http://127.0.0.1:8399/healthz", domain)
    return float(host.run("python3", "-c", BOOT, *asked, *command).stdout)


def served(host: Host, *command: str) -> tuple[float, float]:
    """Run a command that moves the app to another release.

    :return: the seconds until the release answers through nginx, and until the command ends.
    """
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(host.run, "python3", "-c", ANSWERS)
        # Wait until the script has asked once.
        time.sleep(0.5)
        seconds = timed(host, "sh", "-c", 'date +%s.%N >/run/begun && exec "$@"', "sh", *command)
        begun = float(host.run("cat", "/run/begun").stdout)
        return float(answers.result().stdout) - begun, seconds


def build(lab: Lab, host: Host, text: str) -> None:
    """Declare a build of mirror whose code holds a text of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "mirror"
        subprocess.run(["cp", "-r", ROOT / "tests/apps/mirror", code], check=True)
        with (code / "mirror.py").open("a") as stream:
            stream.write(f"\n# {text}\n")
        commit(code)
        lab.build(code, host.python)


def measure(lab: Lab, host: Host) -> tuple[dict[str, list[float]], dict[str, list[tuple[float, float]]]]:
    """Take all figures in turn; return seconds by name. A release has two: until it served, and until it ended."""
    converge = ("salt-call", "--retcode-passthrough", "state.apply")
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    moved: dict[str, list[tuple[float, float]]] = {name: [] for name in MOVES}
    for run in range(RUNS):
        found["test.ping"].append(timed(host, "salt-call", "test.ping"))
        found["nothing to do"].append(timed(host, *converge))
        found["the app's boot"].append(booted(host, "mirror.localhost", *APP_ALONE))
        declare(lab, config={"SHADE": f"c{run}"})
        found["its process release"].append(float(host.run("python3", "-c", TAKEN, *MIGRATION).stdout))
        moved["a config change"].append(served(host, *converge))
        declare(lab, config={"SHADE": f"p{run}"}, provides={"v1": {"path": "/v1"}})
        moved["a config change, with a contract"].append(served(host, *converge))
        moved["a rollback"].append(served(host, "salt-call", "release.rollback", "mirror", "force=True"))
        host.run("salt-call", "release.unhold", "mirror")
        build(lab, host, f"build {run}")
        moved["a new build, with a contract"].append(served(host, *converge))
        declare(lab, config={"SHADE": f"p{run}"})
        host.run(*converge)
        build(lab, host, f"build {run}, again")
        moved["a new build"].append(served(host, *converge))
        found["a process start, 1 variable"].append(float(host.run("python3", "-c", STARTS).stdout))
        declare(lab, config={f"V{n}": "x" * 50 for n in range(500)})
        host.run(*converge)
        found["a process start, 500 variables"].append(float(host.run("python3", "-c", STARTS).stdout))
        declare(lab, config={"SHADE": f"d{run}"})
        host.run(*converge)
    return found, moved


FIGURES = (
    "test.ping",
    "nothing to do",
    "the app's boot",
    "its process release",
    "a process start, 1 variable",
    "a process start, 500 variables",
)
# The changes that make a release.
MOVES = (
    "a config change",
    "a config change, with a contract",
    "a new build",
    "a new build, with a contract",
    "a rollback",
)


def main() -> int:
    """Measure on a fresh host and print a table. Return an exit code."""
    console = Console()
    with Lab.temporary("bench") as lab, console.status("boot, bootstrap, converge"):
        host = lab.boot("dev")
        for app in ("faq", "tickets"):
            lab.build(ROOT / "examples" / app, host.python)
        build(lab, host, "first")
        declare(lab)
        host.bootstrap()
        host.run("salt-call", "--retcode-passthrough", "state.apply")
        found, moved = measure(lab, host)
    alone = {name: statistics.median(values) for name, values in found.items()}
    ping = alone["test.ping"]
    rows = [[name, "", "", f"{seconds:.3f}", f"{seconds / ping:.2f}"] for name, seconds in alone.items()]
    for name, taken in moved.items():
        serves, ends = (statistics.median(column) for column in zip(*taken, strict=True))
        own = alone["the app's boot"] + (alone["its process release"] if "build" in name else 0)
        rows.append([name, f"{serves:.2f}", f"{serves - own:.2f}", f"{ends:.2f}", f"{ends / ping:.2f}"])
    Result(
        part="releases",
        title="A release, beside the app's own boot",
        columns=["", "serves after, s", "beyond the app's own", "seconds", "times test.ping"],
        rows=rows,
        notes=[
            f"Medians of {RUNS} rounds of an app that has two web processes and nothing to migrate, from `state.apply` "
            "until the new release answers through nginx, and until the command ends. The app's own is its boot and, "
            "with a new build, its process `release`, which a config change runs too. Goals: a new build serves at "
            "most 3 s beyond that, after a config change 2 s. With a contract its document's calls are made too."
        ],
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
