"""The hosts of a lab that a test boots itself, and their inventory."""

import concurrent.futures
from collections.abc import Collection, Mapping

import yaml

from lab import Host, Lab, bootstrapped


def declare_hosts(
    lab: Lab, roles: Mapping[str, Collection[str]], environment: str = "dev", drained: Collection[str] = ()
) -> None:
    """Write the inventory of a lab: its hosts in this order, each with the next address.

    :param lab: the lab.
    :param roles: by host id.
    :param environment: of all of them.
    :param drained: those that are set to drain.
    """
    rows = {
        name: {"environment": environment, "roles": list(its), "address": str(lab.subnet[10 + index])}
        | ({"drain": True} if name in drained else {})
        for index, (name, its) in enumerate(roles.items())
    }
    (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(rows))


def boot_hosts(lab: Lab, names: Collection[str], suite: str) -> dict[str, Host]:
    """Boot hosts of a lab and bootstrap them, side by side.

    :param lab: the lab, whose inventory has the hosts.
    :param names: the hosts' ids.
    :param suite: their Debian.
    :return: the hosts by id, in this order.
    """

    def booted(name: str) -> Host:
        host = lab.boot(name, suite, image_name=bootstrapped.ensure(suite)[0])
        host.bootstrap()
        return host

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(booted, names), strict=True))
