"""The steps of a build: what an app's tree says in its field's own conventions, run with the app's wheels."""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import re
import shutil
import stat
import tarfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saltern.builds.make import sandbox
from saltern.builds.make.code import content_of, read_text
from saltern.builds.make.telling import ascii_name, elapsed, say
from saltern.refusal import Refusal

# The process type of the Procfile that is a step of its build, and no process of the app.
BUILD = "build"
# Where a tree says variables for its build, as Cloud Native Buildpacks have it, and how Django's step is left out.
PROJECT, LEFT_OUT = "project.toml", "DISABLE_COLLECTSTATIC"
STATIC_ROOT = re.compile(rb"^[^#\n]*\bSTATIC_ROOT\b[\"']?\s*[:=](?!=)", re.MULTILINE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What steps leave behind and no build has.
LITTER = re.compile(r"(?:^|/)(?:node_modules|__pycache__)(?:/|$)|\.py[co]$")
# Read before the steps ran.
FIXED = ("Procfile", "requirements.txt", "package.json", "package-lock.json", PROJECT)
# Django's list of hashed names, in the order in which a directory was read.
MANIFEST = "staticfiles.json"
# What nginx sends compressed, from so many bytes on.
TEXTS = re.compile(r"\.(?:css|csv|eot|html?|ico|js|json|map|md|mjs|otf|svg|ttf|txt|wasm|webmanifest|xml)$")
WORTH = 1024
# What npm is told of the way to its registry.
WAYS = re.compile(r"(?:https?_proxy|no_proxy|ssl_cert_file|ssl_cert_dir|node_extra_ca_certs|npm_config_\w+)", re.I)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a build.

    :param name: what to call it.
    :param command: its words.
    :param network: whether it reaches the network.
    """

    name: str
    command: Sequence[str]
    network: bool = False


def variables_of(code: tarfile.TarFile) -> dict[str, str]:
    """Return the variables that a tree's ``project.toml`` has for its build.

    :param code: the app's code, an open tarball.
    :raises Refusal: where the file is not as Cloud Native Buildpacks have it.
    """
    if PROJECT not in code.getnames():
        return {}
    try:
        project: Any = tomllib.loads(read_text(code, PROJECT, "", ""))
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{PROJECT}: no TOML: {error}; mend it") from error
    for part in ("io", "buildpacks", "build", "env"):
        project = project.get(part, {}) if isinstance(project, dict) else {}
    found = {}
    for one in project if isinstance(project, list) else [project] if project else []:
        name, value = (one.get("name"), one.get("value")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise Refusal(
                f"{PROJECT}: io.buildpacks.build.env: expected [[io.buildpacks.build.env]] with a name and a value, "
                "both text"
            )
        found[name] = value
    return found


def steps_of(code: tarfile.TarFile, command: str | None, packages: Mapping[str, object]) -> list[Step]:
    """List the steps that a tree asks for, in their order: npm's, the Procfile's, Django's.

    :param code: the app's code, an open tarball.
    :param command: that of the process type ``build``, if there is one.
    :param packages: the locked requirements by name.
    """
    names = set(code.getnames())
    found = []
    if "package.json" in names and _has_script(code):
        if "package-lock.json" in names:
            # What packages bring to be run at their installation is run after it, without network.
            found.append(Step("npm ci", ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], network=True))
            found.append(Step("npm rebuild", ["npm", "rebuild"]))
            found.append(Step("npm run build", ["npm", "run", "build"]))
        else:
            say("package.json: its script `build` is not run without a package-lock.json; `npm install` makes one")
    if command:
        found.append(Step("Procfile build", ["sh", "-c", command]))
    asked = "manage.py" in names and "django" in packages and "collectstatic" not in (command or "")
    if asked and not variables_of(code).get(LEFT_OUT) and _has_static_root(code):
        found.append(Step("collectstatic", ["python", "manage.py", "collectstatic", "--noinput"]))
    return found


def _has_script(code: tarfile.TarFile) -> bool:
    """Tell whether a package.json has a script ``build``."""
    try:
        package = json.loads(read_text(code, "package.json", "", ""))
    except ValueError as error:
        raise Refusal(f"package.json: no JSON: {error}; mend it") from error
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return isinstance(scripts, dict) and BUILD in scripts


def _has_static_root(code: tarfile.TarFile) -> bool:
    """Tell whether a tree configures where Django collects its static files."""
    return any(
        STATIC_ROOT.search(content_of(code, member))
        for member in code.getmembers()
        if member.isfile() and member.name.endswith(".py")
    )


def take(
    code: tarfile.TarFile,
    steps: Sequence[Step],
    prepared: sandbox.Wheels,
    date: int,
    scratch: str,
    within: Sequence[str] = (),
) -> tarfile.TarFile:
    """Run the steps in a copy of the code; return the code with what they made, an open tarball.

    :param code: the app's code, an open tarball.
    :param steps: what to run, in this order.
    :param prepared: the build's wheels, and for which hosts they are.
    :param date: the modification time of each file, in seconds since 1970.
    :param scratch: a directory for what passes.
    :param within: the command that runs a step in the hosts' Debian, see ``sandbox.make_environment``.
    :raises Refusal: with the step that failed, its exit code and what it said last.
    """
    if any(step.command[0] == "npm" for step in steps) and not shutil.which("npm", path=sandbox.SYSTEM):
        raise Refusal("npm: not installed; expected it for package.json's script `build`: apt install nodejs npm")
    directory = sandbox.make(scratch)
    within = sandbox.make_environment(directory, prepared, within)
    # npm's steps need Node.js and none of the wheels.
    places = {step.name: () if step.command[0] == "npm" else within for step in steps}
    if not all(places.values()):
        sandbox.check(directory)
    tree = f"{directory}/app"
    _unpack(code, tree, date)
    variables = sandbox.variables(date) | variables_of(code)
    for step in steps:
        started = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                ways = stack.enter_context(_registry(f"{directory}/home")) if step.network else {}
                own = variables | ways
                sandbox.run(directory, step.name, step.command, own, step.network, places[step.name])
        except Refusal as refusal:
            raise Refusal(f"{refusal}\n{_cure(step)}") from refusal
        say(f"{step.name}: done in {elapsed(started)}")
    return _gathered(code, tree, f"{scratch}/made.tar")


def _cure(step: Step) -> str:
    """Say what to do about a step that failed."""
    if step.name == "collectstatic":
        return (
            "a build has no config: have the settings do without, or give them a value for the build in "
            f"{PROJECT} ([[io.buildpacks.build.env]]); {LEFT_OUT} = 1 there leaves this step out"
        )
    if step.network:
        return "mend that; package-lock.json must fit package.json, and npm must reach its registry"
    return "mend that; a step has the app's wheels, and neither network nor config"


@contextlib.contextmanager
def _registry(home: str) -> Iterator[dict[str, str]]:
    """Yield the variables by which npm reaches its registry; meanwhile it has the configuration of whoever builds.

    :param home: the directory of the steps' user.
    """
    own, lent = os.path.expanduser("~/.npmrc"), f"{home}/.npmrc"
    if os.path.isfile(own):
        shutil.copyfile(own, lent)
        os.chmod(lent, 0o600)
        sandbox.give(lent)
    try:
        yield {name: value for name, value in os.environ.items() if WAYS.fullmatch(name)}
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lent)


def _unpack(code: tarfile.TarFile, tree: str, date: int) -> None:
    """Write the code into a directory of the steps' user; links do not lead out of it, see ``judge_code``."""
    members = sorted(code.getmembers(), key=lambda member: os.fsencode(member.name))
    for member in members:
        path = f"{tree}/{member.name}"
        if member.isdir():
            os.makedirs(path, exist_ok=True)
        elif member.issym():
            os.symlink(member.linkname, path)
        else:
            with open(path, "wb") as stream:
                stream.write(content_of(code, member))
            os.chmod(path, _mode(member.mode))
        sandbox.give(path)
    # What is written into a directory changes its time.
    for member in reversed(members):
        os.utime(f"{tree}/{member.name}", (date, date), follow_symlinks=False)


def _mode(mode: int) -> int:
    return 0o755 if mode & 0o100 else 0o644


def _gathered(code: tarfile.TarFile, tree: str, path: str) -> tarfile.TarFile:
    """Return the code with what is new or other in a directory.

    :param code: the code, an open tarball.
    :param tree: the directory.
    :param path: where to write the tarball.
    :raises Refusal: for a file that may not change.
    """
    before = {member.name: member for member in code.getmembers()}
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for name in sorted(_entries(tree), key=os.fsencode):
        made = _made(f"{tree}/{name}", name)
        if made is None or _is_same(code, before.get(name), *made):
            continue
        if name in FIXED:
            raise Refusal(f"{name}: a step of the build changed it, after it was read; keep it as it is")
        if name in before and before[name].type != made[0].type:
            raise Refusal(f"{ascii_name(name)}: a step of the build made another kind of file of it; write elsewhere")
        found[name] = made
    found |= _compressed(found, before)
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.PAX_FORMAT) as tar:
        for name, member in before.items():
            if name not in found:
                tar.addfile(member, io.BytesIO(content_of(code, member)) if member.isfile() else None)
        for member, content in found.values():
            tar.addfile(member, io.BytesIO(content))
    say(f"steps: made or changed {sum(member.isfile() for member, _ in found.values())} files")
    return tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape")


