"""What an app takes of its host, and what it may take; see ``saltern.apps.limits``."""

from saltern.apps import limits
from saltern.host import Host

__load__ = ["shown"]


def shown(app):
    """Show what an app takes of its host now, and what it may take.

    :param app: the app's name.
    :return: a mapping of ``memory``, ``tasks`` and ``cpu``, and the same of each of its ``processes``.
    :raises CommandExecutionError: when no app of this host has the name.

    CLI Example:

    .. code-block:: bash

        salt-call app_limits.shown tickets
    """
    Host.of(__salt__, __pillar__, __opts__).app(app)
    return limits.shown(app)
