"""What a build's tarball holds, judged before any of it is on the disk, and how it is unpacked."""

import contextlib
import gzip
import hashlib
import os
import pathlib
import posixpath
import re
import stat
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any, cast

from salt.exceptions import CommandExecutionError

from saltern.builds.form import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    MAX_MANIFEST,
    MAX_NAME,
    MAX_PATH,
    MAX_TIME,
    MEGABYTE,
    MEMORY,
    READING,
    Found,
    Limits,
    goes_back,
    leads_out,
    sha256_of,
    shown,
)
from saltern.system import bounded

# Bytes of what a tarball says of one member, and of all OpenAPI documents.
MAX_HEADER, MAX_DOCUMENTS = 1 << 20, 12_000_000

# What follows a tarball's last member, and is nothing.
MAX_TRAILER = 1 << 24
DOCUMENT = re.compile(r"openapi/(v[0-9]{1,4})\.yaml\Z")
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

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self.stream, self.most, self.last = stream, most, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise _Unacceptable("says more of a member than any build needs; build it again")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset > self.most:
            raise _Unacceptable("holds more than it may; build it again")
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def inspect(tarball: str, limits: Limits) -> Found:
    """Read a tarball, and write nothing. It is to be called in a process of its own.

    :param tarball: path of a ``.tar.gz``.
    :param limits: how many ``megabytes`` and ``files`` a build may have.
    :return: the ``bytes`` and ``files`` that it unpacks to, the text of its build.json as ``manifest`` or ``None``, the
        texts of its OpenAPI documents by version as ``documents``, its ``directories``, its ``pages`` of HTML, and
        which members it ``has``.
    :raises ValueError: naming the first member that is not acceptable, or a damaged tarball.
    """
    most = limits["megabytes"] * MEGABYTE
    found: Found = {"bytes": 0, "files": 0, "manifest": None, "documents": {}, "has": []}
    kinds: dict[str, str] = {}
    try:
        with gzip.open(tarball) as stream:
            reader = _Reader(stream, 2 * most)
            tar: Any = tarfile.open(fileobj=cast(Any, reader), mode="r:")  # noqa: SIM115 it holds nothing of its own
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
    found["directories"] = sorted(path for path, kind in kinds.items() if kind == "directory")
    found["pages"] = sorted(path for path, kind in kinds.items() if path.endswith(".html") and kind == "file")
    found["has"] = [name for name in ("Procfile", "requirements.txt", ".venv") if name in kinds]
    # As a host looks for them once it is unpacked: a directory of that name is none.
    found["has"] = [name for name in found["has"] if name == ".venv" or kinds[name] != "directory"]
    return found


def _damage(error: Exception) -> str:
    """Say in plain words why a tarball cannot be read."""
    if isinstance(error, gzip.BadGzipFile):
        return "its checksum does not fit" if "check" in str(error) else "is no gzip file, or goes on behind its end"
    if isinstance(error, zlib.error) or "zlib" in str(error):
        return "its compressed data cannot be read"
    return str(error)


def _take_text(tar: Any, member: tarfile.TarInfo, path: str, found: Found) -> None:
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


def _read_trailer(stream: gzip.GzipFile) -> None:
    """Read to the end: gzip knows only there whether it was whole, and tar may stop before."""
    left = MAX_TRAILER
    while part := stream.read(MAX_HEADER):
        left -= len(part)
        if left < 0 or part.strip(b"\0"):
            raise _Unacceptable("goes on after its last member; build it again")


def _misnamed(member: tarfile.TarInfo) -> str | None:
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


def inspected(app: str, tarball: str, limits: Limits) -> Found:
    """Return what a tarball holds, which a process of its own reads; see ``inspect``.

    :param app: the app's name.
    :raises CommandExecutionError: naming the app and the file.
    """
    try:
        return cast(Found, bounded.call(inspect, tarball, limits, seconds=READING, megabytes=MEMORY))
    except ValueError as error:
        reason = str(error).replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build: {tarball}: {reason}") from error


def extract(tarball: str, target: str, earlier: Sequence[pathlib.Path] = ()) -> None:
    """Unpack a tarball whose every member stays inside the target.

    :param tarball: path of a ``.tar.gz``.
    :param target: a directory that is not there yet.
    :param earlier: directories of earlier builds. A wheel that one of them has is one file on the disk.
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
            options: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
            wheels = [member for member in members if member.isfile() and member.name.startswith("wheelhouse/")]
            names = {member.name for member in wheels}
            tar.extractall(target, [member for member in members if member.name not in names], **options)
            for member in wheels:
                if not _link(tar, member, target, earlier):
                    tar.extract(member, target, **options)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        # gzip's own errors are OSErrors without an errno; a full disk has one.
        if isinstance(error, OSError) and error.errno:
            raise
        raise CommandExecutionError(f"{tarball}: damaged: {error}; build it again") from error


def _link(tar: tarfile.TarFile, member: tarfile.TarInfo, target: str, earlier: Sequence[pathlib.Path]) -> bool:
    """Link a file of an earlier build that has the content of a member; tell whether there is one."""
    there = [build / member.name for build in earlier if _has_size(build / member.name, member.size)]
    stream = tar.extractfile(member) if there else None
    if stream is None:
        return False
    digest = hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()
    for file in there:
        with contextlib.suppress(OSError):
            if sha256_of(str(file)) == digest:
                os.link(file, f"{target}/{member.name}")
                return True
    return False


def _has_size(file: pathlib.Path, size: int) -> bool:
    """Tell whether a file is root's as `extract` makes it, of this size."""
    with contextlib.suppress(OSError):
        status = file.lstat()
        owned = (status.st_mode, status.st_uid, status.st_gid)
        return (*owned, status.st_size) == (stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), size)
    return False


def _refusal(member: tarfile.TarInfo, links: set[str]) -> str | None:
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
        if leads_out(path, member.linkname):
            return f"{member.name} links out of the build"
        if goes_back(member.linkname):
            return f"{member.name} links through a name and back"
    if not links.isdisjoint(map(str, pathlib.PurePosixPath(path).parents)):
        return f"{member.name} lies behind a symbolic link"
    return None
