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
# The hard limits of a host, unless this machine's are lower: systemd's default for open files, and enough processes.
OPEN_FILES = 524288
PROCESSES = 16384
# The Debians by code name; the first is the default.
DEBIANS = yaml.safe_load((Path(__file__).parents[1] / "salt/debian.yaml").read_text())
SUITES = tuple(DEBIANS)
LEGACY_REFUSED = 13
# On version 1, podman hides a host's own systemd groups behind all of this machine's. All hosts would then share one
# place for their units, and the end of one host would remove groups that another needs.
OWN_GROUPS = 'umount -l /sys/fs/cgroup/systemd && exec "$0" "$@"'


def cgroup_version(root: Path = CONTROL_GROUPS) -> int:
    """Return the version of the control groups: 2 if they are unified, otherwise 1."""
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
    """Return podman's options for a host's limits, which cannot be higher than this machine's own."""
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
    # podman first lowers its own limit to the number of process ids.
    count = PROCESSES if processes == resource.RLIM_INFINITY else min(processes, PROCESSES)
    soft, hard = open_files_below(files)
    return ["--ulimit", f"nofile={soft}:{hard}", "--ulimit", f"nproc={count}:{count}"]


def open_files_below(hard: int) -> tuple[int, int]:
    """Return a host's soft and hard limit of open files for a hard limit. The soft one is systemd's default."""
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
    """Return the mirrors from which this machine's apt gets Debian, with the names of another suite.

    :param suite: a Debian, by its code name.
    :return: the mirrors; none if apt has no Debian archive or has not fetched its lists.
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
    :return: the mirrors of the suite, its updates and its security updates. Other archives are left out.
    """
    found = {}
    for line in lines:
        match = re.fullmatch(rf"(https?://\S+) (?:{'|'.join(SUITES)})((?:-updates|-security)?) (main)", line.strip())
        if match:
            uri, pocket, component = match.groups()
            found[Mirror(uri, suite + pocket, component)] = None
    return sorted(found, key=lambda mirror: mirror.suite)


def apt_options(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return apt's configuration for a host to reach the mirrors: proxies, and checks that this site has turned off."""
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
    """Return the variables that give bootstrap.sh this machine's package index and proxies."""
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
    # As in pip, a later line wins.
    for section in ("global", "install", ":env:"):
        for option, variable in (("index-url", "PIP_INDEX_URL"), ("extra-index-url", "PIP_EXTRA_INDEX_URL")):
            match = re.search(rf"^{section}\.{option}='(.*)'$", configuration, re.MULTILINE)
            if match:
                words = match[1].replace("\\n", " ").split()
                found[variable] = " ".join(word for word in words if word.startswith(("http://", "https://")))
    return {variable: value for variable, value in found.items() if value}
