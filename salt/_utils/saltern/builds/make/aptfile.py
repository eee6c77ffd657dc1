"""An app's Aptfile: the Debian packages that its hosts must have; and those that its builds must have."""

import platform
import re
import tarfile
from collections.abc import Iterator

import yaml

from saltern.builds.form import MAX_PACKAGES, shown
from saltern.builds.make.code import read_text
from saltern.builds.make.targets import Target
from saltern.refusal import Refusal
from saltern.system import apt

FILE = "Aptfile"
# What builds have beside that, in a container of the hosts' Debian.
OF_BUILDS = "Aptfile-build"
EXPECTED = "expected the name of a Debian package, such as libjpeg62-turbo"


def packages_of(code: tarfile.TarFile, app_dir: str, target: Target, tree: str, file: str = FILE) -> list[str]:
    """Return the packages that an Aptfile asks for, sorted; none where the app has no such file.

    :param code: the app's code, an open tarball.
    :param app_dir: what to call it.
    :param target: the hosts for which the build is.
    :param tree: the directory of the tree.
    :param file: the name of the file.
    :raises Refusal: naming the line that is none.
    """
    if file not in code.getnames():
        return []
    lines = dict(read_packages(read_text(code, file, app_dir, "expected a file of that name"), file))
    if len(lines) > MAX_PACKAGES:
        raise Refusal(f"{file}: asks for more than {MAX_PACKAGES} packages; expected less")
    check_packages(lines, target, tree, file)
    return sorted(lines)


def read_packages(text: str, file: str = FILE) -> Iterator[tuple[str, int]]:
    """Yield the packages of an Aptfile and the number of each one's line.

    :param text: the file's.
    :param file: its name.
    :raises Refusal: naming the line that is none.
    """
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if reason := _wrong(name):
            raise Refusal(f"{file} line {number}: {reason}; {EXPECTED}")
        yield name, number


def _wrong(name: str) -> str:
    """Say why a line is no package's name, empty where it is one. An address may have a password in it."""
    if name.startswith(":repo:"):
        return ":repo: is no package, and hosts have Debian's own alone"
    if "://" in name or name.endswith(".deb"):
        return "a URL or a file is no package's name"
    if len(name.split()) > 1:
        return f"{shown(name)}: more than one word"
    if found := re.match(r"^([^=/:]+)[=/:]", name):
        return f"{shown(name)}: {shown(found[1])} comes in the version that the hosts' Debian has"
    return "" if re.match(apt.NAME, name) else f"{shown(name)}: not a package's name"


def check_packages(lines: dict[str, int], target: Target, tree: str, file: str = FILE) -> None:
    """Refuse a package that the hosts' Debian does not have, where this machine has the same Debian.

    On any other machine, the hosts refuse it.

    :param lines: the number of each package's line.
    :param target: the hosts for which the build is.
    :param tree: the directory of the tree.
    :param file: the name of the file.
    :raises Refusal: naming the line and the nearest name.
    """
    with open(f"{tree}/salt/debian.yaml", encoding="utf-8") as stream:
        debians = yaml.safe_load(stream)
    suite = next(name for name, debian in debians.items() if debian["python"] == target.full)
    if not lines or not is_like(suite, target.machine):
        return
    known = apt.known()
    for name, number in lines.items():
        if name not in known:
            near = apt.nearest(name, known) or "a package that it has (apt-cache search)"
            raise Refusal(
                f"{file} line {number}: {name}: Debian {debians[suite]['version']} has no such package; expected {near}"
            )


def is_like(suite: str, machine: str) -> bool:
    """Tell whether this machine has apt's lists of a Debian's packages.

    :param suite: the Debian's code name.
    :param machine: the architecture, such as ``x86_64``.
    """
    try:
        own = platform.freedesktop_os_release()
    except OSError:
        return False
    is_same = (own.get("ID"), own.get("VERSION_CODENAME"), platform.machine()) == ("debian", suite, machine)
    return is_same and apt.has_lists()
