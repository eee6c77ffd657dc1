"""Builds: an app's tarball, fetched, judged and unpacked with its virtual environment.

A build is complete or not there: it is made beside its place and renamed into it.
"""

import base64
import contextlib
import csv
import fcntl
import filecmp
import glob
import grp
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import posixpath
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from urllib.parse import urljoin

from salt.exceptions import CommandExecutionError

from saltern.system import bounded, deletion

__load__ = ["damage", "foresee", "is_first", "is_unpacked", "misowned", "unpack"]

ROOT = "/srv/apps"
LOCKS = "/run/saltern"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
FORMAT = 1
# How many builds are looked at for what a new one has too: what was deployed last is most like what comes now.
NEWEST = 5
# What uv makes: files that all may read, and those that all may run.
MODES = (stat.S_IFREG | 0o644, stat.S_IFREG | 0o755)
# What a build was like when it was unpacked. The environment is ours alone: no tarball has one.
DESCRIPTION = ".venv/.saltern.json"
# Directories each of whose files every converge looks at; of all others only the times, which tell of any file that was
# added, removed or renamed in them.
NEAR = (".", ".venv", ".venv/bin")
# Without these no process of a build starts.
NEEDED = ("build.json", ".venv/bin/python", ".venv/lib/python3*/site-packages")
COMPILE = ("prlimit", f"--as={4 << 30}", "/usr/bin/python3", "-IS", "-m", "compileall", "-q")
MEGABYTE = 1_000_000
# Of a path in a build, as bin/build has them.
MAX_PATH, MAX_NAME, MAX_DEPTH = 1000, 255, 100
# Seconds since 1970 that each file system can keep.
MAX_TIME = 1 << 32
# Bytes of what a tarball says of one member, of a build.json, of an OpenAPI document, and of all of these.
MAX_HEADER, MAX_MANIFEST, MAX_DOCUMENT, MAX_DOCUMENTS = 1 << 20, 1 << 20, 8_000_000, 12_000_000
# What follows a tarball's last member, and is nothing.
MAX_TRAILER = 1 << 24
# Bytes that stay free on the file system, and those of a block.
RESERVE, BLOCK = 256_000_000, 4096
DOCUMENT = re.compile(r"openapi/(v[0-9]{1,4})\.yaml\Z")
# Seconds for reading a tarball or wheels, for a command of a build, for a download, and for a part of it.
READING, COMMAND_LIMIT, DOWNLOAD, PART = 900, 1800, 3600, 60
# Memory in MB for what reads them.
MEMORY = 768
PART_SIZE, MAX_REDIRECTS = 1 << 18, 5


def is_unpacked(app):
    """Tell whether the declared build of an app is on the host, as it was unpacked.

    :param app: the app's name.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call build.is_unpacked tickets
    """
    return not damage(app)


def damage(app, sha256=None, deeply=False):
    """Say what of a build is missing or other than it was unpacked.

    It looks at names, modes, sizes and times, and reads nothing: at each directory, and at the files that every start
    needs. At each file, which takes a fifth of a second for a large build, where a process of the app is not well.

    :param app: the app's name.
    :param sha256: the build's digest, the declared one's where it is not given.
    :param deeply: look at each file.
    :return: such as ``.venv/bin/python is missing``, empty where it is whole.

    CLI Example:

    .. code-block:: bash

        salt-call build.damage tickets deeply=True
    """
    directory = _path(app, sha256 or __pillar__["app"][app]["build"]["sha256"])
    found = damage_of(directory, deeply)
    if not found and not deeply and not __salt__["process.is_well"](app):
        found = damage_of(directory, deeply=True)
    return found


def damage_of(directory, deeply=False):
    """See ``damage``.

    :param directory: the build's.
    """
    if not os.path.lexists(directory):
        return "it is not there"
    if os.path.islink(directory) or not os.path.isdir(directory):
        return "it is no directory"
    for needed in NEEDED:
        # The interpreter is a link to the system's.
        if not any(map(os.path.exists, glob.glob(f"{directory}/{needed}"))):
            return f"{needed.replace('python3*', 'python3')} is missing"
    try:
        with open(f"{directory}/{DESCRIPTION}", encoding="utf-8") as stream:
            was = json.load(stream)
        for path, state in was["near"].items():
            found = _state(f"{directory}/{path}")
            if found is None:
                return f"{path} is missing"
            if found != state:
                return f"{path} is not as it was unpacked"
        if deeply and _digest(directory) != was["all"]:
            return "a file in it is not as it was unpacked"
    except FileNotFoundError:
        # One that was unpacked before there were any.
        return ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "it was not unpacked to its end"
    return ""


