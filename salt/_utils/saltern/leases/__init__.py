"""Leases: who of an environment's hosts may do what must be done once, and until when.

An app's names are leased by etcd, or by the host itself where the app has one host. Programs that supervisor or systemd
start import this package too, with Debian's own Python: it uses the standard library alone.
"""

import json

from saltern.leases.base import Entry, Lease, Leases, Unreachable
from saltern.leases.etcd import Etcd
from saltern.leases.local import Local

__all__ = ["SETTINGS", "Entry", "Lease", "Leases", "Unreachable", "opened"]

# What a converge writes for programs that run without Salt: this ``host``, its ``environment``, the addresses of hosts
# with the role ``etcd`` by id as ``etcd``, and whether it is ``alone`` with the role ``app``.
SETTINGS = "/etc/saltern/leases.json"

WAY_OUT = "give the role etcd to one host, or to three so that the loss of one stops nothing, and converge"


def opened(app: str, path: str = SETTINGS) -> Leases:
    """Return the leases of an app: etcd's where the environment has it, the host's own where no other host has apps.

    :param app: the app's name.
    :param path: of the settings that a converge has written.
    :raises Unreachable: where the settings are missing, or several hosts have apps and none has the role etcd.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            said = json.load(stream)
        host, environment, members, alone = (said[word] for word in ("host", "environment", "etcd", "alone"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"{path}: cannot be read ({type(error).__name__}); converge this host") from None
    if members:
        return Etcd(app, host, environment, members)
    if not alone:
        raise Unreachable(f"several hosts of {environment} have apps, and none has the role etcd; {WAY_OUT}")
    return Local(app, host)
