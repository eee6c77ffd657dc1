"""Steps: what a service does on its host that no state of Salt's own does, such as who may log in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saltern.host import Host


@dataclasses.dataclass(frozen=True)
class Run:
    """A converge, as a step sees it.

    :param host: the host that converges.
    :param staying: apps of which it stops none; see ``saltern.attachments.users.users``.
    :param changed: tells whether this run has changed what has a name, such as a file or a unit. In a dry run, whether
        it would.
    """

    host: Host
    staying: Sequence[str]
    changed: Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step would do on a host, and how.

    :param comment: what there is to say, be it done or not.
    :param changes: as a state reports them: old and new by name. Empty where nothing is to do.
    :param act: does it. It raises ``CommandExecutionError`` where it cannot.
    """

    comment: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    act: Callable[[], None] = lambda: None


# What works out a step: of the run and of the resource's name.
Work = Callable[[Run, str], Step]
