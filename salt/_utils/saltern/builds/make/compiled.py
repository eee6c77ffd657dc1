"""What a wheel that was built here needs of its hosts, and what a build that failed lacked."""

import io
import os
import re
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from saltern.builds.make.aptfile import FILE, OF_BUILDS
from saltern.builds.make.pins import Pin
from saltern.builds.make.targets import Target
from saltern.refusal import Refusal

ELF = b"\x7fELF"
GLIBC = re.compile(r"GLIBC_2\.(\d+)")
# The packages that every host has, beside Debian's essential ones; with what they depend on.
BASE = ("apt", "python3", "systemd")
ON_HOSTS = "run make build as root, which has a container of the hosts' Debian, or build on a machine that has it"
# Which Debian package has what compilations ask for most often.
NEEDS = {
    r"Python\.h": "python3-dev",
    r"pg_config|libpq-fe\.h": "libpq-dev",
    r"mysql\.h|mysql_config|mariadb_config": "default-libmysqlclient-dev",
    r"ffi\.h": "libffi-dev",
    r"openssl/\w+\.h": "libssl-dev",
    r"zlib\.h": "zlib1g-dev",
    r"jpeglib\.h": "libjpeg62-turbo-dev",
    r"libxml/\w+\.h": "libxml2-dev",
    r"libxslt/\w+\.h": "libxslt1-dev",
    r"lber\.h|ldap\.h": "libldap-dev",
    r"sasl/sasl\.h|sasl\.h": "libsasl2-dev",
    r"sqlite3\.h": "libsqlite3-dev",
    r"yaml\.h": "libyaml-dev",
    r"(?:gcc|g\+\+|cc|c\+\+|make)": "build-essential",
    r"cmake": "cmake",
    r"pkg-config|pkgconf": "pkg-config",
    r"cargo|rustc": "cargo",
}
LACKS = (
    r"fatal error: (\S+\.h(?:pp)?): No such file",
    r"command '?(?:\S*/)?(?:[\w]+-linux-gnu-)?([\w+-]+)'? failed: No such file",
    r"(?:\w+-linux-gnu-)?([\w+-]+): (?:command )?not found",
    r"No such file or directory: '(?:\w+-linux-gnu-)?([\w+-]+)'",
    r"(pg_config|mysql_config|mariadb_config|pkg-config|cmake|cargo) (?:executable|is required|not found)",
)
# A library's description, by which pkg-config and Meson look for it.
UNDESCRIBED = re.compile(r"""Dependency ["'](\S+?)["'] not found|No package ['"](\S+?)['"] found""")


def judge(path: str, pin: Pin, target: Target) -> dict[str, str]:
    """Refuse a wheel that would not do on the hosts.

    :param path: the wheel's.
    :param pin: the requirement that it is of.
    :param target: the hosts.
    :return: the libraries that it needs and does not bring, with the wheel's name.
    :raises Refusal: with the reason and the way out.
    """
    file = os.path.basename(path)
    _, _, _, tags = parse_wheel_filename(file)
    version = tuple(map(int, target.python.split(".")))
    fitting = {*cpython_tags(version, platforms=target.tags()), *compatible_tags(version, platforms=target.tags())}
    if fitting.isdisjoint(tags):
        raise Refusal(
            f"{file}: was built from the source of {pin.name} and does not fit Python {target.python} on "
            f"{target.tags()[0]}, which is the hosts'; {ON_HOSTS}"
        )
    needed: set[str] = set()
    own: set[str] = set()
    for name, versions, libraries in _read(path):
        newest = max((int(found[1]) for one in versions if (found := GLIBC.match(one))), default=0)
        if newest > target.glibc:
            raise Refusal(f"{file}: {name} needs glibc 2.{newest}, and the hosts have 2.{target.glibc}; {ON_HOSTS}")
        needed |= set(libraries)
        own.add(os.path.basename(name))
    return dict.fromkeys(needed - own, file)


def check_libraries(needed: Mapping[str, str], packages: Sequence[str], there: Sequence[str] = ()) -> None:
    """Refuse libraries that the hosts need not have, where what built the wheels has Debian's packages.

    :param needed: the wheel that needs each.
    :param packages: the Debian packages that the hosts have by the app's Aptfile.
    :param there: the words that come before a question to Debian's tools; none where this machine has built.
    :raises Refusal: with the packages that have them.
    """
    if not needed or not (there or shutil.which("dpkg-query")):
        return
    present, owners_of = _present(packages, there), _owners(needed, there)
    lacking: dict[str, list[str]] = {}
    for library, file in sorted(needed.items()):
        owners = owners_of[library]
        if not owners:
            raise Refusal(f"{file}: needs {library}, which no Debian package here has; hosts would not have it")
        if not owners & present:
            lacking.setdefault(min(owners), []).append(f"{library} ({file})")
    if lacking:
        said = ", ".join(one for libraries in lacking.values() for one in libraries)
        raise Refusal(f"Aptfile: hosts need not have {said}; add to it, one a line: {' '.join(sorted(lacking))}")


