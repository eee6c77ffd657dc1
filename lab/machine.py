"""What this machine has: control groups, limits, authorities, Debian mirrors, a package index."""

import dataclasses
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

CONTROL_GROUPS = Path("/sys/fs/cgroup")
AUTHORITIES = Path("/usr/local/share/ca-certificates")
# The hard limits of a host, where this machine's are no lower: systemd's own for open files, and enough processes.
OPEN_FILES = 524288
PROCESSES = 16384
# The Debians by code name; the first is the one that a host has where none is asked for.
DEBIANS = yaml.safe_load((Path(__file__).parents[1] / "salt/debian.yaml").read_text())
SUITES = tuple(DEBIANS)
LEGACY_REFUSED = 13
# On version 1 podman covers a host's own groups of systemd by all of this machine's: each host would have its units
# among those of the others, and the end of one would remove what another needs.
OWN_GROUPS = 'umount -l /sys/fs/cgroup/systemd && exec "$0" "$@"'


def cgroup_version(root: Path = CONTROL_GROUPS) -> int:
    """Return the version of the control groups: 2 where they are unified, otherwise 1."""
    return 2 if (root / "cgroup.controllers").exists() else 1


def runtime() -> str:
    """Return the name of the container runtime that works here: crun refuses control groups of version 1."""
    return "crun" if cgroup_version() == 2 and shutil.which("crun") else "runc"


def init_command(suite: str) -> list[str]:
    """Return the command of a host's first process."""
    if cgroup_version() == 2:
        return ["/sbin/init"]
    # Since Debian 13 systemd refuses control groups of version 1 unless told.
    legacy = ["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"] if DEBIANS[suite]["version"] >= LEGACY_REFUSED else []
    return ["/bin/sh", "-c", OWN_GROUPS, "/sbin/init", *legacy]


def limits() -> list[str]:
    """Return podman's options for the limits of a host: no higher than this machine's own, which may not be raised."""
    return limit_options(
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        resource.getrlimit(resource.RLIMIT_NPROC)[1],
    )


def limit_options(open_files: int, processes: int) -> list[str]:
    """Return podman's options for hard limits of this machine.

    :param open_files: the hard limit of open files, or ``resource.RLIM_INFINITY``.
    :param processes: the hard limit of processes, or ``resource.RLIM_INFINITY``.
    """
    files = OPEN_FILES if open_files == resource.RLIM_INFINITY else min(open_files, OPEN_FILES)
    # podman lowers its own limit to the number of process ids before it sets a container's.
    count = PROCESSES if processes == resource.RLIM_INFINITY else min(processes, PROCESSES)
    soft, hard = open_files_below(files)
    return ["--ulimit", f"nofile={soft}:{hard}", "--ulimit", f"nproc={count}:{count}"]


def open_files_below(hard: int) -> tuple[int, int]:
    """Return the soft and the hard limit of a host's open files, for a hard one. The soft one is systemd's own."""
    return min(1024, hard), hard


def authorities(directory: Path = AUTHORITIES) -> dict[str, bytes]:
    """Return this site's own certificate authorities, by file name."""
    return {path.name: path.read_bytes() for path in sorted(directory.rglob("*.crt"))}


@dataclasses.dataclass(frozen=True)
class Mirror:
    """One place where a Debian suite comes from."""

    uri: str
    suite: str
    component: str

    def __str__(self) -> str:
        return f"deb {self.uri} {self.suite} {self.component}"


def mirrors(suite: str) -> list[Mirror]:
    """Return where this machine's apt gets Debian from, with the names of another suite.

    :param suite: a Debian, by its code name.
    :return: the mirrors, none where apt knows of no Debian archive or has not fetched its lists.
    """
    columns = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", columns, "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    return rewritten(listed.stdout.splitlines(), suite)


def rewritten(lines: Iterable[str], suite: str) -> list[Mirror]:
    """Return the mirrors of apt's list, for a suite.

    :param lines: a line ``URI SUITE COMPONENT`` for each index.
    :param suite: the suite wanted, in place of the one listed.
    :return: the suite's own mirrors, of its updates and of its security. What is not Debian's own is left out.
    """
    found = {}
    for line in lines:
        match = re.fullmatch(rf"(https?://\S+) (?:{'|'.join(SUITES)})((?:-updates|-security)?) (main)", line.strip())
        if match:
            uri, pocket, component = match.groups()
            found[Mirror(uri, suite + pocket, component)] = None
    return sorted(found, key=lambda mirror: mirror.suite)


def apt_options(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what a host's apt must be told to reach the mirrors: proxies, and checks that this site has turned off."""
    dumped = subprocess.run(
        ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], capture_output=True, text=True, check=False
    )
    wanted = re.compile(r'Acquire::(https?::Proxy(::\S+)?|Check-Valid-Until|Check-Date) ".+";')
    options = [line for line in dumped.stdout.splitlines() if wanted.fullmatch(line)]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy") or environment.get(f"{scheme}_proxy".upper())
        if proxy and not any(f"::{scheme}::Proxy " in option for option in options):
            options.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return options


def index_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that tell bootstrap.sh of this machine's package index and proxies."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    names = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    proxies = {name: environment.get(name) or environment.get(name.lower(), "") for name in names}
    return indexes(listed.stdout) | {name: value for name, value in proxies.items() if value}


def indexes(configuration: str) -> dict[str, str]:
    """Return the variables for the indexes of pip's configuration that another host can reach.

    :param configuration: what ``pip config list`` says.
    """
    found: dict[str, str] = {}
    # pip's own order: what stands later wins.
    for section in ("global", "install", ":env:"):
        for option, variable in (("index-url", "PIP_INDEX_URL"), ("extra-index-url", "PIP_EXTRA_INDEX_URL")):
            match = re.search(rf"^{section}\.{option}='(.*)'$", configuration, re.MULTILINE)
            if match:
                words = match[1].replace("\\n", " ").split()
                found[variable] = " ".join(word for word in words if word.startswith(("http://", "https://")))
    return {variable: value for variable, value in found.items() if value}
