"""Places: how many connections a service takes, and how many of them one app can hold.

A service counts a connection before the client has logged in. Such a one belongs to no share: an app that connects and
says nothing would keep out all others, and the operator. So a service has more places than its apps may use, and the
firewall of each app host bounds the connections of each of its users.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltern import services
from saltern.apps import listening_ports

# How many places a service has for each connection that the pillar allows. One app can hold two of the three, with all
# its hosts together. The third is left for what the others may use.
PLACES = 3

# A release starts beside the one that serves: each has one connection at least.
FEWEST = 2


def places(allowed: int) -> int:
    """Return how many connections a service takes, of those too that have not logged in.

    :param allowed: how many the pillar allows.
    """
    return PLACES * allowed


def bound(allowed: int, hosts: int) -> int:
    """Return how many connections a user may have from one app host: all that the pillar allows, where that can be.

    With more than two app hosts it is less. It is never less than twice an equal part for each host.

    :param allowed: how many the pillar allows in all.
    :param hosts: how many app hosts there are.
    """
    return max(FEWEST, min(allowed, (PLACES - 1) * allowed // hosts))


def derive(settings: Mapping[str, Any], hosts: Mapping[str, Any], minion_id: str, peers: Mapping[str, Any]) -> None:
    """Complete settings: the ``places`` of what apps attach, and the firewall's ``bounds``.

    :param settings: a mapping of formula to settings, with what follows from attachments.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :param peers: the ids of the environment's hosts by role.
    """
    # nginx reaches processes that listen. Where an app has many, some of them have ports that a service would have.
    own = {port for app in settings["app"].values() for port in listening_ports(app)}
    settings["firewall"]["bounds"] = [
        # From itself a host is reached over the loopback.
        {
            "name": name,
            "address": "" if provider == minion_id else hosts[provider]["address"],
            "ports": ranges(set(ports) - own),
            "connections": bound(count, 1 if service.is_local else len(peers["app"])),
        }
        for service in services.resources()
        for name, (ports, count) in service.allowed(settings[service.kind], places).items()
        for provider in peers[service.role]
        if minion_id in peers["app"] and (provider == minion_id or not service.is_local)
    ]


def ranges(ports: Iterable[int]) -> list[int | list[int]]:
    """Return ports as nft lists them: each alone, or the first and the last of some without a gap.

    :param ports: in any order.
    """
    found: list[list[int]] = []
    for port in sorted(ports):
        if found and port == found[-1][-1] + 1:
            found[-1][1:] = [port]
        else:
            found.append([port])
    return [one if one[1:] else one[0] for one in found]


def rules(bounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write nft's rules for the bounds. The set ``clients`` counts for each user and port.

    :param bounds: see ``derive``.
    """
    return [
        (f"ip daddr {bound['address']}" if bound["address"] else 'oifname "lo"')
        + f" tcp dport {{ {', '.join(map(_written, bound['ports']))} }} ct state new"
        + f" add @clients {{ meta skuid . tcp dport ct count over {bound['connections']} }}"
        + f' reject with tcp reset comment "{bound["name"]}"'
        for bound in bounds
    ]


def _written(ports: int | list[int]) -> str:
    return str(ports) if isinstance(ports, int) else "-".join(map(str, ports))