def _read(path: str) -> list[tuple[str, set[str], list[str]]]:
    """Return what ``_objects`` yields.

    :raises Refusal: where it cannot be read.
    """
    from elftools.common.exceptions import ELFError

    try:
        return list(_objects(path))
    except (ELFError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        reason = type(error).__name__
        raise Refusal(f"{os.path.basename(path)}: its build made no wheel ({reason}); lock another version") from error


def _objects(path: str) -> Iterator[tuple[str, set[str], list[str]]]:
    """Yield the name of each compiled file of a wheel, the versions of symbols and the libraries that it needs."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                if stream.read(len(ELF)) != ELF:
                    continue
                stream.seek(0)
                versions: set[str] = set()
                libraries: list[str] = []
                section: Any
                for section in ELFFile(io.BytesIO(stream.read())).iter_sections():
                    if isinstance(section, GNUVerNeedSection):
                        versions |= {one.name for _, of_one in section.iter_versions() for one in of_one}
                    elif isinstance(section, DynamicSection):
                        tags: Iterator[Any] = section.iter_tags()
                        libraries += [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
                yield member.filename, versions, libraries


def _owners(libraries: Iterable[str], there: Sequence[str]) -> dict[str, set[str]]:
    """Return the installed packages that have each library."""
    # This machine's own architecture comes first.
    listed = re.findall(r"^\s*(\S+) .*=> (\S+)$", _output(*there, "/sbin/ldconfig", "-p"), re.MULTILINE)
    linker = dict(reversed(listed))
    paths: dict[str, set[str]] = {}
    for library in libraries:
        found = (
            {linker[library], _output(*there, "readlink", "-f", linker[library]).strip()}
            if library in linker
            else set()
        )
        # Debian's lists have a path with or without /usr.
        paths[library] = {f"{usr}{path.removeprefix('/usr')}" for path in found for usr in ("", "/usr")}
    said = _output(*there, "dpkg-query", "-S", *sorted(set().union(*paths.values()))).splitlines()
    lines = [line.rpartition(": ") for line in said if not line.startswith("diversion ")]
    return {
        library: {name.partition(":")[0] for names, _, path in lines if path in of_one for name in names.split(", ")}
        for library, of_one in paths.items()
    }


def _present(packages: Sequence[str], there: Sequence[str]) -> set[str]:
    """Return the installed packages that hosts have too: Debian's base, the Aptfile's, and what these depend on."""
    essential = [
        name
        for is_essential, name in map(
            str.split, _output(*there, "dpkg-query", "-Wf", "${Essential} ${Package}\\n").splitlines()
        )
        if is_essential == "yes"
    ]
    without = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    known = set(_output(*there, "dpkg-query", "-Wf", "${Package}\\n").splitlines())
    asked = [name for name in (*essential, *BASE, *packages) if name in known]
    listed = _output(*there, "apt-cache", "depends", "--recurse", "--installed", *without, *asked)
    return {line.partition(":")[0] for line in listed.splitlines() if line[:1].isalnum()} | set(asked)


def _output(*command: str) -> str:
    """Return what a command says; dpkg fails where it knows one path of several."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def cure(output: str, is_within: bool = False) -> str:
    """Say what to do about a build that failed.

    :param output: its last lines.
    :param is_within: whether it ran in a container of the hosts' Debian, which has the packages of ``Aptfile-build``.
    """
    install = f"add {{}} to {OF_BUILDS}" if is_within else "apt install {}"
    for pattern in LACKS:
        for lacking in re.findall(pattern, output):
            for needs, package in NEEDS.items():
                if re.fullmatch(needs, lacking):
                    return f"{lacking} is missing: {install.format(package)}, and build again"
            if lacking.endswith((".h", ".hpp")):
                return f"{lacking} is missing: install the Debian package that has it (apt-file search {lacking})"
    if found := UNDESCRIBED.search(output):
        file = f"{found[1] or found[2]}.pc"
        return f"{file} is missing: install the Debian package that has it (apt-file search {file})"
    return (
        "mend that; what builds a source has the packages of requirements-build.txt and of "
        f"{f'{FILE} and {OF_BUILDS}' if is_within else 'this machine'}, variables of project.toml, and no network"
    )
