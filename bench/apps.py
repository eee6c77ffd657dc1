"""What apps and config variables add to a converge with nothing to do: ``make bench``."""

import contextlib
import itertools
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench import in_turn
from bench.converge import changed_by_saltern
from bench.releases import timed
from bench.report import Result
from lab import Host, Lab, pillar
from lab.podman import LabError
from lab.steps import Steps
from lab.tree import ROOT
from lab.worktree import commit

APPS = (1, 5, 20)
VARIABLES = (10, 100, 1000)
ROUNDS = 5
PORT = 8300
PING = ("salt-call", "--local", "-l", "quiet", "test.ping")
COMPILE = ("salt-call", "-l", "quiet", "--out", "quiet", "state.show_lowstate")
CONVERGE = ("salt-call", "--retcode-passthrough", "-l", "error", "--out", "quiet", "state.apply")
COMMANDS = {"ping": PING, "compile": COMPILE, "converge": CONVERGE}


def declare(lab: Lab, host: Host, count: int, variables: int, scratch: Path) -> None:
    """Declare so many apps, each with one process and so many config variables, and build those that are new."""
    values = {f"VARIABLE_{n}": f"{n} " + "x" * 40 for n in range(variables)}
    for n in range(count):
        name = f"app{n + 1}"
        if not (scratch / name).exists():
            shutil.copytree(ROOT / "tests/apps/mirror", scratch / name)
            commit(scratch / name)
            lab.build(scratch / name, host.python)
        one = {"port": PORT + 100 * n, "domains": [f"{name}.localhost"], "formation": {"web": 1}}
        pillar.declare(lab.tree / "pillar", "dev", {"app": {name: {"config": None}}})
        pillar.declare(lab.tree / "pillar", "dev", {"app": {name: one | {"config": values}}})


def started(lab: Lab, case: tuple[int, int], scratch: Path) -> Host:
    """Boot a host that has so many apps and variables, and converge it."""
    # The example apps and their secrets are removed: only the measured apps stay.
    pillar.declare(lab.tree / "pillar", "dev", {"app": {"faq": None, "tickets": None}})
    (lab.tree / "pillar/secrets/dev.sls").write_text("{}\n")
    host = lab.boot("dev")
    declare(lab, host, *case, scratch)
    host.bootstrap()
    host.converge(line=lambda _: None)
    if changed := changed_by_saltern(host):
        raise LabError(f"{host.id}: a second converge would change {', '.join(changed)}")
    return host


def measure(hosts: dict[tuple[int, int], Host]) -> dict[tuple[int, int], dict[str, float]]:
    """Return each host's medians of a ping, a compile, and a converge with nothing to do; hosts take turns."""
    taken: dict[tuple[int, int], list[dict[str, float]]] = {case: [] for case in hosts}
    for n in range(ROUNDS + 1):
        for case, host in in_turn(hosts.items(), n):
            one = {name: timed(host, *command) for name, command in COMMANDS.items()}
            # The first round warms up.
            taken[case] += [one] if n else []
    return {
        case: {name: statistics.median(one[name] for one in each) for name in COMMANDS} for case, each in taken.items()
    }


def slopes(counts: tuple[int, ...], seconds: list[float], of: int = 1) -> str:
    """Say how much time more apps or variables take from each count to the next: equal steps are linear growth."""
    pairs = zip(itertools.pairwise(counts), itertools.pairwise(seconds), strict=True)
    return ", ".join(f"{(y - x) / (b - a) * of:.3f} s (from {a} to {b})" for (a, b), (x, y) in pairs)


def main() -> int:
    """Measure on fresh hosts, save the result, and return an exit code."""
    steps, hosts = Steps(), {}
    cases = [(1, variables) for variables in VARIABLES] + [(count, VARIABLES[0]) for count in APPS[1:]]
    with contextlib.ExitStack() as stack:
        for case in cases:
            with steps.step(f"a host: apps {case[0]}, variables of each {case[1]}"):
                lab = stack.enter_context(Lab.temporary(f"bench-apps-{case[0]}-{case[1]}"))
                scratch = stack.enter_context(tempfile.TemporaryDirectory())
                hosts[case] = started(lab, case, Path(scratch))
        with steps.step(f"{ROUNDS} rounds"):
            found = measure(hosts)
    by_apps = [found[count, VARIABLES[0]]["converge"] for count in APPS]
    by_variables = [found[APPS[0], count]["converge"] for count in VARIABLES]
    rows = [
        [
            *(str(count), str(variables)),
            *(f"{one[name]:.2f}" for name in ("ping", "compile", "converge")),
            f"{one['converge'] / one['ping']:.2f}",
        ]
        for (count, variables), one in found.items()
    ]
    Result(
        part="apps",
        title="Apps and config variables",
        columns=["apps", "variables of each", "test.ping", "compiling alone", "nothing to do", "times test.ping"],
        rows=rows,
        notes=[
            f"Seconds, medians of {ROUNDS} rounds over a host for each row. An app more takes {slopes(APPS, by_apps)}; "
            f"a hundred variables more {slopes(VARIABLES, by_variables, 100)}. Goal: linear, and 0.15 s an app. "
            "Compiled by `state.show_lowstate`, with Salt's own start in it as in all."
        ],
        bars={f"{count} apps": found[count, VARIABLES[0]]["converge"] for count in APPS},
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
