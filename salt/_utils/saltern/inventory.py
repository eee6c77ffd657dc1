"""The inventory: which machine is what, from ``pillar/hosts.yaml``."""

import contextlib
import copy
import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import salt.utils.yaml

from saltern import environments
from saltern.paths import Roots
from saltern.system import files

# The roles that converge first and last on a host that has several. The others are services, which apps need.
FIRST, LAST = ("master", "database"), ("app", "proxy")

# The inventory that was checked last, in Salt's cache. For a thousand hosts, reading and checking takes a second, and a
# master compiles the pillar of each.
KEPT = "saltern-inventory.json"

Row = dict[str, Any]
Hosts = dict[str, Row]


def read(roots: Roots) -> Any:
    """Read ``pillar/hosts.yaml``.

    :return: what it says, unchecked; ``None`` where it cannot be read.
    """
    if (hosts := known(roots)) is not None:
        return hosts
    text = _text(roots.pillar)
    try:
        return None if text is None else salt.utils.yaml.safe_load(text.decode())
    except (salt.utils.yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return None


def known(roots: Roots) -> Hosts | None:
    """Return the inventory, where the same one was checked before, by the same code against the same schema.

    :return: rows by host id, or ``None``.
    """
    try:
        with open(os.path.join(roots.cache, KEPT), encoding="utf-8") as stream:
            kept = json.load(stream)
    except (OSError, ValueError):
        return None
    if kept["digest"] != _digest(roots):
        return None
    hosts: Hosts = kept["hosts"]
    return hosts


def keep(roots: Roots, hosts: Mapping[str, Row]) -> None:
    """Keep an inventory that was checked, for ``known``.

    :param hosts: what ``pillar/hosts.yaml`` says.
    """
    path = os.path.join(roots.cache, KEPT)
    # Without a cache to write to, the next run reads and checks the inventory again.
    with contextlib.suppress(OSError):
        # A master's workers may write at once.
        files.write(path, json.dumps({"digest": _digest(roots), "hosts": hosts}), staged=f"{path}.{os.getpid()}")


def _text(pillar_roots: Sequence[str]) -> bytes | None:
    for root in pillar_roots:
        with contextlib.suppress(OSError), open(os.path.join(root, "hosts.yaml"), "rb") as stream:
            return stream.read()
    return None


def _digest(roots: Roots) -> str:
    """Return a digest of all that decides what an inventory says, and whether it has the right form."""
    code = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "settings", "*.py")))
    paths = [__file__, *code, *(os.path.join(root, "roles/settings.yaml") for root in roots.states)]
    digest = hashlib.sha256(_text(roots.pillar) or b"")
    digest.update(json.dumps([environments.names(roots.pillar), roles(roots.states)]).encode())
    for path in paths:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
            digest.update(hashlib.sha256(stream.read()).digest())
    return digest.hexdigest()


def schema(form: Mapping[str, Any], roots: Roots) -> dict[str, Any]:
    """Return the schema of the inventory with the environments and the roles that there are.

    :param form: the schema as ``roles/settings.yaml`` has it.
    """
    complete: dict[str, Any] = copy.deepcopy(dict(form))
    for row in complete["patternProperties"].values():
        row["properties"]["environment"] = {"type": "string", "enum": environments.names(roots.pillar)}
        row["properties"]["roles"]["items"]["enum"] = roles(roots.states)
    return complete


def roles(state_roots: Sequence[str]) -> list[str]:
    """Return the names of all roles, in the order in which they converge on a host: those of ``roles/*.sls``.

    :param state_roots: the directories of the states.
    """
    found: set[str] = set()
    for root in state_roots:
        with contextlib.suppress(OSError):
            entries = os.listdir(os.path.join(root, "roles"))
            found |= {entry.removesuffix(".sls") for entry in entries if entry.endswith(".sls")}
    return sorted(found, key=place)


def place(role: str) -> tuple[int, str]:
    """Return when a role converges on a host that has others too, as a key to sort by."""
    for order, before in ((FIRST, -len(FIRST)), (LAST, 1)):
        if role in order:
            return before + order.index(role), role
    return 0, role


def environment(hosts: Any, minion_id: str, pillar_roots: Sequence[str]) -> str:
    """Return the environment of a host, for ``pillar/top.sls``, which asks before the inventory is checked.

    :param pillar_roots: the pillar's directories.
    :param hosts: what ``pillar/hosts.yaml`` says; it may be anything.
    :param minion_id: the host's id.
    :return: its environment, or an empty string where the inventory does not name one.
    """
    row = hosts.get(minion_id) if isinstance(hosts, dict) else None
    name = row.get("environment") if isinstance(row, dict) else None
    return str(name) if name in environments.names(pillar_roots) else ""


def mistakes(hosts: Mapping[str, Row], minion_id: str) -> list[str]:
    """List what is wrong with an inventory that has the right form.

    :param hosts: rows by host id.
    :param minion_id: the host that asks.
    :return: a message for each mistake.
    """
    if minion_id not in hosts:
        known = ", ".join(sorted(hosts))
        return [
            f"hosts.{minion_id}: missing; expected a row for this host's id in pillar/hosts.yaml, which has {known}"
        ]
    messages: list[str] = []
    owners: dict[str, str] = {}
    for name, row in sorted(hosts.items()):
        owner = owners.setdefault(row["address"], name)
        if owner != name:
            messages.append(f"hosts.{name}.address: is also the address of {owner}; expected one of its own")
        if "master" in row["roles"] and len(row["roles"]) > 1:
            messages.append(f"hosts.{name}.roles: master beside others; expected it alone: a master knows all secrets")
    return messages + _drained(hosts)


def _drained(hosts: Mapping[str, Row]) -> list[str]:
    """List the drained hosts that cannot be spared, or have nothing that could be drained."""
    messages = []
    for name, row in sorted(hosts.items()):
        if not row.get("drain"):
            continue
        serving = [peer for peer in peers(hosts, name, "app") if not hosts[peer].get("drain")]
        if "app" not in row["roles"]:
            messages.append(f"hosts.{name}.drain: does not have the role app; expected it on an app host alone")
        elif not serving:
            environment = row["environment"]
            messages.append(f"hosts.{name}.drain: is set on every app host of {environment}; expected one that serves")
    return messages


def peers(hosts: Mapping[str, Row], minion_id: str, role: str) -> list[str]:
    """Return the hosts of a host's environment that have a role.

    :param hosts: rows by host id.
    :param minion_id: the host whose environment it is.
    :param role: such as ``database``.
    :return: host ids, sorted.
    """
    own = hosts[minion_id]["environment"]
    return sorted(name for name, row in hosts.items() if row["environment"] == own and role in row["roles"])


def row(hosts: Mapping[str, Row], minion_id: str) -> Hosts:
    """Return what a host is told of the inventory: its own row, with its roles in the order in which they converge.

    Of the others' rows it is told what follows from them for itself.

    :param hosts: rows by host id.
    :param minion_id: the host's id.
    :return: a mapping of its id to its row.
    """
    own = hosts[minion_id]
    return {minion_id: own | {"roles": sorted(own["roles"], key=place)}}
