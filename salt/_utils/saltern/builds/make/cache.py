"""What a build need not fetch or build again: wheels, each in a directory of its own, within a bound."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence

from saltern.builds.form import MEGABYTE
from saltern.builds.make.telling import say

# Megabytes that the cache may have, and the seconds for which what was used is kept all the same.
BOUND, RECENT = 4000, 86400


def directory() -> str:
    """Return where wheels are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return f"{base if os.path.isabs(base) else os.path.expanduser('~/.cache')}/saltern/wheels"


def made() -> str:
    """Return where wheels are kept, which is there then."""
    os.makedirs(directory(), exist_ok=True)
    return directory()


def entry(kind: str, *key: str) -> str:
    """Return the directory of what a key names; it need not be there.

    :param kind: what it is.
    :param key: all on which it depends.
    """
    return f"{directory()}/{kind}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:32]}"


def keep(path: str, files: Sequence[str]) -> None:
    """Keep files as an entry, in the place of what is there.

    :param path: the entry's.
    :param files: they are moved there, from the same file system.
    """
    with tempfile.TemporaryDirectory(dir=made(), prefix=".") as scratch:
        os.mkdir(staged := f"{scratch}/entry")
        for file in files:
            os.rename(file, f"{staged}/{os.path.basename(file)}")
        shutil.rmtree(path, ignore_errors=True)
        # Another build may have brought the very same in the meantime.
        with contextlib.suppress(OSError):
            os.rename(staged, path)


def use(path: str) -> None:
    """Note that an entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def prune() -> None:
    """Remove what was not used for longest, where there is more than ``BOUND``; nothing that was used lately."""
    entries = []
    for name in os.listdir(directory()) if os.path.isdir(directory()) else []:
        path = f"{directory()}/{name}"
        with contextlib.suppress(OSError):
            size = sum(file.stat().st_size for file in os.scandir(path))
            entries.append((os.stat(path).st_mtime, size, path))
    total, removed = 0, list[int]()
    for used, size, path in sorted(entries, reverse=True):
        total += size
        if total > BOUND * MEGABYTE and used < time.time() - RECENT:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(size)
    if removed:
        say(
            f"{directory()}: has a bound of {BOUND} MB; removed {sum(removed) // MEGABYTE} MB that were not used lately"
        )
