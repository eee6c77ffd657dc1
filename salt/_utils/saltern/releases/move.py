"""A move of an app to a release."""

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Mapping
from typing import Any

from saltern.host import Host
from saltern.releases.process import Ports

LOCKS = "/run/saltern"


@dataclasses.dataclass(frozen=True)
class Move:
    """A move to a release.

    :param host: the host.
    :param app: the app's name.
    :param number: the release to move to.
    :param ports: port, or ``None``, by process of it.
    :param left: the release that serves now, or ``None``.
    :param settings: the app's settings.
    :param asker: what asks the release for what its documents say, where that was begun.
    :param pids: by process, from when it was first looked at: another one later means that it ended in between.
    :param pruned: what of the app was too old to be kept: names of releases and builds, as a state reports them.
    :param told: what whoever waits for it must know, beside that it came to serve: a sentence for each.
    """

    host: Host
    app: str
    number: int
    ports: Ports
    left: int | None
    settings: Mapping[str, Any]
    asker: Any = None
    pids: dict[str, int] = dataclasses.field(default_factory=dict)
    pruned: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    told: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def locked(app: str) -> Iterator[None]:
    """Lock an app's releases against other moves, which wait meanwhile.

    :param app: the app's name.
    """
    # Not in /run/lock, where each user may make the file first.
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(f"{LOCKS}/{app}.lock", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
