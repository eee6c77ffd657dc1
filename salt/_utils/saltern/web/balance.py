"""Balancing: which app hosts a proxy sends requests to, and what an app host's nginx is to the proxies.

On an app host nginx serves each app at the app's first port, its front. A proxy sends requests to the fronts of all
app hosts of its environment. A host that is the only app host of its environment, and a proxy, needs no such hop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from saltern import environments, inventory
from saltern.web import served

Settings = Mapping[str, Any]
Hosts = Mapping[str, inventory.Row]

LOOPBACK = "127.0.0.1"


def derived(settings: Settings, hosts: Hosts, minion_id: str, pillar_roots: Sequence[str]) -> dict[str, Any]:
    """Return what follows for nginx from the inventory.

    :param settings: a mapping of formula to settings, with what follows from attachments.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :param pillar_roots: the pillar's directories, which say whether the host's environment is ephemeral.
    :return: settings of the formula nginx; see ``derive``.
    """
    peers = {role: inventory.peers(hosts, minion_id, role) for role in ("app", "proxy")}
    own = hosts[minion_id]
    # The runner parity says it of an environment that it has in the place of another.
    is_published = own.get("ephemeral")
    if is_published is None:
        is_published = environments.is_ephemeral(pillar_roots, own["environment"])
    return derive(settings, hosts, minion_id, peers, is_published)


def derive(
    settings: Settings, hosts: Hosts, minion_id: str, peers: Mapping[str, list[str]], is_published: bool
) -> dict[str, Any]:
    """Return what follows for nginx from the inventory.

    :param peers: the ids of the environment's hosts by role.
    :param is_published: whether clients reach the proxy at ports that only they know, as those of `make up` and Vagrant
        do, whose hosts are ephemeral.
    :return: ``servers``, the server blocks of each app; ``peers``, the app hosts that each site is balanced over, none
        where it is not; ``listen``, the addresses besides the loopback at which fronts are served, to ``proxies``,
        which are networks; ``ready``, how they are asked whether they can serve; whether the host is ``drained``, or
        ``alone``, the environment's only app host; whether it ``is_published``; and ``others``, where a proxy reaches
        the other proxies.
    """
    nginx, own = settings["nginx"], hosts[minion_id]
    is_balanced = "proxy" in own["roles"] and peers["app"] != [minion_id]
    proxies = [name for name in peers["proxy"] if name != minion_id or is_balanced]
    is_asked = bool("app" in own["roles"] and proxies) and own["address"] != LOOPBACK
    return {
        "servers": {
            app: servers(app, nginx, is_balanced, is_asked)
            for app in sorted({*nginx["sites"], *nginx["guests"], *nginx["fronts"]})
        },
        "peers": {
            app: _peers(settings["app"][app], hosts, peers)
            for app in sorted(nginx["sites"] | nginx["guests"])
            if is_balanced
        },
        "listen": [own["address"]] if is_asked else [],
        "proxies": [f"{hosts[name]['address']}/32" for name in proxies] if is_asked else [],
        "ready": {app: _ready(settings["app"][app]) for app in nginx["fronts"] if is_asked},
        "drained": bool(own.get("drain")),
        "alone": peers["app"] == [minion_id],
        "is_published": is_published,
        "others": [hosts[name]["address"] for name in peers["proxy"] if name != minion_id]
        if "proxy" in own["roles"]
        else [],
    }


def servers(app: str, nginx: Settings, is_balanced: bool, is_asked: bool) -> list[dict[str, bool]]:
    """Return the server blocks of an app.

    :param app: the app's name.
    :param nginx: settings with ``sites`` and ``fronts``.
    :param is_balanced: whether the sites are balanced over app hosts.
    :param is_asked: whether proxies send requests to the fronts.
    :return: for each whether it is the ``front``, the ``site``, ``balanced``, and ``outermost``: no proxy of ours comes
        before it. Front and site are one where they can.
    """
    front, site = app in nginx["fronts"], app in nginx["sites"]
    if site and not is_balanced:
        return [{"front": front, "site": True, "balanced": False, "outermost": True}]
    found = []
    if front:
        is_outermost = not (is_asked and nginx["fronts"][app]["domains"])
        found.append({"front": True, "site": False, "balanced": False, "outermost": is_outermost})
    if site:
        found.append({"front": False, "site": True, "balanced": True, "outermost": True})
    return found


def _peers(one: Settings, hosts: Hosts, peers: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the app hosts of a site, and how each is asked."""
    return {
        "status": one["health"]["status"],
        # The front asks a second process where the first one does not answer in time.
        "timeout": one["health"]["timeout"] + 1,
        "servers": [
            {
                "id": name,
                "address": f"{hosts[name]['address']}:{one['port']}",
                "drained": bool(hosts[name].get("drain")),
            }
            for name in peers["app"]
        ],
    }


def _ready(one: Settings) -> dict[str, Any]:
    """Return how a front asks its app's processes, as nginx's configuration says it."""
    health = one["health"]
    host = (one["domains"] or ["localhost"])[0]
    return {"path": served.encoded(health["path"]), "host": host, "timeout": health["timeout"]}
