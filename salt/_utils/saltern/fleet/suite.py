"""The suite of ``make verify``, run over several hosts at once from their master."""

import concurrent.futures
import dataclasses
import io
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Callable, Mapping, Sequence

# Seconds that the suite may take for a host.
TIMEOUT = 1800
# Characters of a failed test's reason.
REASON = 200
# Columns of the table.
WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the suite found on a host.

    :param passed: how many tests passed.
    :param failed: a line for each test that failed.
    :param skipped: how many tests were skipped.
    :param seconds: how long the suite took.
    """

    passed: int = 0
    failed: Sequence[str] = ()
    skipped: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {len(self.failed)} failed{skipped}, {self.seconds:.0f} s"


def run(tree: str, targets: Mapping[str, str], keys: str, told: Callable[[str], None]) -> dict[str, Outcome]:
    """Run the suite over hosts, as many at once as this machine has processors.

    :param tree: the directory of the tree.
    :param targets: how testinfra reaches each host, by the host's id.
    :param keys: the directory of the master's key, which decrypts the secrets.
    :param told: is called with a line for each host that is done.
    :return: what was found, by host id.
    """
    done = {}
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = {
            pool.submit(_asked, tree, target, keys, os.path.join(directory, f"{host}.xml")): host
            for host, target in sorted(targets.items())
        }
        for future in concurrent.futures.as_completed(asked):
            host = asked[future]
            done[host] = future.result()
            told(f"{host}: {done[host]}")
    return done


def _asked(tree: str, target: str, keys: str, report: str) -> Outcome:
    """Run the suite over one host."""
    command = [sys.executable, "-m", "verify", "-q", f"--hosts={target}", f"--tree={tree}", f"--junit-xml={report}"]
    environ = os.environ | {"GNUPGHOME": keys}
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Outcome(failed=[f"the suite was not done after {TIMEOUT} s"], seconds=TIMEOUT)
    seconds = time.monotonic() - started
    try:
        found = outcome(xml.etree.ElementTree.parse(report).getroot())
    except (OSError, xml.etree.ElementTree.ParseError):
        found = Outcome()
    if done.returncode and not found.failed:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no reason given"]
        found = dataclasses.replace(found, failed=[f"the suite could not be run: {said[-1][:REASON]}"])
    return dataclasses.replace(found, seconds=seconds)


def outcome(report: xml.etree.ElementTree.Element) -> Outcome:
    """Read what pytest reports.

    :param report: the root of its JUnit XML.
    :return: what was found, without the seconds.
    """
    passed, skipped, failed = 0, 0, []
    for case in report.iter("testcase"):
        wrong = next((found for word in ("failure", "error") if (found := case.find(word)) is not None), None)
        if wrong is not None:
            lines = (wrong.get("message") or "").splitlines() or ["no reason given"]
            failed.append(f"{case.get('name', '').partition('[')[0]}: {lines[0][:REASON]}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Outcome(passed, failed, skipped)


def table(done: Mapping[str, Outcome], roles: Mapping[str, Sequence[str]]) -> str:
    """Return what was found as a table.

    :param done: what was found, by host id.
    :param roles: the hosts' roles, by host id.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("host", "roles", "passed", "failed", "skipped", "seconds")
    table.add_column("what failed", overflow="fold")
    for host, found in sorted(done.items()):
        counts = (found.passed, len(found.failed), found.skipped, f"{found.seconds:.0f}")
        names = "\n".join(line.partition(":")[0] for line in found.failed)
        table.add_row(host, ", ".join(roles[host]), *map(str, counts), names)
    stream = io.StringIO()
    Console(file=stream, width=WIDTH).print(table)
    return stream.getvalue().rstrip()
