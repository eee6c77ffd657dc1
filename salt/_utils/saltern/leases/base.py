"""What each kind of leases can do."""

import abc
import dataclasses
import json
import re
import time

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")


class Unreachable(Exception):
    """What decides who is alone cannot be asked: which hosts, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is noted under a name.

    :ivar value: text.
    :ivar holder: the id of the host that holds the lease; empty for a kept value, which nobody holds.
    """

    value: str
    holder: str = ""

    def written(self) -> str:
        """Return the text that is stored: the same for the same entry."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def parsed(cls, text: str) -> "Entry":
        """Return the entry of a text. One that somebody else wrote is a value that nobody holds."""
        try:
            said = json.loads(text)
            return cls(str(said["value"]), str(said["holder"]))
        except (ValueError, KeyError, TypeError):
            return cls(text)


class Lease(abc.ABC):
    """The right to be alone, until a deadline.

    :ivar deadline: on CLOCK_BOOTTIME, which goes on while the machine sleeps; see ``now``. From then on another host
        may hold the lease, never before.
    """

    deadline: float

    @abc.abstractmethod
    def renew(self) -> bool:
        """Have the lease last for its whole time from now on.

        :return: whether it is still held. One that is lost does not come back.
        :raises Unreachable: where that cannot be said. The deadline stays.
        """

    @abc.abstractmethod
    def give_back(self) -> None:
        """End the lease, so that another host may take it at once.

        :raises Unreachable: where that cannot be said. The lease ends by itself at its deadline.
        """


class Leases(abc.ABC):
    """The leases and the kept values of one app.

    :ivar app: the app's name. :ivar host: the id of this host. :ivar members: the addresses of those that decide, by
        host id; none where this host does. :ivar cluster: etcd's number of these members.
    """

    app: str
    host: str
    members: dict[str, str]
    cluster: str = ""

    def missing(self, name: str, is_clear: bool) -> list[str]:
        """List the app hosts that may still run by other leases what is leased here.

        By others are those of an etcd of before, the host's own, and none at all. Once each app host has asked, and ran
        nothing by others, the list stays empty, also for hosts that come later.

        :param name: such as ``process/beat``.
        :param is_clear: whether this host runs nothing of the name by others.
        :return: host ids.
        :raises Unreachable: where that cannot be said.
        """
        return []

    @abc.abstractmethod
    def take(self, name: str, ttl: int, value: str) -> Lease | None:
        """Take a lease that nobody holds.

        :param name: such as ``process/beat.1``.
        :param ttl: the seconds that it lasts, if it is not renewed.
        :param value: what others read.
        :return: the lease, or ``None`` where it is held, by this host too.
        :raises Unreachable: where that cannot be said.
        """

    @abc.abstractmethod
    def read(self, name: str) -> Entry | None:
        """Return what is noted under a name, ``None`` where nothing is.

        :raises Unreachable: where that cannot be said.
        """

    @abc.abstractmethod
    def advance(self, name: str, before: str | None, after: str) -> bool:
        """Replace a kept value, which has no lease, if nobody has replaced it meanwhile.

        :param name: such as ``job/report``.
        :param before: the value that is expected; ``None`` where there is none yet.
        :param after: the new value.
        :return: whether it was replaced.
        :raises Unreachable: where that cannot be said: it may have been replaced.
        """


def now() -> float:
    """Return the time by which deadlines are measured."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def judged(name: str) -> str:
    """Return a name that can be a key and a path.

    :raises ValueError: where it cannot.
    """
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r}: no name of a lease; expected letters, digits, dots, dashes, and slashes between")
    return name