def _state(path):
    """Return what a file or directory is like, ``None`` where there is none. It changes with what is in it."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # Whose the build's own directory is, is put right where it is: see `own`.
    whose = [0, 0, 0] if path.endswith("/.") else [status.st_mode, status.st_uid, status.st_gid]
    return [*whose, 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns]


def _digest(directory):
    """Return a digest of what each file and directory of a build is like."""
    lines = []
    for path, _, files in os.walk(directory):
        found = {os.path.relpath(one, directory) for one in (path, *(f"{path}/{name}" for name in files))}
        lines += [[one, _state(f"{directory}/{one}")] for one in found - {DESCRIPTION}]
    return hashlib.sha256(repr(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def describe(directory):
    """Write down what a build is like now; see ``damage``.

    :param directory: the build's.
    """
    path = f"{directory}/{DESCRIPTION}"
    # Its place is in its directory before that is looked at. What it then says changes no time of that.
    _blank(path)
    near = [os.path.relpath(found, directory) for found, _, _ in os.walk(directory)]
    for parent in NEAR:
        near += [os.path.normpath(f"{parent}/{name}") for name in os.listdir(f"{directory}/{parent}")]
    near = sorted(set(near) - {DESCRIPTION})
    said = {"near": {one: _state(f"{directory}/{one}") for one in near}, "all": _digest(directory)}
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        json.dump(said, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _blank(path):
    """Have a manifest that says that its build is not whole."""
    with open(path, "w", encoding="ascii") as stream:
        os.fchmod(stream.fileno(), 0o644)


def is_first(app):
    """Tell whether the declared build of an app can be unpacked early: it waits for no other app.

    Where apps serve, a build is judged by what the others run when it is its turn. Where the host is to trust
    authorities of its own, one of them may be the server's that has the build.

    :param app: the app's name.
    :return: a boolean.

    CLI Example: none, it serves the app's states.
    """
    source = __pillar__["app"][app]["build"]["source"]
    if source.startswith("https://") and __pillar__["base"]["ca_certificates"]:
        return False
    if any(__salt__["release_store.current"](one) is not None for one in __pillar__["app"]):
        return False
    return not is_unpacked(app)


def _path(app, sha256):
    return f"{ROOT}/{app}/builds/{sha256[:12]}"


def unpack(app, deeply=False):
    """Bring the declared build of an app onto the host, and have one that was damaged there as it was.

    Where another process is at it, which a run that was killed may have left behind, it waits for what that one makes.

    :param app: the app's name.
    :param deeply: look at each file of a build that is there.
    :raises CommandExecutionError: with the step that failed, the reason and what to do. Nothing is left behind.

    CLI Example:

    .. code-block:: bash

        salt-call build.unpack tickets
        salt-call build.unpack tickets deeply=True
    """
    target = _path(app, __pillar__["app"][app]["build"]["sha256"])
    directory = os.path.dirname(target)
    try:
        group = grp.getgrnam(app).gr_gid
    except KeyError:
        raise CommandExecutionError(
            f"{app}: has no user on this host yet; expected a converge of all of it first"
        ) from None
    os.makedirs(directory, exist_ok=True)
    own(directory, group)
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(f"{LOCKS}/{app}.build", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if damage(app, deeply=deeply):
            _unpack(app, target, group)
        own(target, group)


def misowned(app):
    """List the directories of the declared build that are another's than root's, or not for the app alone to read.

    :param app: the app's name.
    :return: paths that are to be put right; none where the app has no user yet.

    CLI Example: none, it serves the state ``build.unpacked``.
    """
    target = _path(app, __pillar__["app"][app]["build"]["sha256"])
    try:
        group = grp.getgrnam(app).gr_gid
    except KeyError:
        return []
    found = []
    for path in (os.path.dirname(target), target):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (0, group, 0o750):
                found.append(path)
    return found


def own(directory, group):
    """Have a directory root's, and read by an app alone.

    :param directory: its path.
    :param group: the app's.
    """
    os.chown(directory, 0, group)
    os.chmod(directory, 0o750)


def _unpack(app, target, group):
    """Make a build beside its place and rename it into it, while nobody else does."""
    one, directory = __pillar__["app"][app], os.path.dirname(target)
    declared, limits = one["build"], one["unpacked"]
    staged = f"{directory}/.{os.path.basename(target)}"
    deletion.delete([staged])
    fetched = f"{staged}.tar.gz"
    try:
        tarball = _fetch(app, declared["source"], fetched, limits)
        _check_digest(app, tarball, declared)
        _check_room(app, directory, _inspected(app, tarball, limits))
        extract(tarball, staged)
        build = _judge(app, staged)
        _check_processes(app, declared, build)
        _judge_wheels(app, staged, limits)
        __salt__["contract.judge"](
            app, declared["sha256"], build, lambda version: __salt__["contract.text_of"](app, staged, version)
        )
        _make_venv(app, staged)
        own(staged, group)
        describe(staged)
        if os.path.lexists(target):
            replace(target, staged)
            describe(target)
        else:
            os.rename(staged, target)
    except CommandExecutionError as error:
        if os.path.isdir(target):
            raise CommandExecutionError(
                f"{app}: build {os.path.basename(target)} is damaged ({damage_of(target, deeply=True)}) and cannot be "
                f"unpacked again; what runs is left as it is: {error}"
            ) from error
        raise
    except OSError as error:
        raise CommandExecutionError(
            f"app.{app}.build: {error.strerror or error}: {error.filename or staged}"
        ) from error
    finally:
        deletion.delete([staged])
        if os.path.exists(fetched):
            os.unlink(fetched)


def replace(target, staged):
    """Have a damaged build as another that was unpacked beside it.

    Processes run in its directories: those stay, and what is in them is replaced by renames.

    :param target: the directory that is damaged.
    :param staged: the one that is whole, which is used up.
    """
    if not _is_directory(target):
        os.unlink(target)
        os.rename(staged, target)
        return
    # A run that is interrupted leaves no manifest that fits, and the next one begins again.
    for one in (staged, target):
        if os.path.isdir(os.path.dirname(f"{one}/{DESCRIPTION}")):
            _blank(f"{one}/{DESCRIPTION}")
    _fill(target, staged)


def _fill(target, staged):
    """Have in a directory what is in another one, by renames, and nothing else."""
    status = os.stat(staged)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in sorted({*os.listdir(staged), *os.listdir(target)}):
        new, old = f"{staged}/{name}", f"{target}/{name}"
        if _is_directory(new) and _is_directory(old):
            _fill(old, new)
            continue
        if os.path.lexists(old) and (_is_directory(old) or not os.path.lexists(new) or _is_directory(new)):
            _remove(old)
        if os.path.lexists(new):
            os.rename(new, old)


def _is_directory(path):
    return os.path.isdir(path) and not os.path.islink(path)


def _remove(path):
    if _is_directory(path):
        # What an operator has mounted there stays.
        deletion.delete([path])
    else:
        os.unlink(path)


def _check_digest(app, tarball, declared):
    """Refuse a tarball that is another than the declared one.

    :raises CommandExecutionError: with the digest that it has.
    """
    found = _sha256(tarball)
    if found != declared["sha256"]:
        raise CommandExecutionError(
            f"app.{app}.build.sha256: {declared['source']} has the sha256 {found}; expected the declared one. "
            "Declare the build that is meant, or put the right one there"
        )


def foresee(app):
    """Refuse the declared build of an app for what it would do to others, where its tarball is at hand.

    :param app: the app's name.
    :raises CommandExecutionError: with the reason.

    CLI Example: none, it serves the dry run of the state ``build.unpacked``.
    """
    one = __pillar__["app"][app]
    declared, source = one["build"], one["build"]["source"]
    tarball = __salt__["cp.cache_file"](source) if source.startswith("salt://") else source
    # What is elsewhere is not fetched by a dry run.
    if tarball and os.path.isfile(tarball):
        _check_digest(app, tarball, declared)
        found = _inspected(app, tarball, one["unpacked"])
        _check_room(app, ROOT, found)
        build = judged(app, found["manifest"], found["has"].__contains__)
        _check_processes(app, declared, build)
        documents = found["documents"]
        __salt__["contract.judge"](app, declared["sha256"], build, lambda version: documents.get(version, ""))


# --- What a tarball holds, before any of it is on the disk ------------------------------------------------------------


_MISDESCRIBED = "says something of a member that cannot be read"
PAX_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{0,40})?", re.ASCII)


class _Unacceptable(ValueError):
    """A tarball is not what may be unpacked. All else that is a ValueError is Python's own, of what it cannot read."""


