"""The processes of the apps, as supervisor is to run them.

Each process is a program of its own, ``<app>.v<release>.<type>.<number>``, in one file for each release. An app's name
has no dot, so that the prefix ``<app>.`` is that app's alone.
"""

import configparser
import glob
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from saltern import apps
from saltern.system import files

# Port, or ``None``, by process, such as ``{'web.1': 8101, 'worker.1': None}``. In the place of a port, ``ALONE`` is
# of a process that runs on one host of the environment at a time.
Ports = dict[str, int | None]
ALONE = 0

# The launcher's word for such a process; see formulas/app/files/launcher/first.py.
ALONE_WORD = "alone"

# Seconds between SIGTERM and SIGKILL, by process type.
Graces = Mapping[str, int]
CONFIG = "/etc/supervisor/conf.d"
LAUNCHER = "/usr/local/lib/saltern/process"
DEFAULT_GRACE = 30

# Seconds after the grace in which the launcher kills what is left, before supervisor kills the launcher.
BACKSTOP = 5

# Each pause before another start is a second longer than the one before: a process is not given up for days.
START_RETRIES = 1000


def longest_grace(settings: Mapping[str, Any]) -> int:
    """Return how long the processes of all apps may take to stop.

    :param settings: of the formula app.
    :return: seconds.
    """
    return max([DEFAULT_GRACE, *(int(seconds) for one in settings.values() for seconds in one["grace"].values())])


def ports(
    formation: Mapping[str, int], first: int, slot: int, alone: Collection[str] = (), others: Sequence[str] = ()
) -> Ports:
    """Name the processes of a formation, each with its port, where its type listens.

    :param formation: number by process type.
    :param first: the first of the app's ports.
    :param slot: 0 or 1.
    :param alone: the process types of which one process runs in the environment.
    :param others: the process types that listen beside ``web``.
    :return: such as ``{'web.1': 8101, 'worker.1': None}``.
    """
    places = apps.places(formation, others)
    names = [(kind, f"{kind}.{index}") for kind in sorted(formation) for index in range(1, formation[kind] + 1)]
    return {
        name: first + slot * apps.SLOT + places[name] if name in places else ALONE if kind in alone else None
        for kind, name in names
    }


def rendered(app: str, release: int, ports: Mapping[str, int | None], graces: Graces) -> str:
    """Write supervisor's configuration for a release's processes.

    No config of the app is in it: supervisor would expand ``%``, and its ``restart`` would keep an old environment.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    :return: the text of the file.
    """
    sections = [f"; v{release} of {app}. Written by its release; edits are overwritten.\n"]
    for process, port in sorted(ports.items(), key=lambda item: _order(item[0])):
        grace = graces.get(process.partition(".")[0], DEFAULT_GRACE)
        word = ALONE_WORD if port == ALONE else port
        sections.append(
            f"[program:{program(app, release, process)}]\n"
            f"command={LAUNCHER} {app} {release} {process}{f' {word}' if word else ''}\n"
            "autostart=true\n"
            "autorestart=true\n"
            "startsecs=1\n"
            f"startretries={START_RETRIES}\n"
            "stopsignal=TERM\n"
            f"stopwaitsecs={grace + BACKSTOP}\n"
            "killasgroup=true\n"
            "stdout_logfile=NONE\n"
            "stderr_logfile=NONE\n"
        )
    return "\n".join(sections)


def _order(process: str) -> tuple[str, int]:
    """Sort ``web.10`` after ``web.9``."""
    kind, _, index = process.partition(".")
    return kind, int(index)


def program(app: str, release: int | str, process: str) -> str:
    """Return supervisor's name of a process.

    :param app: the app's name.
    :param release: the release's number.
    :param process: such as ``web.1``.
    """
    return f"{app}.v{release}.{process}"


def programs(app: str, release: int | None, processes: Iterable[str]) -> list[str]:
    """Return supervisor's names of some processes, sorted.

    :param app: the app's name.
    :param release: the release's number.
    :param processes: such as ``web.1``.
    """
    return sorted(f"{app}.v{release}.{process}" for process in processes)


def path(app: str, release: int) -> str:
    """Return where the configuration of a release's processes is.

    :param app: the app's name.
    :param release: the release's number.
    """
    return f"{CONFIG}/{app}.v{release}.conf"


def configured(app: str, release: int) -> Ports:
    """Read which processes of a release supervisor is to run.

    :param app: the app's name.
    :param release: the release's number.
    :return: port, or ``None``, by process. Empty where the file is not there or not as it was written.
    """
    return parse(_sections(app, release), app, release)


def ended(app: str, release: int) -> set[str]:
    """Read which processes of a release were told to end for good; see ``without_start``.

    :param app: the app's name.
    :param release: the release's number.
    """
    sections = {name: options for name, options in _sections(app, release).items() if options["autostart"] == "false"}
    return {*parse(sections, app, release)}


def _sections(app: str, release: int) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser({"autostart": "true"}, strict=False)
    try:
        parser.read(path(app, release), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return {name: dict(parser[name]) for name in parser.sections()}


def parse(sections: Mapping[str, Mapping[str, str]], app: str, release: int) -> Ports:
    """Take the processes out of supervisor's configuration; see ``configured``.

    :param app: the app's name.
    :param release: the release's number.
    :param sections: options by section.
    """
    found = {}
    for options in sections.values():
        words = options.get("command", "").split()
        if words[:3] == [LAUNCHER, app, str(release)] and len(words) in (4, 5):
            word = words[4] if words[4:] else ""
            found[words[3]] = int(word) if word.isdigit() else ALONE if word == ALONE_WORD else None
    return found


def releases(app: str | None = None) -> list[tuple[str, int]]:
    """List the releases that supervisor is configured to run processes of.

    :param app: one app's only.
    :return: pairs of app and number, sorted.
    """
    names = (os.path.basename(name) for name in glob.glob(f"{CONFIG}/*.conf"))
    matches = filter(None, (re.fullmatch(r"([a-z0-9-]+)\.v([0-9]+)\.conf", name) for name in names))
    return sorted((m[1], int(m[2])) for m in matches if app in (None, m[1]))


def leftovers(app: str) -> list[str]:
    """List files that an interrupted run began.

    :param app: the app's name.
    :return: paths.
    """
    return sorted(glob.glob(f"{CONFIG}/{app}.v*.conf.new"))


def write(app: str, release: int, ports: Mapping[str, int | None], graces: Graces) -> None:
    """Write the file of a release's processes.

    After a power failure it is what starts the app: then it is the old one or the new one.

    :param app: the app's name.
    :param release: the release's number.
    :param ports: port, or ``None``, by process.
    :param graces: seconds by process type.
    """
    files.write(path(app, release), rendered(app, release, ports, graces))


def without_start(text: str, names: Collection[str]) -> str:
    """Return supervisor's configuration with some programs that it does not start, neither at its own start nor after.

    :param text: of the file.
    :param names: of the programs.
    """
    head, *sections = text.split("[program:")
    kept = [head]
    for section in sections:
        name, *lines = section.split("\n")
        if name.removesuffix("]") in names:
            lines = [line for line in lines if not line.startswith(("autostart=", "autorestart="))]
            lines[1:1] = ["autostart=false", "autorestart=false"]
        kept.append("\n".join([name, *lines]))
    return "[program:".join(kept)


def with_start(text: str) -> str:
    """Return supervisor's configuration with no program that it does not start: what ``without_start`` did is undone.

    :param text: of the file.
    """
    return text.replace("\nautostart=false\nautorestart=false\n", "\nautostart=true\nautorestart=true\n")
