"""Whether services run as they should; see ``saltern.system.systemd``."""

from saltern.system import restarts

__load__ = ["restarting"]


def restarting():
    """List the units that systemd restarted again and again, the last time not long ago.

    :return: for each unit a text: its name, the number of restarts since its last ordinary start, and its state.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.restarting
    """
    return restarts.restarting()