class _Reader:
    """Reads what a gzip file holds, never much at once, and not more than there may be.

    What a tarball says of a member is read whole, whatever it says of its own size.

    :param stream: the gzip file.
    :param most: bytes.
    """

    def __init__(self, stream, most):
        self.stream, self.most, self.last = stream, most, b""

    def read(self, size=-1):
        if not 0 <= size <= MAX_HEADER:
            raise _Unacceptable("says more of a member than any build needs; build it again")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, offset, whence=os.SEEK_SET):
        if whence != os.SEEK_SET or offset > self.most:
            raise _Unacceptable("holds more than it may; build it again")
        return self.stream.seek(offset, whence)

    def tell(self):
        return self.stream.tell()


def inspect(tarball, limits):
    """Read a tarball, and write nothing. It is to be called in a process of its own.

    :param tarball: path of a ``.tar.gz``.
    :param limits: how many ``megabytes`` and ``files`` a build may have.
    :return: the ``bytes`` and ``files`` that it unpacks to, the text of its build.json as ``manifest`` or ``None``, the
        texts of its OpenAPI documents by version as ``documents``, and which members it ``has``.
    :raises ValueError: naming the first member that is not acceptable, or a damaged tarball.
    """
    most = limits["megabytes"] * MEGABYTE
    found = {"bytes": 0, "files": 0, "manifest": None, "documents": {}, "has": []}
    kinds = {}
    try:
        with gzip.open(tarball) as stream:
            reader = _Reader(stream, 2 * most)
            tar = tarfile.open(fileobj=reader, mode="r:")  # noqa: SIM115 it holds nothing of its own
            for member in tar:
                # It would keep what it knows of each.
                tar.members = []
                found["files"] += 1
                if member.size < 0:
                    raise _Unacceptable(f"damaged: {shown(member.name)} has a size below 0; build it again")
                found["bytes"] += member.size
                if found["files"] > limits["files"] or found["bytes"] > most:
                    raise _Unacceptable(
                        f"unpacks to more than {limits['files']} files or {limits['megabytes']} MB; expected less, "
                        "or a higher app.{app}.unpacked"
                    )
                if reason := _misnamed(member):
                    raise _Unacceptable(f"{shown(member.name)} {reason}; expected what a host can keep; build it again")
                if reason := _refusal(member, set()):
                    raise _Unacceptable(f"{shown(reason)}; expected members that stay inside the build")
                path = posixpath.normpath(member.name)
                kind = "link" if member.issym() else "directory" if member.isdir() else "file"
                if path in kinds and (kind, kinds[path]) != ("directory", "directory"):
                    raise _Unacceptable(f"{shown(path)} is there twice; expected each member once; build it again")
                kinds[path] = kind
                _take_text(tar, member, path, found)
            # Python's tarfile ends without a word at what is no member, and leaves out all behind it.
            if reader.last.strip(b"\0"):
                raise _Unacceptable("damaged: what follows its last readable member is none; build it again")
            _read_trailer(stream)
    except _Unacceptable:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise _Unacceptable(f"damaged: {_damage(error)}; build it again") from error
    except (ValueError, OverflowError, TypeError, LookupError) as error:
        # What Python says of a number that is none names neither the tarball nor the member.
        raise _Unacceptable(f"damaged: {_MISDESCRIBED}; build it again") from error
    except RecursionError as error:
        raise _Unacceptable("damaged: says things of a member again and again; build it again") from error
    for path in kinds:
        for parent in map(str, pathlib.PurePosixPath(path).parents):
            if kinds.get(parent) == "link" or (kinds.get(parent) == "file" and parent != path):
                what = "a symbolic link" if kinds[parent] == "link" else "a file"
                raise _Unacceptable(f"{shown(path)} lies behind {what}; expected members that stay inside the build")
    found["has"] = [name for name in ("Procfile", "requirements.txt", ".venv") if name in kinds]
    # As a host looks for them once it is unpacked: a directory of that name is none.
    found["has"] = [name for name in found["has"] if name == ".venv" or kinds[name] != "directory"]
    return found


