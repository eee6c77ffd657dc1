"""What apps and config variables add to a converge with nothing to do: ``make bench``."""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench.releases import timed
from bench.report import Result
from tests import pillar
from tests.lab import Host, Lab
from tests.lab.lab import ROOT
from tests.lab.steps import Steps
from tests.worktree import commit

APPS = (1, 5, 20)
VARIABLES = (10, 100, 1000)
ROUNDS = 5
PORT = 8300
PING = ("salt-call", "--local", "-l", "quiet", "test.ping")
COMPILE = ("salt-call", "-l", "quiet", "--out", "quiet", "state.show_lowstate")
CONVERGE = ("salt-call", "--retcode-passthrough", "-l", "error", "--out", "quiet", "state.apply")


def declare(lab: Lab, host: Host, count: int, variables: int, scratch: Path) -> None:
    """Declare so many apps, each with one process and so many config variables, and build those that are new."""
    values = {f"VARIABLE_{n}": f"{n} " + "x" * 40 for n in range(variables)}
    for n in range(count):
        name = f"app{n + 1}"
        if not (scratch / name).exists():
            shutil.copytree(ROOT / "tests/apps/mirror", scratch / name)
            commit(scratch / name)
            lab.release(scratch / name, host.python)
        one = {"port": PORT + 100 * n, "domains": [f"{name}.localhost"], "formation": {"web": 1}}
        pillar.declare(lab.tree / "pillar", "dev", {"app": {name: {"config": None}}})
        pillar.declare(lab.tree / "pillar", "dev", {"app": {name: one | {"config": values}}})


def measure(host: Host) -> dict[str, float]:
    """Return the medians of a ping, of a compile, and of a converge with nothing to do, taken in turn."""
    commands = {"ping": PING, "compile": COMPILE, "converge": CONVERGE}
    taken = [{name: timed(host, *command) for name, command in commands.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in taken) for name in commands}


def main() -> int:
    """Measure on a fresh host, and keep the result. Return an exit code."""
    steps, found = Steps(), {}
    cases = [(1, variables) for variables in VARIABLES] + [(count, VARIABLES[0]) for count in APPS[1:]]
    with Lab.temporary("bench-apps") as lab, tempfile.TemporaryDirectory() as directory:
        with steps.step("boot, bootstrap"):
            # Nothing but what is measured: the examples go with what is secret of them.
            pillar.declare(lab.tree / "pillar", "dev", {"app": {"faq": None, "tickets": None}})
            (lab.tree / "pillar/secrets/dev.sls").write_text("{}\n")
            host = lab.boot("dev")
            host.bootstrap()
        for count, variables in cases:
            with steps.step(f"{count} apps, {variables} variables each") as step:
                declare(lab, host, count, variables, Path(directory))
                host.converge(line=lambda _: None)
                found[count, variables] = one = measure(host)
                step.outcome = f"nothing to do {one['converge']:.2f} s"
    most, least = found[APPS[-1], VARIABLES[0]], found[APPS[0], VARIABLES[0]]
    each = (most["converge"] - least["converge"]) / (APPS[-1] - APPS[0])
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
            f"Seconds, medians of {ROUNDS}. An app more is {each:.3f} s; goal: 0.15. Compiled by `state.show_lowstate`."
        ],
        bars={f"{count} apps": found[count, VARIABLES[0]]["converge"] for count in APPS},
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
