"""The inventory: which machine is what, from pillar/hosts.yaml."""

import contextlib
import hashlib
import json
import os

import salt.utils.yaml

__load__ = ["environment", "keep", "known", "mistakes", "peers", "read", "row"]

ENVIRONMENTS = ("dev", "staging", "production")

# In the order in which a host converges.
ROLES = ("master", "database", "cache", "app", "proxy")


# Of the inventory that was read and checked last, in Salt's cache. Of a thousand hosts both take a second, and a master
# compiles the pillar of each.
KEPT = "saltern-inventory.json"


def read():
    """Read ``pillar/hosts.yaml``.

    :return: what it says. Nothing where it cannot be read: ``settings.compiled`` says why.

    CLI Example: none, it serves the pillar's files.
    """
    if (hosts := known()) is not None:
        return hosts
    text = _text()
    try:
        return None if text is None else salt.utils.yaml.safe_load(text.decode())
    except (salt.utils.yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return None


def _text():
    for root in __opts__["pillar_roots"]["base"]:
        with contextlib.suppress(OSError), open(os.path.join(root, "hosts.yaml"), "rb") as stream:
            return stream.read()
    return None


def known():
    """Return the inventory, where this very one has been checked before, by this code against this schema.

    :return: rows by host id, or ``None``.

    CLI Example: none, it serves ``settings.compiled``.
    """
    try:
        with open(os.path.join(__opts__["cachedir"], KEPT), encoding="utf-8") as stream:
            kept = json.load(stream)
    except (OSError, ValueError):
        return None
    return kept["hosts"] if kept["digest"] == _digest() else None


def keep(hosts):
    """Have an inventory known that was checked.

    :param hosts: what ``pillar/hosts.yaml`` says.

    CLI Example: none, it serves ``settings.compiled``.
    """
    path = os.path.join(__opts__["cachedir"], KEPT)
    # Without a cache to write to it is read and checked again the next time.
    with contextlib.suppress(OSError):
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as stream:
            json.dump({"digest": _digest(), "hosts": hosts}, stream)
        os.rename(f"{path}.{os.getpid()}", path)


def _digest():
    """Return a digest of all that decides what an inventory says, and whether it has the right form."""
    here = os.path.dirname(__file__)
    paths = [os.path.join(here, name) for name in ("inventory.py", "settings.py")]
    paths += [os.path.join(root, "roles/settings.yaml") for root in __opts__["file_roots"]["base"]]
    digest = hashlib.sha256(_text() or b"")
    for path in paths:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
            digest.update(hashlib.sha256(stream.read()).digest())
    return digest.hexdigest()


def environment(hosts, minion_id):
    """Return the environment of a host, for ``pillar/top.sls``.

    The inventory is not checked yet when this is asked, so that anything may come.

    :param hosts: what ``pillar/hosts.yaml`` says.
    :param minion_id: the host's id.
    :return: ``dev``, ``staging``, ``production``, or an empty string where the inventory does not say it.

    CLI Example: none, it serves the pillar's top file.
    """
    row = hosts.get(minion_id) if isinstance(hosts, dict) else None
    name = row.get("environment") if isinstance(row, dict) else None
    return name if name in ENVIRONMENTS else ""


def mistakes(hosts, minion_id):
    """List what is wrong with an inventory that has the right form.

    :param hosts: rows by host id.
    :param minion_id: the host that asks.
    :return: a message for each mistake.

    CLI Example: none, it serves ``settings.compiled``.
    """
    if minion_id not in hosts:
        known = ", ".join(sorted(hosts))
        return [
            f"hosts.{minion_id}: missing; expected a row for this host's id in pillar/hosts.yaml, which has {known}"
        ]
    found, owners = [], {}
    for name, row in sorted(hosts.items()):
        owner = owners.setdefault(row["address"], name)
        if owner != name:
            found.append(f"hosts.{name}.address: is also the address of {owner}; expected one of its own")
        if "master" in row["roles"] and len(row["roles"]) > 1:
            found.append(f"hosts.{name}.roles: master beside others; expected it alone: a master knows all secrets")
    return found + _drained(hosts)


def _drained(hosts):
    """List the drained hosts that cannot be spared, or have nothing that could be drained."""
    found = []
    for name, row in sorted(hosts.items()):
        if not row.get("drain"):
            continue
        serving = [peer for peer in peers(hosts, name, "app") if not hosts[peer].get("drain")]
        if "app" not in row["roles"]:
            found.append(f"hosts.{name}.drain: has not the role app; expected it on an app host alone")
        elif not serving:
            environment = row["environment"]
            found.append(f"hosts.{name}.drain: is set on every app host of {environment}; expected one that serves")
    return found


def peers(hosts, minion_id, role):
    """Return the hosts of a host's environment that have a role.

    :param hosts: rows by host id.
    :param minion_id: the host whose environment it is.
    :param role: such as ``database``.
    :return: host ids, sorted.

    CLI Example: none, it serves the modules that derive settings.
    """
    own = hosts[minion_id]["environment"]
    return sorted(name for name, row in hosts.items() if row["environment"] == own and role in row["roles"])


def row(hosts, minion_id):
    """Return what a host is told of the inventory: its own row, with its roles in the order in which they converge.

    Of the others' rows it is told what follows from them for itself.

    :param hosts: rows by host id.
    :param minion_id: the host's id.
    :return: a mapping of its id to its row.

    CLI Example: none, it serves ``settings.compiled``.
    """
    own = hosts[minion_id]
    return {minion_id: own | {"roles": sorted(own["roles"], key=ROLES.index)}}
