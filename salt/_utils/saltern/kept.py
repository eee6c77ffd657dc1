"""Notes about data that is kept after its app or instance was removed: whose data it is, and since when.

The notes lie in a directory that only root writes. In a service's own directory, a link could mislead root.
"""

import contextlib
import datetime
import functools
import glob
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from saltern import services
from saltern.system import files

ROOT = "/var/lib/saltern/kept"
# The most bytes of a note. A note names the files that an app left, which may be many.
MAX_NOTE = 64 << 20


@functools.cache
def before() -> Mapping[str, str]:
    """Return the directories of notes in earlier versions, by kind."""
    return {kind: service.notes_before for kind, service in services.formulas().items() if service.notes_before}


def of(kind: str, name: str) -> dict[str, Any]:
    """Return the note about data that is kept.

    :param kind: whose data it is: a service such as ``redis``, or ``app``.
    :param name: the instance or the app.
    :return: a mapping of ``app``, ``since`` and further facts: empty where nothing is kept.
    """
    for path in _paths(kind, name):
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads(_read(path))
            if isinstance(found, dict) and isinstance(found.get("app"), str):
                return {"since": None} | found
    return {}


def note(kind: str, name: str, app: str | None, **more: Any) -> None:
    """Note that data is kept from now on.

    :param kind: see ``of``.
    :param name: see ``of``.
    :param app: the app whose data it is.
    :param more: further facts, which ``of`` returns.
    """
    path = _paths(kind, name)[0]
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    os.chmod(ROOT, 0o700)
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    files.write(path, json.dumps({"app": app, "since": since} | more))


def forget(kind: str, name: str) -> None:
    """Remove a note: the data is in use again, or gone.

    :param kind: see ``of``.
    :param name: see ``of``.
    """
    for path in _paths(kind, name):
        # In an earlier directory of notes, a service may have put anything.
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path)


def listed(kind: str) -> dict[str, dict[str, Any]]:
    """List what is kept.

    :param kind: see ``of``.
    :return: what ``of`` says of each, and the paths of its ``notes``, by name.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(each for pattern in _paths(kind, "*") for each in glob.glob(pattern)):
        name = os.path.basename(path).removesuffix(".kept")
        noted = of(kind, name)
        if noted:
            found.setdefault(name, noted | {"notes": []})["notes"].append(path)
    return found


def _paths(kind: str, name: str) -> list[str]:
    return [f"{ROOT}/{kind}/{name}.kept", *([f"{before()[kind]}/{name}.kept"] if kind in before() else [])]


def _read(path: str) -> str:
    """Return the text of a note that root wrote. In an earlier directory, other users may have replaced the note."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise FileNotFoundError(path) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
            raise FileNotFoundError(path)
        with open(fd, "rb", closefd=False) as stream:
            return stream.read(MAX_NOTE).decode()
    finally:
        os.close(fd)
