"""Requirements that have no wheel: built from their source, apart from the network, by locked requirements."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from saltern.builds.form import sha256_of
from saltern.builds.make import cache, compiled, index, sandbox
from saltern.builds.make.git import EPOCH
from saltern.builds.make.pins import OF_BUILDS, Pin, command, read_pins
from saltern.builds.make.targets import Target
from saltern.builds.make.telling import elapsed, say
from saltern.builds.make.wheels import Lock, collect_wheels
from saltern.refusal import Refusal

# What a source asks for that says nothing, and what builds it then; see PEP 517.
REQUIRES, BACKEND = ["setuptools>=40.8.0"], "setuptools.build_meta:__legacy__"
# Where what is built goes, below ``sandbox.PLACE``, and what the backend asks for beside what its source says.
OUT, ASKED = "out", "requires.json"
# What compiles, in a container of the hosts' Debian.
COMPILERS = ("--package=build-essential", "--package=pkg-config", "--package=python3-dev")
# Runs one of a backend's hooks: its words are the hook, the backend, and where that is in the source.
HOOK = f"""\
import importlib, json, os, sys
hook, name, *paths = sys.argv[1:]
sys.path[:0] = map(os.path.abspath, paths)
module, _, rest = name.partition(":")
backend = importlib.import_module(module)
for part in filter(None, rest.split(".")):
    backend = getattr(backend, part)
if hook == "build":
    backend.build_wheel("{sandbox.PLACE}/{OUT}")
else:
    asked = getattr(backend, "get_requires_for_build_wheel", list)()
    with open("{sandbox.PLACE}/{OUT}/{ASKED}", "w") as stream:
        json.dump(asked, stream)
"""


@dataclasses.dataclass(frozen=True)
class Builder:
    """What builds wheels.

    :param allowed: the requirements that may be built from their source.
    :param lock: the text of the locked build requirements, ``None`` where there is no such file.
    :param app_dir: what to call the app's directory.
    :param packages: the Debian packages that the hosts have by the app's Aptfile.
    :param variables: the variables that the app's tree has for its build.
    :param target: the hosts.
    :param within: the command that runs a step in the hosts' Debian, see ``sandbox.make_environment``.
    """

    allowed: Sequence[str]
    lock: str | None
    app_dir: str
    packages: Sequence[str]
    variables: Mapping[str, str]
    target: Target
    within: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """A source, unpacked.

    :param pin: the requirement.
    :param directory: where it is.
    :param requires: what its build needs.
    :param backend: what builds it.
    :param paths: where that is in the source, if it is.
    """

    pin: Pin
    directory: str
    requires: Sequence[str]
    backend: str
    paths: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where wheels are built.

    :param python: the Python that builds.
    :param own: what wheels that one takes.
    :param within: the command that runs a step there; none for this machine.
    """

    python: str
    own: Target
    within: Sequence[str] = ()

    def asked(self, scratch: str) -> Sequence[str]:
        """Return the words that come before a question to Debian's tools there.

        :param scratch: a directory for what passes.
        """
        if not self.within:
            return []
        os.makedirs(directory := f"{scratch}/asked")
        return [*self.within, sandbox.make(directory)]


def with_built(lock: Lock, builder: Builder, scratch: str) -> Lock:
    """Return a lock with the wheels of what may be built from source.

    :param lock: the app's.
    :param builder: what builds wheels, and of what.
    :param scratch: a directory for what passes.
    :raises Refusal: where one of them cannot be built, or its wheel would not do on the hosts.
    """
    allowed: dict[str, str] = {canonicalize_name(name): name for name in builder.allowed}
    if unknown := [allowed[name] for name in allowed.keys() - lock.pins.keys()]:
        raise Refusal(
            f"--allow-sdist {min(unknown)}: requirements.txt has no such requirement for Python "
            f"{builder.target.python}; expected one that it has"
        )
    if not allowed:
        return lock
    place = place_of(builder)
    own = place.own
    build_lock = Lock(read_pins(builder.lock or "", own.markers(), OF_BUILDS), builder.lock or "", OF_BUILDS)
    kept = {name: cache.entry("built", *_key(lock.pins[name], builder, build_lock, own)) for name in allowed}
    sources: dict[str, Source] = {}
    for name in sorted(allowed):
        if not _kept_wheel(kept[name]):
            os.mkdir(directory := f"{scratch}/source-{name}")
            if path := index.bring(lock.pins[name], builder.target, directory):
                sources[name] = read_source(lock.pins[name], path, directory)
            else:
                say(f"{name}: has a wheel, and is not built from its source")
                del kept[name]
    _check_lock([one for source in sources.values() for one in source.requires], build_lock, builder, own)
    if sources:
        wheels = sandbox.Wheels(*_files(collect_wheels(build_lock, own, scratch)), own)
        for name, source in sources.items():
            _keep(_build(source, wheels, place, builder, build_lock, scratch), kept[name])
    pins, text, needed = dict(lock.pins), lock.text, dict[str, str]()
    for name, directory in kept.items():
        cache.use(directory)
        file = _kept_wheel(directory)
        needed |= compiled.judge(f"{directory}/{file}", pins[name], builder.target)
        digest = sha256_of(f"{directory}/{file}")
        text = _with_hash(text, pins[name], digest)
        pins[name] = dataclasses.replace(pins[name], hashes=frozenset([digest]))
    compiled.check_libraries(needed, builder.packages, place.asked(scratch))
    return dataclasses.replace(lock, pins=pins, text=text, built=list(kept.values()))


