"""Whether a service has what is on the disk, as systemd knows it."""

import time

from salt.exceptions import CommandExecutionError

__load__ = ["is_read", "read", "restart", "started"]


def _shown(unit, *names):
    command = ["systemctl", "show", "-p", ",".join(names), unit]
    lines = __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def started(unit):
    """Return when a unit became active.

    :param unit: its name.
    :return: seconds since 1970, or ``None`` where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.started nginx
    """
    shown = _shown(unit, "ActiveState", "ActiveEnterTimestampMonotonic")
    if shown.get("ActiveState") != "active":
        return None
    # By the monotonic clock: the other one may have been set since.
    return time.time() - time.monotonic() + int(shown["ActiveEnterTimestampMonotonic"]) / 1_000_000


def is_read(unit):
    """Tell whether systemd has read a unit's files since they changed.

    :param unit: its name.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.is_read supervisor
    """
    return _shown(unit, "NeedDaemonReload").get("NeedDaemonReload") != "yes"


def read():
    """Have systemd read the files of all units.

    :raises CommandExecutionError: with what systemd says.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.read
    """
    _do("daemon-reload")


def restart(unit):
    """Restart a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.

    CLI Example: none, it serves the state ``service_config.loaded``.
    """
    _do("restart", unit)


def _do(*arguments):
    done = __salt__["cmd.run_all"](["systemctl", *arguments], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"systemctl {' '.join(arguments)}: {done['stderr']}")
