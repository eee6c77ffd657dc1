"""How a host's pillar grows with the inventory: ``make bench``.

Pillars are compiled as a master compiles them, in one process and in turn for inventories of each size, so that ratios
hold on a busy machine.
"""

import contextlib
import itertools
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import salt.config
import salt.pillar
import yaml
from rich.console import Console

from bench.report import Result
from lab.configuration import configuration
from lab.tree import ROOT, copy_tree
from tests.render.minion import BUILD, certificates

SIZES = (10, 100, 1000)
APPS = 50
VARIABLES = 10
RUNS = 15
MASTER = "master1"
# Each environment has two proxies and a database host. The rest are app hosts, by which a fleet grows.
FIRST = {"proxy": "proxy", "spare": "proxy", "db": "database"}
# The hosts whose pillars are compiled.
ASKED = {"an app host": "app1", "the database": "db", "a proxy": "proxy"}


def inventory(size: int) -> dict[str, dict]:
    """Return an inventory of hosts in two environments. Only hosts of the first are compiled.

    :param size: the number of hosts.
    """
    addresses = (f"10.{second}.{third}.{fourth}" for second, third, fourth in itertools.product(*[range(1, 250)] * 3))
    names = [*FIRST, *(f"other-{name}" for name in FIRST), *(f"app{n + 1}" for n in range(size - 2 * len(FIRST)))]
    hosts = {}
    for name, address in zip(names, addresses, strict=False):
        is_other = name.startswith("other-") or (name.startswith("app") and int(name.removeprefix("app")) % 2 == 0)
        role = FIRST.get(name.removeprefix("other-"), "app")
        hosts[name] = {"environment": "staging" if is_other else "dev", "roles": [role], "address": address}
    return hosts


def declare(pillar: Path, hosts: dict[str, dict]) -> None:
    """Write a pillar with an inventory, and with fifty apps that each attach a database.

    :param pillar: its directory.
    :param hosts: the inventory.
    """
    names = [f"shop{n}" for n in range(APPS)]
    common = {
        name: {
            "port": 8000 + 100 * n,
            "formation": {"web": 2, "worker": 1},
            "attach": {"DATABASE_URL": {"postgres": name}},
        }
        for n, name in enumerate(names)
    }
    own = {
        name: {"domains": [f"{name}.example.com"], "config": {f"V{n}": f"value {n}" for n in range(VARIABLES)}}
        for name in names
    }
    passwords = {name: {"password": f"{name}-0123456789-0123456789"} for name in names}
    files = {
        "hosts.yaml": hosts,
        "common.sls": {"app": common},
        "environments/dev.sls": {"app": own},
        "builds/dev.sls": {"app": {name: {"build": BUILD} for name in names}},
        "secrets/dev.sls": {"postgres": {"databases": passwords}},
    }
    for name in ASKED.values():
        files[f"certificates/dev/{name}.sls"] = {"certificates": certificates(name, hosts[name]["address"])}
    for name, content in files.items():
        (pillar / name).parent.mkdir(parents=True, exist_ok=True)
        (pillar / name).write_text(yaml.safe_dump(content, sort_keys=False))


@contextlib.contextmanager
def master(size: int) -> Iterator[dict]:
    """Yield the options of a master whose inventory has so many hosts."""
    with tempfile.TemporaryDirectory(prefix="saltern-growth-") as directory:
        tree, scratch = Path(directory) / "tree", Path(directory) / "root"
        (scratch / "cache").mkdir(parents=True)
        tree.mkdir()
        copy_tree(ROOT, tree)
        shutil.rmtree(tree / "pillar/secrets")
        declare(tree / "pillar", inventory(size))
        places = {"root_dir": "", "cachedir": "cache", "pki_dir": "pki", "sock_dir": "run", "conf_file": "master"}
        opts = salt.config.master_config(None)
        opts.update(configuration(tree, MASTER, "master")["master"])
        opts.update({name: str(scratch / path) for name, path in places.items()} | {"id": f"{MASTER}_master"})
        yield opts


def compiled(opts: dict, minion_id: str) -> tuple[float, float]:
    """Compile a pillar; return the seconds that it took, and the seconds of the top file alone.

    :raises RuntimeError: when the pillar has mistakes.
    """
    pillar = salt.pillar.Pillar(opts, {}, minion_id, "base")
    begun = time.perf_counter()
    top, _ = pillar.get_top()
    pillar.top_matches(top)
    matched = time.perf_counter()
    found = salt.pillar.Pillar(opts, {}, minion_id, "base").compile_pillar()
    ended = time.perf_counter()
    if "_errors" in found or "app" not in found:
        raise RuntimeError(f"{minion_id}: {found.get('_errors')}")
    return ended - matched, matched - begun


def main() -> int:
    """Measure, and print a table. Return an exit code."""
    console = Console(width=120)
    # Salt's own log is turned off, because each compile would write to it.
    logging.disable(logging.CRITICAL)
    seconds: dict[tuple, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack, console.status("compile") as status:
        masters = {size: stack.enter_context(master(size)) for size in SIZES}
        for run in range(RUNS + 1):
            for (who, name), (size, opts) in itertools.product(ASKED.items(), masters.items()):
                status.update(f"compile: {run} of {RUNS}, {who}, {size} hosts")
                found = compiled(opts, name)
                # The first compile reads and checks the inventory.
                seconds.setdefault((who, size, run == 0), []).append(found)
    rows = []
    for who in ASKED:
        for part, index in (("", 0), (", the top file alone", 1)):
            medians = [statistics.median(one[index] for one in seconds[who, size, False]) for size in SIZES]
            cells = [f"{median * 1000:.0f}" for median in medians]
            rows.append([f"{who}{part}", *cells, f"{medians[-1] / medians[0]:.2f}"])
    who = next(iter(ASKED))
    firsts = [seconds[who, size, True][0][0] for size in SIZES]
    rows.append([f"{who}, the inventory is new", *(f"{first * 1000:.0f}" for first in firsts), ""])
    Result(
        part="growth",
        title="A host's pillar, as a master compiles it",
        columns=["milliseconds", *(f"{size} hosts" for size in SIZES), f"{SIZES[-1]} to {SIZES[0]}"],
        rows=rows,
        notes=[
            f"Medians of {RUNS}, with {APPS} apps of {VARIABLES} variables each. Goal: 1,000 hosts at most 1.2 of 10."
        ],
    ).keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