def _with_hash(text: str, pin: Pin, digest: str) -> str:
    """Return a requirements file in which a requirement has one more hash: a host installs what has one."""
    first = next(one for one in re.findall(r"sha256:([0-9a-f]{64})", text) if one in pin.hashes)
    return text.replace(f"sha256:{first}", f"sha256:{digest} --hash=sha256:{first}", 1)


def place_of(builder: Builder) -> Place:
    """Return where wheels are built: on this machine, or else in the hosts' Debian, with what compiles.

    :raises Refusal: where neither has a Python.
    """
    target = builder.target
    if builder.within:
        own = python_of(target)[1] if _pythons(target) else None
        if own is None or own.python != target.python or own.glibc > target.glibc:
            return Place(f"/usr/bin/python{target.python}", target, [*builder.within, *COMPILERS])
    return Place(*python_of(target))


def _pythons(target: Target) -> list[str]:
    """List this machine's Pythons that could build, the best first."""
    names = (f"python{target.python}", "python3")
    return [path for name in names if (path := shutil.which(name, path=sandbox.SYSTEM))]


def python_of(target: Target) -> tuple[str, Target]:
    """Return the Python that builds, the hosts' if this machine has it, and what wheels that one takes."""
    path = next(iter(_pythons(target)), "")
    if not path:
        raise Refusal(f"python{target.python}: not installed; expected it in {sandbox.SYSTEM}, to build from source")
    full = _version_of(path)
    minor = int((os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(".")[2])
    return path, Target(full.rpartition(".")[0], full, minor, os.uname().machine)


def _version_of(python: str) -> str:
    command = [python, "-IS", "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _key(pin: Pin, builder: Builder, build_lock: Lock, own: Target) -> list[str]:
    """Return all on which a wheel depends: its source, what builds it, and for which hosts."""
    lines = [pin.line(), *(one.line() for _, one in sorted(build_lock.pins.items()))]
    lines += [f"{name}={value}" for name, value in sorted(builder.variables.items())]
    return [*lines, repr(own), repr(builder.target), HOOK]


def _kept_wheel(directory: str) -> str:
    """Return the name of the wheel that was kept, empty where there is none as it was."""
    try:
        [digest] = [name for name in os.listdir(directory) if not name.endswith(".whl")]
        [file] = [name for name in os.listdir(directory) if name.endswith(".whl")]
    except (OSError, ValueError):
        return ""
    return file if sha256_of(f"{directory}/{file}") == digest else ""


def _keep(wheel: str, directory: str) -> None:
    """Keep a wheel, beside an empty file that has its digest for a name."""
    with tempfile.TemporaryDirectory(dir=cache.made(), prefix=".") as staged:
        files = [f"{staged}/{os.path.basename(wheel)}", f"{staged}/{sha256_of(wheel)}"]
        shutil.copyfile(wheel, files[0])
        with open(files[1], "wb"):
            pass
        cache.keep(directory, files)


def read_source(pin: Pin, path: str, directory: str) -> Source:
    """Unpack a source, and read what its build needs.

    :param pin: the requirement.
    :param path: the file.
    :param directory: where to unpack it.
    :raises Refusal: where it is no source as Python's packages have it.
    """
    from salt.exceptions import CommandExecutionError

    from saltern.builds import tarball

    name = f"{pin.name}=={pin.version}"
    if not path.endswith(".tar.gz"):
        raise Refusal(f"{name}: its source is {os.path.basename(path)}; expected a .tar.gz. Lock another version")
    try:
        tarball.extract(path, f"{directory}/unpacked")
        [top] = os.listdir(f"{directory}/unpacked")
        with open(f"{directory}/unpacked/{top}/pyproject.toml", "rb") as stream:
            system = _system(tomllib.load(stream))
    except FileNotFoundError:
        system = _system({})
    except (CommandExecutionError, OSError, ValueError) as error:
        reason = str(error).replace(path, os.path.basename(path)).removesuffix("; build it again")
        raise Refusal(f"{name}: its source cannot be read: {reason}; lock another version") from error
    return Source(pin, f"{directory}/unpacked/{top}", *system)


def _system(project: Mapping[str, Any]) -> tuple[list[str], str, list[str]]:
    """Return what a pyproject.toml says of its build.

    :raises ValueError: where that is not as PEP 518 has it.
    """
    system = project.get("build-system", {})
    if isinstance(system, dict):
        requires, paths = system.get("requires", REQUIRES), system.get("backend-path", [])
        backend = system.get("build-backend", BACKEND)
        lists = all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in (requires, paths))
        if lists and isinstance(backend, str) and "\0" not in "".join([backend, *paths]):
            return requires, backend, paths
    raise ValueError("pyproject.toml: its build-system is none")


def _check_lock(requires: Sequence[str], lock: Lock, builder: Builder, own: Target) -> None:
    """Refuse a lock of build requirements that lacks one.

    :raises Refusal: with the commands that make one that does not.
    """
    asked = dict.fromkeys(line for line in requires if _is_for(line, own))
    lacking = [line for line in asked if not _is_met(line, lock)]
    if not lacking:
        return
    said = f"lacks {', '.join(lacking)}" if builder.lock is not None else "there is no such file"
    lines = shlex.join(lacking)
    file = f"{OF_BUILDS.removesuffix('.txt')}.in"
    raise Refusal(
        f"{OF_BUILDS}: {said}; expected the locked requirements of what builds {', '.join(sorted(builder.allowed))}. "
        f"In {builder.app_dir}: printf '%s\\n' {lines} >>{file} && {command(OF_BUILDS)}"
    )


def _requirement(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise Refusal(f"{line[:80]!r}: is no requirement of a build; lock another version") from error


def _is_for(line: str, own: Target) -> bool:
    """Tell whether a requirement counts for the Python that builds."""
    marker = _requirement(line).marker
    try:
        return marker is None or marker.evaluate(own.markers())
    except UndefinedEnvironmentName:
        return False


def _is_met(line: str, lock: Lock) -> bool:
    requirement = _requirement(line)
    pin = lock.pins.get(canonicalize_name(requirement.name))
    return pin is not None and requirement.specifier.contains(Version(pin.version), prereleases=True)


def _files(collected: tuple[str, dict[str, str]]) -> tuple[str, list[str]]:
    return collected[0], list(collected[1])


def _build(
    source: Source, wheels: sandbox.Wheels, place: Place, builder: Builder, build_lock: Lock, scratch: str
) -> str:
    """Build the wheel of a source; return its path.

    :raises Refusal: with the last lines of what failed, and what to do.
    """
    started, name = time.monotonic(), f"{source.pin.name} {source.pin.version}"
    os.mkdir(apart := f"{scratch}/apart-{canonicalize_name(source.pin.name)}")
    directory = sandbox.make(apart)
    os.mkdir(f"{directory}/{OUT}")
    sandbox.give(f"{directory}/{OUT}")
    files = [f"{wheels.directory}/{one}" for one in wheels.files]
    if place.within:
        say(f"{name}: is built in a container of the hosts' Debian")
        sandbox.fill_within(directory, wheels, place.within)
    else:
        sandbox.check(directory)
        if reason := sandbox.filled(f"{directory}/venv", place.python, files):
            raise Refusal(f"{OF_BUILDS}: cannot be installed for {place.python}: {reason}; lock it again")
    os.rmdir(f"{directory}/app")
    os.rename(source.directory, f"{directory}/app")
    _set(f"{directory}/app")
    # No paths of a compilation are in what it makes.
    variables = {"CFLAGS": "-g0", "CXXFLAGS": "-g0"} | sandbox.variables(EPOCH) | dict(builder.variables)
    words, paths = ["python", "-Pc", HOOK], [source.backend, *source.paths]
    try:
        sandbox.run(directory, name, [*words, "ask", *paths], variables, network=False, within=place.within)
        _check_lock(_asked(f"{directory}/{OUT}/{ASKED}", name), build_lock, builder, wheels.target)
        sandbox.run(directory, name, [*words, "build", *paths], variables, network=False, within=place.within)
    except Refusal as refusal:
        if "\n" not in str(refusal):
            raise
        raise Refusal(f"{refusal}\n{compiled.cure(str(refusal), bool(place.within))}") from refusal
    # A link would lead to a file of whoever builds.
    made = [one.name for one in os.scandir(f"{directory}/{OUT}") if one.is_file(follow_symlinks=False)]
    try:
        [file] = [one for one in made if one.endswith(".whl")]
        distribution, version, _, _ = parse_wheel_filename(file)
    except (ValueError, InvalidWheelFilename) as error:
        raise Refusal(f"{name}: its build made no wheel; lock another version") from error
    if (distribution, version) != (canonicalize_name(source.pin.name), Version(source.pin.version)):
        raise Refusal(f"{name}: its build made {file}; expected a wheel of the version that is locked")
    say(f"{name}: built from its source in {elapsed(started)}")
    return f"{directory}/{OUT}/{file}"


def _asked(path: str, name: str) -> list[str]:
    """Return what a backend asks for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as stream:
            asked = json.load(stream)
        os.unlink(path)
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal(f"{name}: what builds it does not say what it needs; lock another version") from error
    return [str(line) for line in asked] if isinstance(asked, list) else []


def _set(tree: str) -> None:
    """Have a source of whom the build runs as, and of one date."""
    for directory, names, files in os.walk(tree, topdown=False):
        for path in (*(f"{directory}/{name}" for name in [*names, *files]), directory):
            sandbox.give(path)
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