def _damage(error):
    """Say in plain words why a tarball cannot be read."""
    if isinstance(error, gzip.BadGzipFile):
        return "its checksum does not fit" if "check" in str(error) else "is no gzip file, or goes on behind its end"
    if isinstance(error, zlib.error) or "zlib" in str(error):
        return "its compressed data cannot be read"
    return str(error)


def _take_text(tar, member, path, found):
    """Note what a member says, where it is one that says something of the build."""
    version = DOCUMENT.match(path)
    if not member.isfile() or not (version or path == "build.json"):
        return
    limit = MAX_DOCUMENT if version else MAX_MANIFEST
    if member.size > limit or sum(map(len, found["documents"].values())) > MAX_DOCUMENTS:
        raise _Unacceptable(f"{path} has more than {limit // MEGABYTE} MB; expected less; build it again")
    stream, text = tar.extractfile(member), b""
    while part := stream.read(1 << 16):
        text += part
    try:
        if version:
            found["documents"][version[1]] = text.decode()
        else:
            found["manifest"] = text.decode()
    except UnicodeDecodeError as error:
        raise _Unacceptable(f"{path} is not in UTF-8; build it again") from error


def _read_trailer(stream):
    """Read to the end: gzip knows only there whether it was whole, and tar may stop before."""
    left = MAX_TRAILER
    while part := stream.read(MAX_HEADER):
        left -= len(part)
        if left < 0 or part.strip(b"\0"):
            raise _Unacceptable("goes on after its last member; build it again")


def _misnamed(member):
    """Say why no host can keep a member under its name, or return ``None``."""
    try:
        name = os.fsencode(member.name)
    except UnicodeEncodeError:
        return "has a name that is no text"
    if b"\0" in name or b"\0" in os.fsencode(member.linkname):
        return "has a NUL in its name"
    if len(name) > MAX_PATH or len(os.fsencode(member.linkname)) > MAX_PATH:
        return f"has a path of more than {MAX_PATH} bytes"
    parts = name.split(b"/")
    if len(parts) > MAX_DEPTH:
        return f"is more than {MAX_DEPTH} directories deep"
    if max(map(len, parts)) > MAX_NAME:
        return f"has a name of more than {MAX_NAME} bytes"
    # One that says NaN fits no comparison.
    if not 0 <= member.mtime < MAX_TIME:
        return "has a time before 1970 or after 2106"
    # Python takes a number that is none for 0.
    for key in ("size", "mtime", "atime", "ctime", "uid", "gid"):
        if not PAX_NUMBER.fullmatch(member.pax_headers.get(key, "0")):
            return f"has no number for its {key}"
    if member.issparse():
        return "is a sparse file"
    return None


def shown(name):
    """Return the name of a member as it can stand in a message.

    :param name: whatever a tarball says.
    """
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}"


def _inspected(app, tarball, limits):
    """Return what a tarball holds; see ``inspect``.

    :raises CommandExecutionError: naming the app and the file.
    """
    try:
        return bounded.call(inspect, tarball, limits, seconds=READING, megabytes=MEMORY)
    except ValueError as error:
        reason = str(error).replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build: {tarball}: {reason}") from error


