"""The inventory of a lab whose hosts a test boots itself."""

from collections.abc import Collection, Mapping

import yaml

from lab import Lab


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
