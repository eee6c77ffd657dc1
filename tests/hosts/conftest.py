"""Real hosts for the tests: booted bare, bootstrapped and converged as a user would do it, on each Debian.

SUITE=trixie, or another one, restricts the run to one. Cases that are marked ``alike`` are decided by code
of our own, the same on each Debian: a run of both has each of them once, on one Debian and the other in turn, or on the
one that the mark names.
"""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from lab import Host, Lab, machine
from lab.pillar import Pillar
from tests.hosts import applied
from tests.hosts.applied import Applied, apply
from tests.hosts.examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
SUITES = os.environ.get("SUITE", " ".join(sorted(machine.SUITES))).split()
# The order of the modules, which is said here alone.
#
# Those of shared/ come first, since most tests are theirs. They share one host of each Debian: the first finds it bare;
# the second bootstraps and converges it, and asks how that went. Each of the others finds a converged host and leaves
# one, with the example apps and nothing else. They go from what is asked of every host to what is asked of few, so that
# what is wrong with the host itself is told first.
SHARED = (
    *("bootstrap", "lifecycle", "drift", "drift_is_seen", "app", "links", "builds", "removal", "storage", "jobs"),
    *("settings", "upgrades", "processes", "passwords", "releases", "rollbacks", "canaries", "contracts", "dry_runs"),
)
# Those of own/ boot hosts of their own, so that any order would do. Those that take longest come first: one that began
# last would be waited for by the other processes alone.
OWN = (
    *("readme_production", "readme_server", "fleet", "proxies", "network", "rabbitmq", "readme", "examples", "https"),
    *("firewall", "alone", "memcached", "services_apart", "mail", "roles", "within", "lab"),
)


class BySuite(LoadScopeScheduling):
    """Keeps the tests of one Debian's shared host in one process, and those of a module whose hosts are its own."""

    def _split_scope(self, nodeid):
        module = nodeid.partition("::")[0]
        suite = next((suite for suite in SUITES if f"[{suite}" in nodeid), "")
        return suite if suite and Path(module).parent.name == "shared" else f"{module} {suite}"


def pytest_xdist_make_scheduler(config, log):
    # It would begin with what has most tests, which says nothing of how long they take.
    config.option.loadscopereorder = False
    return BySuite(config, log)


def turn(item):
    """Return when a test has its turn, as a key to sort by. Within its module it stays where it is.

    A module that no list has comes after the others of its directory.
    """
    own, name = item.path.parent.name == "own", item.path.stem.removeprefix("test_")
    order = OWN if own else SHARED
    place = order.index(name) if name in order else len(order)
    suite = item.callspec.params.get("suite") if hasattr(item, "callspec") else None
    # All of one Debian's shared host, then all of the other's.
    return own, 0 if own else SUITES.index(suite) if suite else len(SUITES), place, name


def pytest_collection_modifyitems(config, items):
    cases, others = {}, []
    for item in items:
        mark = item.get_closest_marker("alike")
        if mark and hasattr(item, "callspec"):
            suite = item.callspec.params["suite"]
            places = cases.setdefault(item.function, {})
            place = places.setdefault(item.callspec.id.removeprefix(suite), len(places))
            (named,) = mark.args or [SUITES[place % len(SUITES)]]
            if suite != (named if named in SUITES else SUITES[0]):
                others.append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = sorted((item for item in items if item not in others), key=turn)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.user_properties.append(("converges", applied.made))
    applied.made = 0
    return report


def pytest_terminal_summary(terminalreporter):
    """Show what each module took."""
    parts = {}
    reports = [one for some in terminalreporter.stats.values() for one in some if isinstance(one, pytest.TestReport)]
    for report in reports:
        part = parts.setdefault(report.nodeid.partition("::")[0], {"seconds": 0, "tests": 0, "converges": 0})
        part["seconds"] += report.duration
        part["tests"] += report.when == "call"
        part["converges"] += sum(count for what, count in report.user_properties if what == "converges")
    terminalreporter.section("modules: minutes of a process, tests, converges and dry runs")
    for name, part in sorted(parts.items(), key=lambda one: -one[1]["seconds"]):
        line = f"{part['seconds'] / 60:6.1f} {part['tests']:5} {part['converges']:5}  {name}"
        terminalreporter.write_line(line)


@dataclasses.dataclass(frozen=True)
class Story:
    """The first hour of a host.

    :param lab: the lab that it is in, whose tree a test may edit and must put back.
    :param host: the host.
    :param bootstrap: what bootstrap.sh said.
    :param dry: the dry run after it.
    :param first: the first converge.
    :param second: the second.
    """

    lab: Lab
    host: Host
    bootstrap: str
    dry: Applied
    first: Applied
    second: Applied


@pytest.fixture(scope="session", params=SUITES)
def suite(request):
    """The name of a Debian release."""
    return request.param


@pytest.fixture(scope="session")
def lab(suite):
    """A lab over a copy of the tree, with the example apps built and declared."""
    with Lab.temporary(f"test-{suite}") as lab:
        yield lab


@pytest.fixture(scope="session")
def bare(lab, suite):
    """A bare host: Debian's smallest system that boots."""
    host = lab.boot("dev", suite)
    for app in EXAMPLES:
        lab.build(ROOT / "examples" / app, host.python)
    return host


@pytest.fixture(scope="session")
def story(lab, bare):
    """A converged host, and how it came to be one."""
    started = time.monotonic()
    said = bare.bootstrap()
    dry = apply(bare, "test=True")
    first = apply(bare)
    second = apply(bare)
    print(f"{bare.suite}: bare to converged twice in {time.monotonic() - started:.0f} s, {len(first.states)} states")
    return Story(lab, bare, said, dry, first, second)


@pytest.fixture(scope="session")
def host(story):
    """A converged host."""
    return story.host


@pytest.fixture(scope="session")
def tree(lab):
    """The tree of the hosts, which a test may edit and must put back."""
    return lab.tree


@pytest.fixture
def verify(tree):
    """A function that runs the suite of ``make verify``, or the checks of some formulas, against a host."""

    def run(host: Host, *formulas: str) -> str:
        command = [sys.executable, "-m", "verify", "-q", *formulas]
        command += [f"--hosts=lab://{host.name}", f"--tree={tree}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def pillar(tree):
    """The pillar of the hosts, for a module's tests to edit; all is put back after them."""
    pillar = Pillar(tree)
    yield pillar
    pillar.close()


@pytest.fixture
def edited(tree):
    """A function that replaces text in files of the tree; all is put back after the test."""
    originals = {}

    def edit(path: str, old: str, new: str) -> None:
        file = tree / path
        text = file.read_text()
        assert old in text, f"{path} does not hold {old!r}"
        originals.setdefault(file, text)
        file.write_text(text.replace(old, new, 1))

    yield edit
    for file, text in originals.items():
        file.write_text(text)
