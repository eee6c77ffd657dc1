"""The hosts with the role etcd: how many there may be, and who they are to the app hosts."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from saltern import inventory

# At which etcd is asked, and at which its members talk to each other.
PORT, MEMBERS_PORT = 2379, 2380

# More than half must run. A second or a fourth host would have to run too, and could stop all by its loss.
COUNTS = (1, 3, 5)


def mistakes(hosts: Mapping[str, inventory.Row], minion_id: str) -> list[str]:
    """List what is wrong with the number of hosts that have the role in a host's environment.

    :param hosts: rows by host id.
    :param minion_id: the host's id.
    """
    found = inventory.peers(hosts, minion_id, "etcd")
    if not found or len(found) in COUNTS:
        return []
    return [
        f"hosts.{found[-1]}.roles: {len(found)} hosts of {hosts[minion_id]['environment']} have the role etcd "
        f"({', '.join(found)}), of which more than half must run; expected 1, 3 or 5"
    ]


def derived(hosts: Mapping[str, inventory.Row], minion_id: str) -> dict[str, Any]:
    """Return what follows from the inventory.

    :param hosts: rows by host id.
    :param minion_id: the host's id.
    :return: the addresses of the ``members`` by id, a name of this set of them, ``cluster``, the number that etcd gives
        it, ``id``, and the hosts with the role app, ``apps``.
    """
    members = {name: hosts[name]["address"] for name in inventory.peers(hosts, minion_id, "etcd")}
    # No two hosts of an inventory have one address.
    cluster = hashlib.sha256(" ".join(sorted(members.values())).encode()).hexdigest()[:12]
    apps = inventory.peers(hosts, minion_id, "app")
    return {"members": members, "cluster": cluster, "id": number(members.values(), token(cluster)), "apps": apps}


def token(cluster: str) -> str:
    """Return the token by which members that begin together know each other.

    :param cluster: the name of the set.
    """
    return f"saltern-{cluster}"


def number(addresses: Iterable[str], token: str) -> str:
    """Return the number of a cluster, as its members work it out when they begin (``RaftCluster.genID``).

    A client knows by it that it asks no member of another set. Two sets could give one lease to two.

    :param addresses: of the members.
    :param token: see ``token``.
    """
    urls = [f"https://{address}:{MEMBERS_PORT}" for address in addresses]
    members = sorted(_first(f"{url}{token}".encode()) for url in urls)
    return str(int.from_bytes(_first(b"".join(members)), "big"))


def _first(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()[:8]
