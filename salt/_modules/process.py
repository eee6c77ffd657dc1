"""The processes of the apps, as supervisor runs them; see ``saltern.releases``."""

from saltern.host import Host
from saltern.releases import process, scopes, supervisor

__load__ = ["info", "longest_grace", "pids"]


def info(app, release=None):
    """Return how an app's processes are.

    :param app: the app's name.
    :param release: the number of one release.
    :return: by supervisor's name of the process, its ``state``, its ``pid`` (0 where there is none), the seconds that
        it has been ``up`` and how it ended, ``exit``; for a process that another host runs, why it waits, ``standby``.
        Empty where supervisor does not run.
    :raises CommandExecutionError: when no app of this host has the name, or supervisor does not answer.

    CLI Example:

    .. code-block:: bash

        salt-call process.info tickets
    """
    Host.of(__salt__, __pillar__, __opts__).app(app)
    return supervisor.info(app, release)


def longest_grace():
    """Return how long the processes of this host's apps may take to stop.

    :return: seconds.
    :raises CommandExecutionError: when the pillar has a mistake.

    CLI Example:

    .. code-block:: bash

        salt-call process.longest_grace
    """
    return process.longest_grace(Host.of(__salt__, __pillar__, __opts__).pillar["app"])


def pids(app, release, process):
    """List what runs as a process: its launcher, and all that comes from it.

    :param app: the app's name.
    :param release: the release's number.
    :param process: such as ``web.1``.
    :return: PIDs, none where it does not run.
    :raises CommandExecutionError: when no app of this host has the name.

    CLI Example:

    .. code-block:: bash

        salt-call process.pids tickets 12 web.1
    """
    Host.of(__salt__, __pillar__, __opts__).app(app)
    return scopes.pids(app, release, process)
