"""When a service started, as systemd knows it."""

import time

from salt.exceptions import CommandExecutionError

__load__ = ["restart", "started"]


def started(unit):
    """Return when a unit became active.

    :param unit: its name.
    :return: seconds since 1970; 0 where systemd has not read the unit's own files yet; ``None`` where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.started nginx
    """
    command = ["systemctl", "show", "-p", "ActiveState,ActiveEnterTimestampMonotonic,NeedDaemonReload", unit]
    lines = __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True).splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line)
    if properties.get("ActiveState") != "active":
        return None
    if properties.get("NeedDaemonReload") == "yes":
        # The unit's own files are newer than what systemd has read of them, and so than the service.
        return 0.0
    # By the monotonic clock: the other one may have been set since.
    return time.time() - time.monotonic() + int(properties["ActiveEnterTimestampMonotonic"]) / 1_000_000


def restart(unit):
    """Restart a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.

    CLI Example: none, it serves the state ``service_config.loaded``.
    """
    __salt__["cmd.run_all"](["systemctl", "daemon-reload"], python_shell=False)
    done = __salt__["cmd.run_all"](["systemctl", "restart", unit], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"{unit} does not restart: {done['stderr']}")
