"""The inventory: which machine is what, from pillar/hosts.yaml."""

import os

import salt.utils.yaml

__load__ = ["environment", "mistakes", "peers", "read", "roles"]

ENVIRONMENTS = ("dev", "staging", "production")

# In the order in which a host converges.
ROLES = ("database", "cache", "app", "proxy")


def read():
    """Read ``pillar/hosts.yaml``, for the pillar's own files.

    :return: what it says. Nothing where it cannot be read: ``settings.compiled`` says why.

    CLI Example: none, it serves the pillar's files.
    """
    for root in __opts__["pillar_roots"]["base"]:
        try:
            with open(os.path.join(root, "hosts.yaml"), encoding="utf-8") as stream:
                return salt.utils.yaml.safe_load(stream)
        except FileNotFoundError:
            continue
        except (UnicodeDecodeError, salt.utils.yaml.YAMLError):
            break
    return None


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


def roles():
    """Return the roles of this host, for ``top.sls``.

    :return: role names: what apps attach before the apps.

    CLI Example:

    .. code-block:: bash

        salt-call inventory.roles
    """
    return sorted(__pillar__["hosts"][__opts__["id"]]["roles"], key=ROLES.index)
