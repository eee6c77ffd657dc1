"""Leases: who of an environment's hosts may do what must be done once, and until when.

An app's names are leased by etcd, or by the host itself where the app has one host. Programs that supervisor or systemd
start import this package too, with Debian's own Python: it uses the standard library alone.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from saltern.leases.base import Entry, Lease, Leases, Unreachable, now
from saltern.leases.etcd import Etcd
from saltern.leases.local import Local

__all__ = ["SETTINGS", "WAY_OUT", "Entry", "Lease", "Leases", "Unreachable", "is_drained", "now", "opened", "settings"]

# What a converge writes for programs that run without Salt; see ``settings``.
SETTINGS = "/etc/saltern/leases.json"

# While this file is there, an operator has drained the host; see the module ``drain``.
DRAINED = "/run/saltern-drained"

WAY_OUT = "give the role etcd to one host, or to three so that the loss of one stops nothing"


def settings(pillar: Mapping[str, Any], minion_id: str) -> dict[str, Any]:
    """Return what the programs of an app host must know.

    :param pillar: the host's, complete.
    :param minion_id: the host's id.
    :return: the ``host``, the addresses of the hosts with the role ``etcd`` by id as ``etcd``, the number of their
        ``cluster``, the ids of the hosts with the role ``app`` as ``apps``, whether this host is ``alone`` among these,
        and whether the inventory says that it is ``drained``.
    """
    return {
        "host": minion_id,
        "etcd": pillar["etcd"]["members"],
        "cluster": pillar["etcd"]["id"],
        "apps": pillar["etcd"]["apps"],
        "alone": pillar["nginx"]["alone"],
        "drained": pillar["nginx"]["drained"],
    }


def opened(app: str, path: str = SETTINGS) -> Leases:
    """Return the leases of an app: etcd's where the environment has it, the host's own where no other host has apps.

    :param app: the app's name.
    :param path: of the settings that a converge has written.
    :raises Unreachable: where the settings are missing, or several hosts have apps and none has the role etcd.
    """
    try:
        said = _read(path)
        host, members, alone = said["host"], said["etcd"], said["alone"]
        apps, cluster = said.get("apps", ()), said.get("cluster", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"{path}: cannot be read ({type(error).__name__}); converge this host") from None
    if members:
        return Etcd(app, host, members, apps, cluster)
    if not alone:
        raise Unreachable(f"several hosts have apps, and none has the role etcd; {WAY_OUT}")
    return Local(app, host)


def is_drained(path: str = SETTINGS, mark: str = DRAINED) -> bool:
    """Tell whether this host leaves to others what must be done once. The only app host has no others.

    :param path: of the settings that a converge has written.
    :param mark: the file that an operator's drain makes.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        said = _read(path)
        return bool((said.get("drained") or os.path.exists(mark)) and not said["alone"])
    return False


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)