def _check_room(app, directory, found):
    """Refuse what the file system of a directory has no room for.

    :param directory: it need not be there.
    :param found: ``bytes`` and ``files``.
    """
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    room = os.statvfs(directory)
    # The last block of each file is half empty, and a directory or a link is one as well.
    needed = found["bytes"] + found["files"] * BLOCK
    free, files = room.f_bavail * room.f_frsize - RESERVE, room.f_favail
    if needed > free:
        there = max(free, 0) // MEGABYTE
        raise CommandExecutionError(
            f"app.{app}.build: needs {needed // MEGABYTE + 1} MB, and {directory} has {there} MB free "
            f"beside a reserve of {RESERVE // MEGABYTE} MB; free some, or keep fewer releases (app.{app}.keep_releases)"
        )
    # Some file systems have no number of files that there can be.
    if room.f_files and found["files"] > files:
        raise CommandExecutionError(
            f"app.{app}.build: has {found['files']} files, and {directory} has room for {files}; remove some, or keep "
            f"fewer releases (app.{app}.keep_releases)"
        )


def _judge_wheels(app, staged, limits):
    """Refuse wheels that are none, or that would not find room: they are unpacked by uv, which does not ask."""
    wheelhouse = pathlib.Path(staged, "wheelhouse")
    wheels = sorted(path.name for path in wheelhouse.glob("*.whl"))
    earlier = sorted(pathlib.Path(ROOT, app, "builds").glob("[!.]*"), key=_modified, reverse=True)[:NEWEST]
    new = [
        name
        for name in wheels
        if not any(_is_there(build / "wheelhouse" / name, wheelhouse / name) for build in earlier)
    ]
    try:
        arguments = (str(wheelhouse), wheels, new, limits)
        found = bounded.call(measured, *arguments, seconds=READING, megabytes=MEMORY)
    except ValueError as error:
        reason = str(error).replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build: {reason}") from error
    _check_room(app, staged, found)


def _is_there(kept, wheel):
    """Tell whether an earlier build, which was measured then, has the same wheel."""
    with contextlib.suppress(OSError):
        return filecmp.cmp(kept, wheel, shallow=False)
    return False


def measured(wheelhouse, wheels, new, limits):
    """Return what wheels unpack to. It is to be called in a process of its own.

    :param wheelhouse: the directory that they are in.
    :param wheels: the names of all.
    :param new: those whose content is to be read: what a zip file says of itself may not be so.
    :param limits: see ``inspect``.
    :return: ``bytes`` and ``files``.
    :raises ValueError: naming the wheel.
    """
    found = {"bytes": 0, "files": 0}
    for name in wheels:
        try:
            with zipfile.ZipFile(f"{wheelhouse}/{name}") as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            raise ValueError(f"wheelhouse/{name}: no wheel ({type(error).__name__}); build it again") from error
        found["files"] += len(members)
        found["bytes"] += sum(member.file_size for member in members)
        if found["files"] > limits["files"] or found["bytes"] > limits["megabytes"] * MEGABYTE:
            raise ValueError(
                f"wheelhouse/{name}: unpacks, with the wheels before it, to more than {limits['files']} files or "
                f"{limits['megabytes']} MB; expected less, or a higher app.{{app}}.unpacked"
            )
        with open(f"{wheelhouse}/{name}", "rb") as stream:
            for member in members if name in new else ():
                if _inflated(stream, member) != member.file_size:
                    raise ValueError(
                        f"wheelhouse/{name}: {shown(member.filename)} is not as large as it says; build it again"
                    )
    return found


def _inflated(stream, member):
    """Return how many bytes a member of a zip file has, up to one more than it says; -1 where that cannot be told."""
    stream.seek(member.header_offset)
    header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        return -1
    stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
    left, count = member.compress_size, 0
    if member.compress_type == zipfile.ZIP_STORED:
        return left
    if member.compress_type != zipfile.ZIP_DEFLATED or member.flag_bits & 1:
        return -1
    inflating = zlib.decompressobj(-15)
    while count <= member.file_size and not inflating.eof:
        data = inflating.unconsumed_tail or stream.read(min(left, 1 << 16))
        if not inflating.unconsumed_tail:
            left -= len(data)
            if not data:
                return -1
        try:
            count += len(inflating.decompress(data, 1 << 20))
        except zlib.error:
            return -1
    return count


# --- Where it comes from ----------------------------------------------------------------------------------------------


def _fetch(app, source, fetched, limits):
    """Return a path of the tarball on this host."""
    if source.startswith("https://"):
        return _download(app, source, fetched, limits)
    path = __salt__["cp.cache_file"](source) if source.startswith("salt://") else source
    if not path or not os.path.isfile(path):
        raise CommandExecutionError(
            f"app.{app}.build.source: {source}: no such file; put the build there that was declared"
        )
    return path


def _download(app, source, fetched, limits):
    """Bring a tarball, in a process of its own, which ends whatever the server does."""
    most = limits["megabytes"] * MEGABYTE
    try:
        reason = bounded.call(downloaded, source, fetched, most, seconds=DOWNLOAD, megabytes=MEMORY)
    except ValueError as error:
        reason = str(error)
    if reason:
        reason = reason.replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build.source: the server {reason}; expected the tarball")
    return fetched


class _LateError(Exception):
    """A part of an answer did not come in time. No OSError, which the libraries would try again."""


