"""Debian's packages, as apt and dpkg of this machine know them."""

import dataclasses
import difflib
import glob
import os
import re
import subprocess
from collections.abc import Collection, Sequence

# What Debian's policy takes for a package's name.
NAME = r"^[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+]\Z"
LISTS = "/var/lib/apt/lists/*_Packages*"


@dataclasses.dataclass(frozen=True)
class Package:
    """An installed package.

    :param version: its version.
    :param size: the bytes that it takes, as Debian says it.
    """

    version: str
    size: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What apt would do.

    :param removed: the packages that it would remove, sorted.
    :param reason: why it would do nothing, empty where it would do something.
    """

    removed: list[str]
    reason: str


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not there")


def installed() -> dict[str, Package]:
    """Return the installed packages by name."""
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Installed-Size}\n"
    found = {}
    for line in _run("dpkg-query", "--show", f"--showformat={form}").stdout.splitlines():
        status, name, version, size = line.split("\t")
        if status == "installed":
            found[name] = Package(version, int(size or 0) << 10)
    return found


def has_lists() -> bool:
    """Tell whether apt has a list of packages, which it fetches by ``apt-get update``."""
    return bool(glob.glob(LISTS))


def known() -> set[str]:
    """Return the names of all packages that apt knows, without virtual ones."""
    return set(_run("apt-cache", "pkgnames").stdout.split())


def nearest(name: str, names: Collection[str]) -> str:
    """Return which of some names is like another one, empty where none is.

    :param name: what somebody wrote.
    :param names: those that there are.
    """
    # Debian has 60,000 names. Few people mistake the first letter, so the others are looked through afterwards.
    candidates = sorted(one for one in names if abs(len(one) - len(name)) <= 6)
    for some in ([one for one in candidates if one[0] == name[0]], candidates):
        if close := difflib.get_close_matches(name, some, 1, 0.7):
            return close[0]
    return ""


def simulated(names: Sequence[str]) -> Outcome:
    """Ask apt what it would do to install packages.

    :param names: the packages'.
    """
    done = _run("apt-get", "--simulate", "-q", "-y", "install", "--", *names)
    if done.returncode:
        return Outcome([], _reason(done))
    return Outcome(sorted(set(re.findall(r"(?m)^(?:Remv|Purg) (\S+)", done.stdout))), "")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return in one line what apt says to be in the way."""
    _, _, unmet = done.stdout.partition("unmet dependencies:\n")
    lines = [" ".join(line.split()) for line in unmet.splitlines() if line.startswith(" ")]
    errors = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")]
    return "; ".join(lines or errors[:1]) or f"exit code {done.returncode}"
