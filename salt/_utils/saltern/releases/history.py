"""What happened to an app's releases: who moved which, when. Never a value of a variable."""

import contextlib
import datetime
import json
import os
import pwd
from typing import Any

from saltern.releases import store
from saltern.releases.store import Record
from saltern.system import files


def _path(app: str) -> str:
    return f"{store.ROOT}/{app}/release.log"


def now() -> str:
    """Return the time, as a release and its log have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def next_number(app: str) -> int:
    """Return the number of an app's next release: one that no release on this host has had, as far as can be seen.

    :param app: the app's name.
    """
    told = [line["release"] for line in log(app) if isinstance(line["release"], int)]
    return max([0, *store.numbers(app), *store.configured(app), *told]) + 1


def note(app: str, event: str, number: int, **details: Any) -> None:
    """Add a line to an app's log.

    :param app: the app's name.
    :param event: what happened, such as ``serves``.
    :param number: the release that it happened to.
    :param details: what else there is to say. Never a variable's value.
    """
    line = {"time": now(), "who": who(), "event": event, "release": number} | details
    descriptor = os.open(_path(app), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    with open(descriptor, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def log(app: str) -> list[Record]:
    """Return an app's log.

    :param app: the app's name.
    :return: a mapping for each line, oldest first.
    """
    found = []
    for line in (files.read(_path(app), errors="replace") or "").splitlines():
        # A power failure may have cut the last line.
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            found += [said] if isinstance(said, dict) and {"time", "who", "event", "release"} <= said.keys() else []
    return found


def who() -> str:
    """Return the name of the person who runs this: before sudo, of the login session, or root."""
    if os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    login = (files.read("/proc/self/loginuid", errors="replace") or "").strip()
    with contextlib.suppress(ValueError, KeyError):
        return pwd.getpwuid(int(login)).pw_name
    return "root"
