"""The directory of builds, which has a bound."""

import contextlib
import glob
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterable

from saltern.builds.form import MEGABYTE
from saltern.builds.make.telling import say

# How many builds of an app stay beside those that are declared, unless whoever builds says otherwise.
KEPT = 10
# Names of builds that no --version names: by a commit, or by a tree.
NAMED = r"(?:tree-)?[0-9a-f]{12}-py[0-9]+\.[0-9]+\.tar\.gz"


def make(output: str) -> None:
    """Have a directory for builds.

    :param output: its path.
    """
    if not os.path.isdir(output):
        os.makedirs(output)
        # Builds are no part of the code, wherever they are put.
        with open(f"{output}/.gitignore", "w", encoding="ascii") as stream:
            stream.write("*\n")


def prune(output: str, app: str, made: str, kept: int, pillars: Iterable[str]) -> None:
    """Remove the oldest builds of an app; none that is declared, and none with a version of somebody's own.

    :param output: the directory of builds.
    :param app: the app's name.
    :param made: the path of the build that was just asked for, which stays and counts.
    :param kept: how many of the others are kept with it.
    :param pillars: directories with the pillar files that declare builds.
    """
    declared = "\n".join(_text(path) for each in pillars for path in glob.glob(f"{glob.escape(each)}/*.sls"))
    found = []
    for name in os.listdir(output):
        path = f"{output}/{name}"
        if re.fullmatch(rf"{re.escape(app)}-{NAMED}", name) and path != made and name not in declared:
            with contextlib.suppress(OSError):
                found.append((os.stat(path).st_mtime, path))
    removed = 0
    oldest = [path for _, path in sorted(found, reverse=True)[max(kept - 1, 0) :]]
    # An app's name may begin as another's goes on.
    for path in [path for path in oldest if _app_of(path) == app]:
        with contextlib.suppress(OSError):
            removed += os.path.getsize(path)
            os.unlink(path)
            say(f"{os.path.basename(path)}: removed, since {output} keeps {kept} builds of an app (--keep)")
    if removed:
        say(f"{output}: {max(removed // MEGABYTE, 1)} MB are free again")


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""


def _app_of(path: str) -> str:
    """Return the app that a tarball says that it is of; empty where it says none."""
    unreadable = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError, RecursionError)
    with contextlib.suppress(*unreadable), tarfile.open(path, "r:gz") as tar:
        for member in tar:
            if member.name == "build.json" and (stream := tar.extractfile(member)):
                return str(json.loads(stream.read())["app"])
    return ""
