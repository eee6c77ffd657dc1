"""Canaries: values that occur nowhere else. A search finds them in files, in processes and in the journal."""

import ast
import base64
import contextlib
import dataclasses
import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab import Host
from lab.host import PRIVATE
from lab.podman import exec_command

# Runs on the host as root. It reads what to search for from standard input, since everybody can read a command line.
SEARCH = r"""
import json, os, pwd, re, stat, sys

needles = re.compile(b"|".join(re.escape(needle.encode()) for needle in json.load(sys.stdin)))
users = {entry.pw_name: entry for entry in pwd.getpwall()}


def search(path):
    try:
        with open(path, "rb") as stream:
            return sorted({found.decode() for found in needles.findall(stream.read())})
    except OSError:
        return []


def readers(path):
    found = []
    for name, entry in users.items():
        pid = os.fork()
        if pid == 0:
            try:
                os.initgroups(name, entry.pw_gid)
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
                open(path, "rb").close()
                os._exit(0)
            except OSError:
                os._exit(1)
        if os.waitpid(pid, 0)[1] == 0:
            found.append(name)
    return found


places, read = [], 0
for top, directories, files in os.walk("/"):
    if top == "/":
        directories[:] = sorted(set(directories) - {"proc", "sys", "dev"})
    for path in (os.path.join(top, file) for file in files):
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
        except OSError:
            continue
        read += 1
        if found := search(path):
            places.append([path, found, readers(path)])
for pid in filter(str.isdigit, os.listdir("/proc")):
    for kind in ("cmdline", "environ"):
        path = f"/proc/{pid}/{kind}"
        if pid != str(os.getpid()) and (found := search(path)):
            places.append([path, found, readers(path)])
print(json.dumps({"places": places, "files": read}))
"""

# Runs on the host until its standard input ends: prints the titles of processes that contain a canary.
WATCH = r"""
import json, os, re, select, sys

needles = re.compile(b"|".join(re.escape(needle.encode()) for needle in json.loads(sys.stdin.readline())))
print("watching", flush=True)
rounds, seen = 0, set()
while not select.select([sys.stdin], [], [], 0.01)[0]:
    rounds += 1
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                title = stream.read()
        except OSError:
            continue
        if needles.search(title):
            seen.add(title.replace(b"\0", b" ").decode(errors="replace"))
print(json.dumps({"rounds": rounds, "titles": sorted(seen)}))
"""


def settings_with_one() -> set[str]:
    """Return the secret settings that have a canary on some host: those that a test module names in ``SETTINGS``.

    The canary of a service that the shared host lacks is in the module of that service's own hosts.
    """
    found = set()
    for path in sorted(Path(__file__).parent.glob("*/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SETTINGS":
                found |= ast.literal_eval(node.value).keys()
    return found


@dataclasses.dataclass(frozen=True)
class Place:
    """A place where canaries were found.

    :param path: a file, or one of /proc.
    :param canaries: which ones.
    :param readers: the users of the host who can read it.
    """

    path: str
    canaries: frozenset[str]
    readers: frozenset[str]


class Canaries:
    """Values for secret settings that occur nowhere else.

    Each begins with a word of its own. All share a mark that nothing else contains.

    :param names: the canaries' names, of lower-case letters.
    """

    def __init__(self, *names: str):
        self.mark = secrets.token_hex(12)
        self.names = names

    def value(self, name: str) -> str:
        """Return a canary's value: 16 ASCII characters and more, without spaces."""
        assert name in self.names
        return f"canary-{name}-{self.mark}"

    @property
    def needles(self) -> list[str]:
        """What the search looks for: the values, and the shared mark as base64 writes it."""
        encoded = [base64.b64encode(b"\0" * shift + self.mark.encode()).decode()[4:-4] for shift in range(3)]
        return [self.value(name) for name in self.names] + encoded + [self.mark]

    def named(self, found: list[str]) -> frozenset[str]:
        """Return the names of the canaries that a search has found. A finding without a name is returned as it is."""
        return frozenset(next((name for name in self.names if self.value(name) == one), one) for one in found)

    def places(self, host: Host) -> tuple[list[Place], int]:
        """Search all files and processes of a host; return where they are, and how many files were read."""
        found = json.loads(host.run("python3", "-c", SEARCH, input=json.dumps(self.needles)).stdout)
        places = [Place(path, self.named(which), frozenset(users)) for path, which, users in found["places"]]
        return places, found["files"]

    def in_text(self, text: str) -> list[str]:
        """Return the lines of a text that contain a canary, or the shared mark."""
        return [line for line in text.splitlines() if any(needle in line for needle in self.needles)]

    @contextlib.contextmanager
    def watched(self, host: Host) -> Iterator[list[str]]:
        """Watch the titles of a host's processes; yield a list that ends up with those that contained a canary."""
        titles: list[str] = []
        command, environ = exec_command(host.name, ["python3", "-c", WATCH], stdin=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env=environ, text=True, **pipes) as watch:
            watch.stdin.write(json.dumps(self.needles) + "\n")
            watch.stdin.flush()
            assert watch.stdout.readline() == "watching\n"
            try:
                yield titles
            finally:
                answer = json.loads(watch.communicate()[0])
        assert answer["rounds"] > 10
        titles += answer["titles"]

    def strays(self, host: Host, belongs: Mapping[str, set[str]]) -> list[Place]:
        """Search a host; return the places where no canary belongs, and those that the wrong users can read.

        :param host: the host. This machine's tree, which is mounted there, is not searched.
        :param belongs: users who may read a canary there, besides root, by pattern of a path.
        """
        places, files = self.places(host)
        assert files > 10_000
        own = [place for place in places if not place.path.startswith(f"{PRIVATE}/")]

        def may_read(path: str) -> set[str]:
            return set().union(*(users for pattern, users in belongs.items() if re.fullmatch(pattern, path)))

        # A search that misses the canaries where they belong would prove nothing elsewhere.
        for pattern in belongs:
            assert any(re.fullmatch(pattern, place.path) for place in own), pattern
        return [
            place for place in own if not may_read(place.path) or not place.readers <= may_read(place.path) | {"root"}
        ]