def downloaded(source, fetched, most):
    """Bring a file over HTTPS. It is to be called in a process of its own.

    :param source: its address.
    :param fetched: where to write it.
    :param most: how many bytes it may have.
    :return: why it could not be brought, or ``None``.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    def late(*_):
        raise _LateError

    signal.signal(signal.SIGALRM, late)
    session = requests.Session()
    # The library reads a redirect's own content to its end, which it need not have, also where it is not to follow it.
    session.get_redirect_target = lambda answer: None
    retry = Retry(3, redirect=0, backoff_factor=0.5, status_forcelist=(502, 503, 504), raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))
    try:
        for _ in range(MAX_REDIRECTS + 1):
            # It bounds each read, and so waits for whoever sends a byte now and then.
            signal.alarm(PART)
            # It would trust its own list of authorities, not the host's.
            answer = session.get(source, stream=True, timeout=(10, PART), verify=CA_BUNDLE)
            with answer:
                if answer.is_redirect:
                    source = urljoin(source, answer.headers["Location"])
                    if not source.startswith("https://"):
                        return "leads elsewhere than to https://"
                    continue
                if answer.status_code != 200:
                    return f"answered {answer.status_code}"
                return _write(answer, fetched, most)
        return f"leads on and on, {MAX_REDIRECTS} times and more"
    except _LateError:
        return f"sends nothing, or next to nothing, within {PART} s"
    except (requests.RequestException, HTTPError) as error:
        return f"cannot be reached ({type(error).__name__})"
    except OSError as error:
        return f"answers, and what it sends cannot be kept ({error.strerror})"


def _write(answer, fetched, most):
    """Write an answer to a file; return why not, or ``None``."""
    count, said = 0, answer.headers.get("Content-Length", "")
    if said.isdecimal() and int(said) > most:
        return f"says that it sends {int(said) // MEGABYTE} MB, and app.{{app}}.unpacked allows {most // MEGABYTE}"
    with open(fetched, "wb") as stream:
        while True:
            signal.alarm(PART)
            part = answer.raw.read(PART_SIZE)
            if not part:
                return None
            count += len(part)
            if count > most:
                return f"sends more than the {most // MEGABYTE} MB that app.{{app}}.unpacked allows"
            room = os.statvfs(os.path.dirname(fetched))
            if room.f_bavail * room.f_frsize < RESERVE:
                return f"sends more than there is room for in {os.path.dirname(fetched)}"
            stream.write(part)


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def extract(tarball, target):
    """Unpack a tarball whose every member stays inside the target.

    :param tarball: path of a ``.tar.gz``.
    :param target: a directory that is not there yet.
    :raises CommandExecutionError: naming the first member that is not acceptable, or a damaged tarball.
    """
    try:
        with tarfile.open(tarball, "r:gz") as tar:
            members = tar.getmembers()
            # gzip knows at its end only whether it was whole; tar may stop before.
            while tar.fileobj.read(1 << 20):
                pass
            links = {posixpath.normpath(member.name) for member in members if member.issym()}
            refusal = next(filter(None, (_refusal(member, links) for member in members)), None)
            if refusal:
                raise CommandExecutionError(f"{tarball}: {refusal}; expected members that stay inside the build")
            os.mkdir(target)
            for member in members:
                member.uid = member.gid = 0
                member.uname = member.gname = "root"
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            # The members were judged above, more strictly than the filter "data", which Debian 12's Python lacks.
            options = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(target, members, **options)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        # gzip's own errors are OSErrors without an errno; a full disk has one.
        if isinstance(error, OSError) and error.errno:
            raise
        raise CommandExecutionError(f"{tarball}: damaged: {error}; build it again") from error


def _refusal(member, links):
    """Say why a member of a tarball is not acceptable, or return ``None``.

    :param links: paths of the tarball's symbolic links.
    """
    path = posixpath.normpath(member.name)
    if member.name.startswith("/") or path == ".." or path.startswith("../"):
        return f"{member.name} leaves the build"
    # Where `name` is a link, `name/..` is elsewhere than normpath says: above the build, too.
    if ".." in pathlib.PurePosixPath(member.name).parts:
        return f"{member.name} goes through a name and back"
    if path == "." and not member.isdir():
        return f"{member.name or 'a member without a name'} stands in the place of the build"
    if not (member.isfile() or member.isdir() or member.issym()):
        return f"{member.name} is neither a file, a directory nor a symbolic link"
    if member.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        if member.linkname.startswith("/") or target == ".." or target.startswith("../"):
            return f"{member.name} links out of the build"
        # Where `name` is a link itself, `name/..` is elsewhere than it looks.
        parts = pathlib.PurePosixPath(member.linkname).parts
        if ".." in itertools.dropwhile(lambda part: part == "..", parts):
            return f"{member.name} links through a name and back"
    if not links.isdisjoint(map(str, pathlib.PurePosixPath(path).parents)):
        return f"{member.name} lies behind a symbolic link"
    return None


def _judge(app, staged):
    """Refuse a build that is not one, or not for this host; return what it says of itself."""
    manifest = None
    with (
        contextlib.suppress(FileNotFoundError, IsADirectoryError, UnicodeDecodeError),
        open(f"{staged}/build.json", "rb") as stream,
    ):
        manifest = stream.read(MAX_MANIFEST + 1).decode()
    has = {name for name in ("Procfile", "requirements.txt") if os.path.isfile(f"{staged}/{name}")}
    has |= {".venv"} if os.path.lexists(f"{staged}/.venv") else set()
    return judged(app, manifest, has.__contains__)


# What build.json says, as far as a host goes by it.
MANIFEST = {
    "type": "object",
    "required": ["format", "app", "version", "commit", "python", "processes"],
    "properties": {
        "app": {"type": "string", "maxLength": 100},
        "version": {"type": "string", "maxLength": 100},
        "commit": {"type": ["string", "null"], "maxLength": 100},
        "python": {"type": "string", "maxLength": 20},
        "reversible": {"type": "boolean"},
        "migrations": {"type": ["string", "null"]},
        "processes": {
            "type": "object",
            "propertyNames": {"pattern": r"^[a-z][a-z0-9_-]{0,30}\Z"},
            "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*\Z"},
        },
        "contracts": {"type": "object", "propertyNames": {"pattern": r"^v[0-9]{1,4}\Z"}},
        "wheels": {"type": "object", "additionalProperties": {"type": "string"}},
        "installed_migrations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def judged(app, manifest, has):
    """Return what a build says of itself.

    :param app: the app's name.
    :param manifest: the text of its build.json, or ``None``.
    :param has: a function that tells whether it has a file.
    :raises CommandExecutionError: when it is no build, or not one for this host.
    """
    from jsonschema import Draft202012Validator

    try:
        build = json.loads(manifest or "")
        mistake = next(Draft202012Validator(MANIFEST).iter_errors(build), None)
        if mistake and mistake.absolute_path:
            where = ".".join(shown(str(part)) for part in mistake.absolute_path)
            raise CommandExecutionError(
                f"app.{app}.build: build.json: {where}: not as a build has it; make it with bin/build"
            )
    except (ValueError, RecursionError):
        mistake = True
    if mistake:
        raise CommandExecutionError(f"app.{app}.build: has no valid build.json; make it with bin/build")
    python, form, name = build["python"], build["format"], build["app"]
    if type(form) is not int or form != FORMAT:
        raise CommandExecutionError(
            f"app.{app}.build: has the format {shown(str(form))}; expected {FORMAT}. Build it again"
        )
    if name != app:
        raise CommandExecutionError(f"app.{app}.build: is a build of {shown(name)}; declare one of {app}")
    own = _python_version()
    if python != own:
        raise CommandExecutionError(
            f"app.{app}.build: is for Python {shown(python)}, this host has {own}; "
            f"build it with bin/build --python {own}"
        )
    if has(".venv"):
        raise CommandExecutionError(f"app.{app}.build: has a .venv of its own; make it with bin/build")
    for name in ("Procfile", "requirements.txt"):
        if not has(name):
            raise CommandExecutionError(f"app.{app}.build: has no {name}; make it with bin/build")
    return build


def _check_processes(app, declared, build):
    """Refuse a declaration that names other process types than the build has: its formation was checked by them."""
    if "processes" in declared and sorted(declared["processes"]) != (has := sorted(build["processes"])):
        raise CommandExecutionError(
            f"app.{app}.build.processes: the build has {', '.join(has)}; expected these, as "
            "bin/build --declare writes them"
        )


def _python_version():
    command = ["/usr/bin/python3", "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _make_venv(app, staged):
    """Make the virtual environment from the wheelhouse, with no index.

    It is relocatable, since the build is renamed into its place; what an earlier build has too is one file on the disk.
    Root does this, so nothing of the build is run: no source is built, uv asks the environment's Python what it is
    while there is nothing in it, and the byte code is made by the system's Python, which neither looks for modules in
    the build (-I) nor reads the .pth files of its wheels (-S).
    """
    from uv import find_uv_bin

    uv = find_uv_bin()
    make = [uv, "venv", "-q", "--relocatable", "--no-project", "--python", "/usr/bin/python3", ".venv"]
    look = [uv, "pip", "list", "-q", "--python", ".venv"]
    fill = [uv, "pip", "install", "-q", "--python", ".venv", "--no-index", "--find-links", "wheelhouse", "--no-build"]
    fill += ["--exact", "--require-hashes", "-r", "requirements.txt"]
    # Its cache is none of the build's own files, and on the same file system, so that it can link from it.
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=os.path.dirname(staged)) as cache:
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/root",
            "UV_CACHE_DIR": cache,
            "UV_LINK_MODE": "hardlink",
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        _run(app, make, staged, environ)
        # It remembers the answer, and need not ask when there are wheels, whose .pth files Python would run.
        _run(app, look, staged, environ)
        is_whole = _link_wheels(app, pathlib.Path(staged))
        # What is linked it leaves as it is, and says whether that is what the build asks for.
        _run(app, fill, staged, environ)
    # uv's own, and open to everybody.
    os.unlink(f"{staged}/.venv/.lock")
    # What is there and fits its source stays. What cannot be compiled cannot be imported either; that is the app's to
    # say, at its start. With all processors, where there is much of it.
    _run(None, [*COMPILE, "-j", "1" if is_whole else "0", "."], staged, environ)


def _run(app, command, staged, environ):
    """Run a command in the directory of a build; it may fail where no app is named."""
    # The app's user reads what is made here, whatever the umask of the shell that salt-call came from.
    given = {"cwd": staged, "env": environ, "umask": 0o022, "capture_output": True, "text": True, "check": False}
    try:
        done = subprocess.run(command, timeout=COMMAND_LIMIT, **given)
    except subprocess.TimeoutExpired:
        if not app:
            return
        raise CommandExecutionError(
            f"app.{app}.build: its virtual environment cannot be made within {COMMAND_LIMIT} s"
        ) from None
    if done.returncode and app:
        lines = "; ".join(done.stderr.strip().splitlines()[-4:])
        raise CommandExecutionError(f"app.{app}.build: its virtual environment cannot be made: {lines}")


# --- What two builds share --------------------------------------------------------------------------------------------


def _link_wheels(app, staged):
    """Link what the same wheels brought into earlier builds of an app, with its byte code.

    A build has most wheels of the last one, and to install and compile these takes longer than all else of it. The
    files are those that a wheel says that it has, by digest, and no others: an edit by hand is not taken over. Byte
    code says itself by which size and time it belongs to a file, which is the same one. Nothing is linked from another
    app's build: what is in there besides wheels is that app's to choose.

    :param app: the app's name.
    :param staged: the directory of the build, a path, with an environment that has nothing yet.
    :return: whether there is nothing left to install.
    """
    builds = sorted(pathlib.Path(ROOT, app, "builds").glob("[!.]*"), key=_modified, reverse=True)
    # The very build, where it was damaged, is no place to take anything from.
    builds = [build for build in builds if f".{build.name}" != staged.name]
    left, links, python = _wheels(staged), {}, _python_version()
    for build in builds[:NEWEST]:
        for name in left if _is_for(build, python) else ():
            with contextlib.suppress(OSError, ValueError, csv.Error):
                if filecmp.cmp(build / "wheelhouse" / name, staged / "wheelhouse" / name, shallow=False):
                    found = _brought(build, name, python)
                    # Of two wheels with the same file, uv says which one counts.
                    if not links.keys() & found:
                        links |= {path: build / ".venv" / path for path in found}
                        left = [other for other in left if other != name]
    return _link_all(links, staged / ".venv") and not left


def _modified(path):
    """Return when a directory was modified; 0 where another run has just removed it."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0


