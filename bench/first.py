"""A host's first converge beside the least work that any tool has, and the size of Salt: ``make bench``.

The floor is what apt and dpkg take for the same packages, on a bootstrapped host like the other one, and the apps' own
virtual environments and migrations, by the same commands with nothing around them.
"""

import statistics
import sys
import time

from bench.releases import timed
from bench.report import Result
from lab import Lab, machine
from lab.steps import Steps
from lab.tree import ROOT

ROUNDS = 3
APPS = ("faq", "tickets")
# Installs the same packages as the states, in the same way: without recommended packages.
PACKAGES = """
import json, subprocess, sys
low = json.loads(subprocess.check_output(["salt-call", "-l", "quiet", "--out", "json", "state.show_lowstate"]))["local"]
for one in low:
    if (one["state"], one["fun"]) == ("pkg", "installed"):
        print(*(one.get("pkgs") or [one["name"]]))
"""
# Each app has its own cache of wheels, so the second app gains nothing from the first.
VENV = """
set -e
uv=$(/opt/saltern/current/bin/python -c 'from uv import find_uv_bin; print(find_uv_bin())')
export UV_CACHE_DIR=/root/floor/cache UV_NO_CONFIG=1 UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never
cd /root/floor/$1
$uv venv -q --relocatable --no-project --python /usr/bin/python3 .venv
$uv pip install -q --python .venv --no-index --find-links wheelhouse --no-build --require-hashes -r requirements.txt
/usr/bin/python3 -IS -m compileall -q -j 0 . || true
"""
# MiB of Saltern's processes on a host at rest, without this command. A process's part of shared memory counts.
RESIDENT = """
for status in /proc/[0-9]*/smaps_rollup; do
    tr '\\0' ' ' <"${status%smaps_rollup}cmdline" 2>/dev/null | grep -qE '[/]opt/saltern|[/]saltern/peers' || continue
    cat "$status"
done 2>/dev/null | awk '/^Pss:/ {used += $2} END {printf "%.1f", used / 1024}'
"""


def ours(lab: Lab) -> tuple[dict[str, float], list[str]]:
    """Bootstrap a bare host and converge it. Return figures by name, and the packages that it installed."""
    host, found = lab.boot("dev"), {}
    started = time.monotonic()
    host.bootstrap()
    host.run("salt-call", "--local", "-l", "quiet", "test.ping")
    found["bootstrap"] = time.monotonic() - started
    found["disk"] = float(host.sh("du -sm /opt/saltern | cut -f 1").stdout)
    for app in APPS:
        lab.build(ROOT / "examples" / app, host.python)
    found["converge"] = timed(host, "salt-call", "--retcode-passthrough", "-l", "error", "state.apply")
    packages = host.run("python3", "-c", PACKAGES).stdout.split()
    found["resident"] = float(host.run("sh", "-c", RESIDENT).stdout or 0)
    found["venv"] = found["migration"] = 0.0
    host.run("supervisorctl", "stop", "all", check=False)
    for app in APPS:
        host.sh(f"mkdir -p /root/floor && cp -r /srv/apps/{app}/current/build/. /root/floor/{app}")
        host.sh(f"cd /root/floor/{app} && rm -rf .venv && find . -name __pycache__ -prune -exec rm -rf {{}} +")
        found["venv"] += timed(host, "sh", "-c", VENV, "venv", app)
        host.sh(f"cd / && su postgres -c 'dropdb --force {app} && createdb -O {app} {app}'")
        found["migration"] += timed(host, f"{app}-run", "sh", "-c", "python manage.py migrate --noinput")
    host.remove()
    return found, packages


def floor(lab: Lab, packages: list[str]) -> float:
    """Install packages on a bootstrapped host with apt alone. Return seconds."""
    host = lab.boot("dev")
    host.bootstrap()
    # The formulas do this too: otherwise Debian would start unwanted services.
    host.sh("ln -s /dev/null /etc/systemd/system/redis-server.service")
    seconds = timed(
        host,
        *(
            "sh",
            "-c",
            "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y install "
            '--no-install-recommends "$@"',
            "apt",
            *packages,
        ),
    )
    host.remove()
    return seconds


def main() -> int:
    """Measure on fresh hosts, in turn, and keep the result. Return an exit code."""
    steps, taken, apt = Steps(), [], []
    with Lab.temporary("bench-first") as lab:
        for n in range(ROUNDS):
            with steps.step(f"round {n + 1} of {ROUNDS}: Saltern") as step:
                found, packages = ours(lab)
                taken.append(found)
                step.outcome = f"bootstrap {found['bootstrap']:.1f} s, converge {found['converge']:.1f} s"
            with steps.step(f"round {n + 1} of {ROUNDS}: apt and dpkg") as step:
                apt.append(floor(lab, packages))
                step.outcome = f"{apt[-1]:.1f} s"
    middle = {name: statistics.median(one[name] for one in taken) for name in taken[0]}
    install = statistics.median(apt)
    least = install + middle["venv"] + middle["migration"]
    rows = [
        ["apt and dpkg, the same packages", f"{install:.1f}", ""],
        ["the apps' virtual environments", f"{middle['venv']:.1f}", ""],
        ["the apps' migrations", f"{middle['migration']:.1f}", ""],
        ["the floor, all of these", f"{least:.1f}", "1.00"],
        ["a first converge", f"{middle['converge']:.1f}", f"{middle['converge'] / least:.2f}"],
        ["bootstrap.sh, from a bare host to a working `salt-call`", f"{middle['bootstrap']:.1f}", ""],
    ]
    version = machine.DEBIANS[machine.SUITES[0]]["version"]
    Result(
        part="first",
        title="A first converge",
        columns=["", "seconds", "times the floor"],
        rows=rows,
        notes=[
            f"Medians of {ROUNDS} rounds, each on a new host of Debian {version}. Goal: at most 1.3 times the floor. "
            "The packages' time has PostgreSQL's cluster in it, which Debian's package makes alone and Saltern itself. "
            f"Saltern itself takes {middle['disk']:.0f} MiB of a host's disk (`/opt/saltern`) and "
            f"{middle['resident']:.1f} MiB of its memory at rest: nothing of it runs but `saltern-peers`, where a "
            "proxy has app hosts to choose from.",
        ],
        bars={"the floor": least, "a first converge": middle["converge"]},
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
