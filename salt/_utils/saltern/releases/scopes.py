"""What runs as a process of an app: the control group that its launcher makes for it.

It is a scope below the app's slice; see the launcher, ``formulas/app/files/launcher``.
"""

import contextlib
import glob
import os
import re

from saltern.releases import process as processes
from saltern.releases.process import Ports

GROUPS = "/sys/fs/cgroup"


def group(app: str, release: int | str, process: str) -> str:
    """Return the directory of a process's control group, as the launcher names it.

    :param app: the app's name.
    :param release: the release's number.
    :param process: such as ``web.1``.
    """
    kind, _, index = process.partition(".")
    return f"{_groups(app)}/app-{_escaped(app)}-{_escaped(kind)}-{index or 0}.v{release}.scope"


def _groups(app: str) -> str:
    """Return the directory of an app's slice, below which the control groups of its processes are."""
    return f"{_root()}/app.slice/app-{_escaped(app)}.slice"


def _root() -> str:
    """Return where the control groups are by which systemd knows processes: of version 2, mixed, or of version 1."""
    roots = (GROUPS, f"{GROUPS}/unified", f"{GROUPS}/systemd")
    return next((root for root in roots if os.path.exists(f"{root}/cgroup.procs")), GROUPS)


def _escaped(name: str) -> str:
    # To systemd a dash in a slice's name is the end of its parent's.
    return name.replace("-", "\\x2d")


def pids(app: str, release: int | str, process: str) -> list[int]:
    """List what runs as a process: its launcher, and all that comes from it.

    :param app: the app's name.
    :param release: the release's number.
    :param process: such as ``web.1``.
    :return: PIDs, none where it does not run.
    """
    return _pids(group(app, release, process))


def _pids(directory: str) -> list[int]:
    """Return the PIDs in a control group, none where it is not there."""
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as stream:
            return [int(pid) for pid in stream.read().split()]
    except OSError:
        return []


def of_supervisor() -> list[int]:
    """List what runs in supervisor's own control group: an earlier launcher made no scopes."""
    return _pids(f"{_root()}/system.slice/supervisor.service")


def outliving(app: str, release: int) -> Ports:
    """Return the processes of a release whose launchers are there, as these were started.

    :param app: the app's name.
    :param release: the release's number.
    """
    found = {}
    for directory in glob.glob(f"{glob.escape(_groups(app))}/*.v{release}.scope"):
        for pid in _pids(directory):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = stream.read().decode("utf-8", "replace").rstrip("\0").split("\0")
                if os.fstat(stream.fileno()).st_uid == 0 and processes.LAUNCHER in words and "--first" in words:
                    command = [processes.LAUNCHER, *words[words.index("--first") + 1 :]]
                    found[f"{directory} {pid}"] = {"command": " ".join(command)}
    # Neither the process type release nor a run of a job is one that supervisor runs.
    return {name: port for name, port in processes.parse(found, app, release).items() if name.count(".") == 1}


def of_runs(app: str | None = None) -> list[tuple[str, int]]:
    """List the releases that runs of jobs and one-off commands have: each ends with the release that it began with.

    :param app: one app's only.
    :return: pairs of app and number, sorted.
    """
    pattern = re.compile(r"app-(.+)-.+-.+\.[0-9]+\.v([0-9]+)\.scope")
    found = set()
    for directory in glob.glob(f"{glob.escape(_groups(app)) if app else f'{_root()}/app.slice/app-*.slice'}/*.scope"):
        match = pattern.fullmatch(os.path.basename(directory))
        if match and _pids(directory):
            found.add((match[1].replace("\\x2d", "-"), int(match[2])))
    return sorted(found)


def in_use() -> list[tuple[str, int]]:
    """List the releases with whose config something runs on this host: processes of supervisor's, runs of
    jobs, and one-off commands.

    :return: pairs of app and number, sorted.
    """
    return sorted({*processes.releases(), *of_runs()})


def known(app: str) -> set[str]:
    """Return the processes of an app that run in a control group, as supervisor names them.

    :param app: the app's name.
    """
    pattern = re.compile(rf"app-{re.escape(_escaped(app))}-(.+)-([0-9]+)\.v([0-9]+)\.scope")
    try:
        found = [match for name in os.listdir(_groups(app)) if (match := pattern.fullmatch(name))]
    except OSError:
        return set()
    named = [(match[3], match[1].replace("\\x2d", "-"), match[2]) for match in found]
    # A scope without a number is of the process type release, which supervisor does not run.
    there = [(number, f"{kind}.{index}") for number, kind, index in named if index != "0"]
    return {processes.program(app, number, process) for number, process in there if pids(app, number, process)}
