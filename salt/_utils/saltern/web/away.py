"""Process types that are away: their old processes end before the new ones start, and nginx answers 503 meanwhile.

A file says so, which nginx looks for at each request: it counts at once, without a reload, and a boot removes it.
"""

import contextlib
import glob
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from saltern.web import routes

# Followed by the app and the process type. Workers of nginx cannot look into /run/saltern.
MARK = "/run/saltern-away."


def kinds(one: Mapping[str, Any]) -> list[str]:
    """Return the process types that listen, and end before their successors start, sorted.

    :param one: the app's settings, with defaults.
    """
    return sorted(kind for kind in routes.listening(one) if one["order"].get(kind) == "stop-first")


def path(app: str, kind: str) -> str:
    """Return the file that says that a process type is away.

    :param app: the app's name, which has no dot.
    :param kind: the process type.
    """
    return f"{MARK}{app}.{kind}"


def begin(app: str, names: Iterable[str]) -> None:
    """Have nginx answer in the place of process types. Where it does already, it goes on.

    :param app: the app's name.
    :param names: of the types.
    """
    for kind in names:
        with contextlib.suppress(FileExistsError), open(path(app, kind), "x", encoding="ascii"):
            pass


def marks(app: str) -> dict[str, str]:
    """Return the process types of an app that are away, each with the file that says so.

    :param app: the app's name.
    """
    found = sorted(glob.glob(path(glob.escape(app), "*")))
    return {mark.removeprefix(path(app, "")): mark for mark in found}


def end(app: str) -> dict[str, float]:
    """Have nginx send requests to all process types of an app again.

    :param app: the app's name.
    :return: the seconds for which each type was away.
    """
    seconds = {}
    for kind, mark in marks(app).items():
        with contextlib.suppress(FileNotFoundError):
            seconds[kind] = max(0.0, time.time() - os.stat(mark).st_mtime)
            os.unlink(mark)
    return seconds


def told(app: str, kind: str, seconds: float) -> str:
    """Say for how long a process type was away.

    :param app: the app's name.
    :param kind: the process type.
    :param seconds: as ``end`` returns them.
    """
    return f"nginx answered 503 in the place of {kind} for {seconds:.1f} s (app.{app}.order.{kind})"
