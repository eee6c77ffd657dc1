"""Certificates by which the hosts of an environment know each other."""

from saltern.settings import load
from saltern.tls import host as certificates

__load__ = ["authorities", "expiring", "own"]


def authorities():
    """Return the authorities that the host's apps trust, in PEM: the pillar's, or the host's own.

    :return: text, or ``None`` where the host's own authority is yet to be made.

    CLI Example:

    .. code-block:: bash

        salt-call certificate.authorities
    """
    load.check(__pillar__)
    return certificates.authorities(certificates.Host.of(__pillar__, __opts__["id"]))


def own():
    """Return the certificate of the host's own authority, ``None`` where it is yet to be made.

    CLI Example:

    .. code-block:: bash

        salt-call certificate.own
    """
    return certificates.own()


def expiring():
    """List the certificates of this host that should have been renewed long ago.

    :return: a mapping of path to the day on which it expires.

    CLI Example:

    .. code-block:: bash

        salt-call certificate.expiring
    """
    load.check(__pillar__)
    return certificates.expiring(__pillar__["hosts"][__opts__["id"]]["roles"], __pillar__["nginx"]["sites"])