def _entries(tree: str) -> Iterator[str]:
    """Yield the paths of what is in a directory, but for what no build has."""
    for directory, names, files in os.walk(tree):
        for name in [*names, *files]:
            path = os.path.relpath(f"{directory}/{name}", tree)
            if not LITTER.search(path):
                yield path
        names[:] = [name for name in names if not LITTER.search(name)]


def _made(path: str, name: str) -> tuple[tarfile.TarInfo, bytes] | None:
    """Return a file, directory or link as a member of a tarball; ``None`` for a socket and the like."""
    member, content = tarfile.TarInfo(name), b""
    status = os.lstat(path)
    member.mode = _mode(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            content = stream.read()
        if os.path.basename(name) == MANIFEST:
            content = _sorted(content)
        member.size = len(content)
    else:
        return None
    return member, content


def _is_same(code: tarfile.TarFile, before: tarfile.TarInfo | None, made: tarfile.TarInfo, content: bytes) -> bool:
    if before is None or before.type != made.type:
        return False
    if before.isdir():
        return True
    if before.issym():
        return before.linkname == made.linkname
    return _mode(before.mode) == made.mode and content_of(code, before) == content


def _sorted(content: bytes) -> bytes:
    """Return a text of JSON with its keys sorted; all else as it is."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.dumps(json.loads(content), sort_keys=True).encode()
    return content


def _compressed(
    found: Mapping[str, tuple[tarfile.TarInfo, bytes]], before: Mapping[str, object]
) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Return a compressed file beside each that a browser would get compressed, where that is worth it."""
    compressed = {}
    for name, (member, content) in found.items():
        packed = f"{name}.gz"
        if member.isfile() and len(content) >= WORTH and TEXTS.search(name) and packed not in {*found, *before}:
            small = gzip.compress(content, 9, mtime=0)
            if len(small) < len(content) * 0.9:
                one = tarfile.TarInfo(packed)
                one.size = len(small)
                compressed[packed] = (one, small)
    return compressed
