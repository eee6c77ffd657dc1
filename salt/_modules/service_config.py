"""Whether a service has what is on the disk, as systemd knows it."""

import datetime
import os
import subprocess
import time

from salt.exceptions import CommandExecutionError

__load__ = ["is_read", "is_switched", "read", "restart", "shown", "started"]

TIMESTAMPS = ("ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic")


def shown(unit, *names):
    """Return properties of a unit, as systemd has them now.

    :param unit: its name.
    :param names: the properties' names.
    :return: values by name; of a unit that is not there, those that systemd makes up.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.shown nginx ActiveState UnitFileState
    """
    command = ["systemctl", "show", "--timestamp=us+utc", "-p", ",".join(names), unit]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    return dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)


def started(unit, recorded=True):
    """Return when a unit became active.

    :param unit: its name.
    :param recorded: ``False`` to compare it with what was written just now; see ``moment``.
    :return: seconds since 1970, or ``None`` where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.started nginx
    """
    properties = shown(unit, "ActiveState", *TIMESTAMPS)
    if properties.get("ActiveState") != "active":
        return None
    if not recorded:
        properties["ActiveEnterTimestamp"] = ""
    return moment(properties, time.time(), time.monotonic())


def moment(properties, now, monotonic):
    """Return when a unit became active, so that the times of files can be compared with it.

    A file has the time of the clock as it was when it was written, and so has what systemd recorded of the unit. Where
    the clock was set in between, what the monotonic one says of it now may be right instead. The later of the two
    counts: nothing is restarted because a clock was set.

    :param properties: the unit's.
    :param now: seconds since 1970.
    :param monotonic: seconds of the monotonic clock.
    :return: seconds since 1970; 0 where systemd does not say.
    """
    recorded, since_boot = map(properties.get, TIMESTAMPS)
    found = [now - monotonic + int(since_boot) / 1_000_000] if since_boot not in (None, "0") else []
    if recorded:
        found.append(datetime.datetime.strptime(f"{recorded}+0000", "%a %Y-%m-%d %H:%M:%S.%f UTC%z").timestamp())
    return max((at for at in found if at <= now), default=0)


def is_read(unit):
    """Tell whether systemd has read a unit's files since they changed.

    :param unit: its name.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.is_read supervisor
    """
    return shown(unit, "NeedDaemonReload").get("NeedDaemonReload") != "yes"


def is_switched(unit, on):
    """Tell whether a unit runs, now and from every boot on, or does neither.

    :param unit: its name.
    :param on: which of these is asked.
    :return: a boolean; ``False`` where it is something in between.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.is_switched saltern-peers True
    """
    found = shown(unit, "ActiveState", "UnitFileState")
    return {found.get("ActiveState") == "active", found.get("UnitFileState") == "enabled"} == {bool(on)}


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
