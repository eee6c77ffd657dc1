"""The inventory, for the pillar's files and for operators."""

from saltern import inventory
from saltern.paths import Roots

__load__ = ["environment", "read"]


def read():
    """Read ``pillar/hosts.yaml``.

    :return: what it says, unchecked; nothing where it cannot be read, and every run says why.

    CLI Example:

    .. code-block:: bash

        salt-call inventory.read
    """
    return inventory.read(Roots.of(__opts__))


def environment(hosts, minion_id):
    """Return the environment of a host, for ``pillar/top.sls``, which asks before the inventory is checked.

    :param hosts: what ``pillar/hosts.yaml`` says; it may be anything.
    :param minion_id: the host's id.
    :return: its environment, or an empty string where the inventory does not name one.

    CLI Example:

    .. code-block:: bash

        salt-call inventory.environment '{web1: {environment: production}}' web1
    """
    return inventory.environment(hosts, minion_id, __opts__["pillar_roots"]["base"])
