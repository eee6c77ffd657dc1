"""The order of several hosts: who comes first, and who may be touched at once."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from saltern import inventory, services

# Hosts converge by the first of these roles that they have: first what apps attach, then the apps, then the proxies.
PROVIDERS = {service.role for service in services.resources()}
ORDER = (*sorted(PROVIDERS, key=inventory.place), "app", "proxy")


def roles_in(hosts: Mapping[str, Mapping[str, Any]], environment: str) -> dict[str, list[str]]:
    """Return the roles of an environment's hosts that have a master. A master itself has none.

    :param hosts: the inventory, rows by host id.
    :param environment: its name.
    :return: roles by host id.
    """
    roles = {name: row["roles"] for name, row in hosts.items() if row["environment"] == environment}
    return {name: own for name, own in roles.items() if "master" not in own}


def ordered(roles: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return in which order hosts converge.

    The first app host comes alone, before the others: it runs the migrations, which the others then find done.

    :param roles: by host id.
    :return: ids, those together that converge at once.
    """
    rank = {name: next((n for n, role in enumerate(ORDER) if role in own), len(ORDER)) for name, own in roles.items()}
    parts = [sorted(name for name in roles if rank[name] == n) for n in range(len(ORDER) + 1)]
    apps = ORDER.index("app")
    parts[apps : apps + 1] = [parts[apps][:1], parts[apps][1:]]
    return [part for part in parts if part]


def rolled(
    names: Sequence[str],
    apps: Collection[str],
    proxies: list[str],
    hosts: Mapping[str, Mapping[str, Any]],
    size: int,
    left_out: Collection[str] = (),
) -> tuple[list[list[str]], list[str]]:
    """Part app hosts into batches, so that some host serves at any moment.

    A host that takes no requests comes first, and alone: nobody misses it, and afterwards it serves for the others.

    :param names: the ids of the hosts that are to be touched.
    :param apps: the ids of all app hosts.
    :param proxies: the ids of the proxies.
    :param hosts: the inventory. A host that is drained there serves nothing.
    :param size: of a batch, at most.
    :param left_out: the ids of hosts that an earlier orchestration has drained and not put back.
    :return: the batches, and the proxies that turn away from each batch: none where one host alone serves.
    """
    serving = [name for name in apps if not hosts[name].get("drain")]
    idle = [name for name in names if name not in serving or name in left_out]
    parts = batches([name for name in names if name not in idle], size, len(serving))
    return [[name] for name in idle] + parts, proxies if len(serving) > 1 else []


def batches(names: Sequence[str], size: int, total: int) -> list[list[str]]:
    """Part app hosts into batches, the smallest first.

    Of several hosts at least one is left to serve while a batch is drained.

    :param names: the ids of the hosts that are to be touched.
    :param size: of a batch, at most.
    :param total: how many app hosts serve.
    """
    size = min(size, max(total - 1, 1))
    head = len(names) % size
    parts = [list(names[:head])] if head else []
    return parts + [list(names[start : start + size]) for start in range(head, len(names), size)]
