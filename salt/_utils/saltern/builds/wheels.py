"""The wheels of a build, judged before uv unpacks them."""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Collection, Sequence
from typing import IO, cast

from salt.exceptions import CommandExecutionError

from saltern.builds import links, room
from saltern.builds.form import MEGABYTE, MEMORY, READING, Found, Limits, shown
from saltern.system import bounded


def judge(app: str, staged: str, earlier: Sequence[pathlib.Path], limits: Limits) -> None:
    """Refuse wheels that are none, or that would not find room: they are unpacked by uv, which does not ask.

    :param app: the app's name.
    :param staged: the build's directory.
    :param earlier: the directories of earlier builds, which were judged then.
    :param limits: see ``tarball.inspect``.
    :raises CommandExecutionError: naming the wheel.
    """
    wheelhouse = pathlib.Path(staged, "wheelhouse")
    wheels = sorted(path.name for path in wheelhouse.glob("*.whl"))
    new = [
        name
        for name in wheels
        if not any(links.is_same(build / "wheelhouse" / name, wheelhouse / name) for build in earlier)
    ]
    try:
        arguments = (str(wheelhouse), wheels, new, limits)
        found = cast(Found, bounded.call(measured, *arguments, seconds=READING, megabytes=MEMORY))
    except ValueError as error:
        reason = str(error).replace("{app}", app)
        raise CommandExecutionError(f"app.{app}.build: {reason}") from error
    room.check(app, staged, found)


def measured(wheelhouse: str, wheels: Sequence[str], new: Collection[str], limits: Limits) -> Found:
    """Return what wheels unpack to. It is to be called in a process of its own.

    :param wheelhouse: the directory that they are in.
    :param wheels: the names of all.
    :param new: those whose content is to be read: what a zip file says of itself may not be so.
    :param limits: see ``tarball.inspect``.
    :return: ``bytes`` and ``files``.
    :raises ValueError: naming the wheel.
    """
    found: Found = {"bytes": 0, "files": 0}
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


def _inflated(stream: IO[bytes], member: zipfile.ZipInfo) -> int:
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
