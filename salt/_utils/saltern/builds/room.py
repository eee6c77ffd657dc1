"""Whether there is room for a build."""

import os

from salt.exceptions import CommandExecutionError

from saltern.builds.form import MEGABYTE, Found

# Bytes that stay free on the file system, and those of a block.
RESERVE, BLOCK = 256_000_000, 4096


def check(app: str, directory: str, found: Found) -> None:
    """Refuse what the file system of a directory has no room for.

    :param app: whose build it is.
    :param directory: it need not be there.
    :param found: ``bytes`` and ``files``.
    :raises CommandExecutionError: with what is needed, and what there is.
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
