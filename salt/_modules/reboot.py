"""Rebooting this host from elsewhere. See ``saltern.fleet.reboot``."""

from saltern.fleet import reboot
from saltern.host import Host

__load__ = ["begin", "boot", "pending"]


def _host():
    return Host.of(__salt__, __pillar__, __opts__)


def pending():
    """Say why this host should be rebooted.

    :return: a list of reasons. Empty where there is none.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.pending
    """
    return reboot.pending()


def boot():
    """Return the id of this boot, which no other boot has, and how far systemd has come.

    :return: ``id``, and ``state``: ``running``, ``degraded``, ``starting`` or another one of systemd's.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.boot
    """
    return reboot.boot(_host())


def begin():
    """Reboot this host, once the answer to this is on its way.

    :return: the id of the boot that ends; see ``reboot.boot``.
    :raises CommandExecutionError: when systemd does not take the order.

    CLI Example:

    .. code-block:: bash

        salt-call reboot.begin
    """
    return reboot.begin(_host())
