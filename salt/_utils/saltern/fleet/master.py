"""What a master knows of its hosts, and how it asks them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import salt.config
import salt.pillar

from saltern import inventory
from saltern.fleet import minions
from saltern.fleet.minions import Asks
from saltern.paths import Roots


@dataclasses.dataclass(frozen=True)
class Master:
    """A master that plans an orchestration.

    :param hosts: what ``pillar/hosts.yaml`` says, unchecked.
    :param pillar: compiles the pillar of a host, by the host's id.
    :param ask: asks minions; see ``minions.ask``.
    :param own_id: returns the id of the host on which the master runs.
    """

    hosts: Any
    pillar: Callable[[str], Mapping[str, Any]]
    ask: Asks
    own_id: Callable[[], str]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Master":
        """Return the master on which Salt runs.

        :param options: ``__opts__`` of the master.
        """
        return cls(
            inventory.read(Roots.of(options)),
            functools.partial(_pillar, options),
            functools.partial(minions.ask, options),
            functools.partial(_own_id, options),
        )


def _pillar(options: Mapping[str, Any], minion_id: str) -> Mapping[str, Any]:
    """Compile the pillar of a host, without the orchestration's own, which Salt would lay over it."""
    own = {key: value for key, value in options.items() if key != "pillar"}
    compiled: Mapping[str, Any] = salt.pillar.Pillar(own, {}, minion_id, "base").compile_pillar()
    return compiled


def _own_id(options: Mapping[str, Any]) -> str:
    """Return the id in the minion's configuration, which lies beside the master's."""
    path = os.path.join(os.path.dirname(options["conf_file"]), "minion")
    return str(salt.config.minion_config(path)["id"])
