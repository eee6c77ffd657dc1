"""An app's code: what of it cannot be a build, and its Procfile."""

import contextlib
import io
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator

from honcho.environ import parse_procfile

from saltern.builds.form import MAX_DEPTH, MAX_MANIFEST, MAX_PATH, goes_back, leads_out
from saltern.builds.make.telling import ascii_name
from saltern.refusal import Refusal

# Places that are the build's own.
RESERVED = ("build.json", "wheelhouse", ".venv")
# Bytes of a Procfile: half of the bytes that a host takes of a build.json.
MAX_PROCFILE = MAX_MANIFEST // 2
GIT_LFS = b"version https://git-lfs.github.com/spec/"


def judge_code(code: tarfile.TarFile, app_dir: str) -> None:
    """Refuse code that cannot be a build.

    :param code: an open tarball.
    :param app_dir: what to call it.
    :raises Refusal: naming the first file that stands in the way.
    """
    for member in code:
        name = ascii_name(member.name)
        if len(os.fsencode(member.name)) > MAX_PATH or member.name.count("/") >= MAX_DEPTH:
            raise Refusal(
                f"{name[:60]}...: longer than {MAX_PATH} bytes or {MAX_DEPTH} directories deep; expected a path that "
                "a host takes. Move it"
            )
        if member.name.partition("/")[0] in RESERVED:
            raise Refusal(f"{name}: the place is the build's own; rename it in {app_dir}")
        if member.issym():
            if leads_out(member.name, member.linkname):
                raise Refusal(
                    f"{name}: links out of {app_dir}, to {ascii_name(member.linkname)}; "
                    "expected links that stay in it. Copy what it links to"
                )
            # A host takes no such link.
            if goes_back(member.linkname):
                target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
                raise Refusal(
                    f"{name}: links through a name and back, to {ascii_name(member.linkname)}; "
                    f"expected {ascii_name(os.path.relpath(target, posixpath.dirname(member.name) or '.'))}"
                )
        elif member.isfile() and content_of(code, member, len(GIT_LFS)) == GIT_LFS:
            raise Refusal(f"{name}: a git-lfs pointer, not the file; keep the file itself in git")


def content_of(code: tarfile.TarFile, member: tarfile.TarInfo, size: int = -1) -> bytes:
    """Return the bytes of a file of the code.

    :param code: an open tarball.
    :param member: the file.
    :param size: how many of its first bytes; all of them where it is not given.
    """
    stream = code.extractfile(member)
    return stream.read(size) if stream else b""


@contextlib.contextmanager
def replaced(code: tarfile.TarFile, name: str, text: str, scratch: str) -> Iterator[tarfile.TarFile]:
    """Open a copy of the code in which a file has another text.

    :param code: an open tarball.
    :param name: the file's.
    :param text: what it is to have.
    :param scratch: a directory for the copy.
    """
    path = f"{scratch}/replaced.tar"
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.PAX_FORMAT) as tar:
        for member in code.getmembers():
            content = text.encode() if member.name == name else content_of(code, member) if member.isfile() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if member.isfile() else None)
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as copy:
        yield copy


def read_text(code: tarfile.TarFile, name: str, app_dir: str, cure: str) -> str:
    """Return the text of a file of the code.

    :param code: an open tarball.
    :param name: the file's.
    :param app_dir: what to call the code.
    :param cure: what to do where there is no such file.
    :raises Refusal: where there is none, or it is no text.
    """
    try:
        stream = code.extractfile(name)
    except (KeyError, RecursionError):
        stream = None
    if stream is None:
        raise Refusal(f"{app_dir}: has no {name}; {cure}")
    try:
        return stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{name}: not UTF-8; save it as UTF-8 text") from error


def read_processes(text: str, pattern: str) -> dict[str, str]:
    """Return the commands of a Procfile by process type, in its order.

    :param text: the Procfile.
    :param pattern: what the name of a process type must fit.
    :raises Refusal: naming the line that is none.
    """
    if len(text.encode()) > MAX_PROCFILE:
        raise Refusal(f"Procfile: larger than {MAX_PROCFILE} bytes; expected less. Move long commands into scripts")
    processes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # honcho passes over a line that it cannot read; a process that never runs is worse than a refusal.
        [(name, command)] = parse_procfile(line).processes.items() or [(None, "")]
        if not command.strip():
            raise Refusal(f"Procfile line {number}: expected `type: command`, such as `web: gunicorn shop.wsgi`")
        if name != "release" and not re.match(pattern, name):
            raise Refusal(
                f"Procfile line {number}: {name}: expected a name of at most 31 lower-case letters, digits, - and _, "
                "a letter first"
            )
        if "\0" in command:
            raise Refusal(f"Procfile line {number}: {name}: has a NUL; expected a command of text")
        if name in processes:
            raise Refusal(f"Procfile line {number}: {name} is there twice; expected each process type once")
        processes[name] = command
    if not processes.keys() - {"build"}:
        raise Refusal("Procfile: has no process type; expected lines such as `web: gunicorn shop.wsgi`")
    return processes
