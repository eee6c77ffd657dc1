"""Whether a service has what is on the disk, as systemd knows it."""

import datetime
import time

from salt.exceptions import CommandExecutionError

__load__ = ["is_read", "read", "restart", "started"]

TIMESTAMPS = ("ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic")


def _shown(unit, *names):
    command = ["systemctl", "show", "--timestamp=us+utc", "-p", ",".join(names), unit]
    lines = __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def started(unit, recorded=True):
    """Return when a unit became active.

    :param unit: its name.
    :param recorded: ``False`` to compare it with what was written just now; see ``moment``.
    :return: seconds since 1970, or ``None`` where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.started nginx
    """
    shown = _shown(unit, "ActiveState", *TIMESTAMPS)
    if shown.get("ActiveState") != "active":
        return None
    if not recorded:
        shown["ActiveEnterTimestamp"] = ""
    return moment(shown, time.time(), time.monotonic())


def moment(shown, now, monotonic):
    """Return when a unit became active, so that the times of files can be compared with it.

    A file has the time of the clock as it was when it was written, and so has what systemd recorded of the unit. Where
    the clock was set in between, what the monotonic one says of it now may be right instead. The later of the two
    counts: nothing is restarted because a clock was set.

    :param shown: the unit's properties.
    :param now: seconds since 1970.
    :param monotonic: seconds of the monotonic clock.
    :return: seconds since 1970; 0 where systemd does not say.
    """
    recorded, since_boot = map(shown.get, TIMESTAMPS)
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
