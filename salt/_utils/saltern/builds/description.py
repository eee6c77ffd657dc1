"""What a build was like when it was unpacked, and what is missing or other since then."""

import glob
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

# What a build was like when it was unpacked. The environment is ours alone: no tarball has one.
DESCRIPTION = ".venv/.saltern.json"
# Directories each of whose files every converge looks at; of all others only the times, which tell of any file that was
# added, removed or renamed in them.
NEAR = (".", ".venv", ".venv/bin")
# Directories of translations hold no code. They are nine tenths of all directories of an app with Django, so that what
# is below them is looked at only where each file is.
TRANSLATIONS = "locale"
# Without these no process of a build starts.
NEEDED = ("build.json", ".venv/bin/python", ".venv/lib/python3*/site-packages")


def damage_of(directory: str, deeply: bool = False) -> str:
    """Say what of a build is missing or other than it was unpacked; see ``declared.damage``.

    :param directory: the build's.
    :param deeply: look at each file.
    :return: such as ``.venv/bin/python is missing``, empty where it is whole.
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


def _state(path: str) -> list[int] | None:
    """Return what a file or directory is like, ``None`` where there is none. It changes with what is in it."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # Whose the build's own directory is, is put right where it is: see `declared.own`.
    whose = [0, 0, 0] if path.endswith("/.") else [status.st_mode, status.st_uid, status.st_gid]
    return [*whose, 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns]


def _digest(directory: str) -> str:
    """Return a digest of what each file and directory of a build is like."""
    lines: list[list[Any]] = []
    for path, _, files in os.walk(directory):
        found = {os.path.relpath(one, directory) for one in (path, *(f"{path}/{name}" for name in files))}
        lines += [[one, _state(f"{directory}/{one}")] for one in found - {DESCRIPTION}]
    return hashlib.sha256(repr(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def describe(directory: str) -> None:
    """Write down what a build is like now; see ``damage_of``.

    :param directory: the build's.
    """
    path = f"{directory}/{DESCRIPTION}"
    # Its place is in its directory before that is looked at. What it then says changes no time of that.
    blank(path)
    near = [os.path.relpath(found, directory) for found in _directories(directory)]
    for parent in NEAR:
        near += [os.path.normpath(f"{parent}/{name}") for name in os.listdir(f"{directory}/{parent}")]
    near = sorted(set(near) - {DESCRIPTION})
    said = {"near": {one: _state(f"{directory}/{one}") for one in near}, "all": _digest(directory)}
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        json.dump(said, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _directories(directory: str) -> Iterator[str]:
    """Yield the directories of a build at which every converge looks."""
    for found, directories, _ in os.walk(directory):
        if os.path.basename(found) == TRANSLATIONS:
            directories.clear()
        yield found


def blank(path: str) -> None:
    """Have a description that says that its build is not whole.

    :param path: the description's.
    """
    with open(path, "w", encoding="ascii") as stream:
        os.fchmod(stream.fileno(), 0o644)