def _wheels(staged):
    """List the wheels of a build that its requirements name by digest."""
    pinned = (staged / "requirements.txt").read_text(encoding="utf-8", errors="replace")
    wheels = sorted(path.name for path in (staged / "wheelhouse").glob("*.whl"))
    return [name for name in wheels if f"--hash=sha256:{_sha256(staged / 'wheelhouse' / name)}" in pinned]


def _is_for(build, python):
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads((build / "build.json").read_text()).get("python") == python
    return False


def _brought(build, wheel, python):
    """Return the files that a wheel brought into a build's virtual environment, and the byte code of them.

    :param build: a path.
    :param wheel: the name of its file.
    :param python: the build's Python, such as ``3.11``.
    :return: paths relative to the environment.
    :raises ValueError: when one of them is not as it came.
    """
    # The names of most begin with those of the distribution and its version, as the directory's does.
    venv, name = build / ".venv", "-".join(wheel.split("-")[:2])
    if sum(other.startswith(f"{name}-") for other in os.listdir(build / "wheelhouse")) > 1:
        raise ValueError(f"{name}: which of its wheels was installed is not known")
    directory = f"lib/python{python}/site-packages"
    found = [f"{directory}/{name}.dist-info/RECORD"]
    with (venv / found[0]).open(newline="") as stream:
        for file, digest, *_ in csv.reader(stream):
            path = os.path.normpath(f"{directory}/{file}")
            if path == found[0] and not digest:
                continue
            is_inside = path.startswith(("lib/", "bin/"))
            if not is_inside or (venv / path).lstat().st_mode not in MODES or digest != _recorded_digest(venv / path):
                raise ValueError(path)
            found.append(path)
    if (venv / found[0]).lstat().st_mode not in MODES:
        raise ValueError(found[0])
    modules = [pathlib.PurePath(path) for path in found if path.endswith(".py")]
    # Where Salt's own byte code is (sys.pycache_prefix), the build's is not.
    byte_code = [f"{path.parent}/__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc" for path in modules]
    return [*found, *(path for path in byte_code if _mode(venv / path) in MODES)]


def _mode(path):
    """Return the mode of a file, or ``None`` where there is none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mode
    return None


def _recorded_digest(path):
    """Return the digest of a file as a wheel's RECORD has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _link_all(links, venv):
    """Link files into a virtual environment: all of them, or none.

    :param links: the file to link to, by path in the environment.
    :param venv: the environment's path.
    :return: whether they are there.
    """
    before, made = os.umask(0o022), []
    directories = sorted({parent for path in links for parent in (venv / path).parents if not parent.exists()})
    try:
        for directory in directories:
            directory.mkdir()
        for path, there in links.items():
            # uv writes into a RECORD as it is; what else is there it replaces by a rename.
            (shutil.copy2 if path.endswith("/RECORD") else os.link)(there, venv / path)
            made.append(venv / path)
    except OSError:
        for path in made:
            path.unlink()
        # uv takes an empty directory for a distribution.
        for directory in reversed(directories):
            with contextlib.suppress(OSError):
                directory.rmdir()
        return False
    finally:
        os.umask(before)
    return True
