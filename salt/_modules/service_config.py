"""Whether a service runs with the configuration on the disk, as systemd knows it."""

import contextlib
import datetime
import os
import subprocess
import time

from salt.exceptions import CommandExecutionError

from saltern import services

__load__ = ["among", "begin", "enforce", "is_read", "is_switched", "read", "restart", "restarting", "shown", "started"]
__load__ += ["stop"]

TIMESTAMPS = ("ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic")
PROPERTIES = ("ActiveState", "UnitFileState", "NeedDaemonReload", *TIMESTAMPS)
# States whose name is a unit's.
OF_UNITS = ("drift_timer", "peers", "unit")
# Units that systemd restarts when they end, where they are on the host.
RELIED_ON = (
    *("nginx.service", "supervisor.service", "systemd-journald.service", "saltern-*.service", "salt-*.service"),
    *(service.relied_on for service in services.resources()),
)
# The directory of settings that systemd got by a command: it lasts until a boot.
TOLD = "/run/systemd/system.control"
# A unit counts as restarting after this many restarts, the last of them within these seconds.
RESTARTS = 3
RECENT = 3600
# Seconds for which an answer about many units counts, in a run that changes nothing meanwhile.
SETTLED = 2


def among(run, chunks, running):
    """Return the units that the states of a run ask about, while none of these has done anything.

    :param run: the run's ``__instance_id__``.
    :param chunks: its ``__lowstate__``.
    :param running: its ``__running__``.
    :return: what ``shown`` takes: all these units may be asked about at once. Other modules keep their own answers in
        it, about what its ``chunks`` ask, for the seconds that it ``lasts``. ``None`` where a state has changed
        something or failed, or may be doing so beside the others.

    CLI Example: none, it serves states.
    """
    is_dry = __opts__["test"]
    if any(
        ret["changes"] or ret["result"] is False or (ret["result"] is None and not is_dry) for ret in running.values()
    ):
        return None
    known = __context__.get("saltern_among")
    if not known or known["run"] != run:
        units = set()
        for chunk in chunks:
            if chunk["state"] in OF_UNITS or (chunk["state"], chunk["fun"]) == ("service_config", "loaded"):
                units.add(chunk["name"])
            elif (chunk["state"], chunk["fun"]) == ("service_config", "unit_read"):
                units.update(chunk["units"])
        known = {"run": run, "chunks": chunks, "units": sorted(units), "lasts": SETTLED, "until": 0, "answer": None}
        __context__["saltern_among"] = known
    return known


def begin(among):
    """Ask systemd about many units, without waiting for the answer, which takes a while.

    :param among: what the function of this name returns. Its answer counts from now.

    CLI Example: none, it serves the state ``service_config.asked``.
    """
    among["until"] = time.monotonic() + SETTLED
    among["asked"] = _ask(among["units"], PROPERTIES)


def shown(unit, *names, among=None):
    """Return properties of a unit, as systemd has them now.

    :param unit: its name.
    :param names: the properties' names.
    :param among: what the function of this name returns: other units that will be asked about, and that nothing changes
        meanwhile. One answer about all of them counts for two seconds: systemd needs longer for each question than for
        each unit.
    :return: values by name; of a unit that is not there, those that systemd makes up.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.shown nginx ActiveState UnitFileState
    """
    if among and unit in among["units"] and set(names) <= set(PROPERTIES):
        if time.monotonic() > among["until"]:
            begin(among)
        if "asked" in among:
            found = _answer(among.pop("asked"), among["units"])
            among["answer"] = found and dict(zip(among["units"], found, strict=True))
        if among["answer"]:
            return {name: value for name, value in among["answer"][unit].items() if name in names}
    return (_answer(_ask([unit], names), [unit]) or [{}])[0]


def _ask(units, names):
    """Ask systemd for properties of units, and do not wait for its answer."""
    command = ["systemctl", "show", "--timestamp=us+utc", "-p", ",".join(names), *units]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes, text=True, env=os.environ | {"LC_ALL": "C"})


def _answer(asked, units):
    """Return values by name for each unit, in their order; ``None`` without all."""
    blocks = asked.communicate()[0].split("\n\n")
    if asked.returncode or len(blocks) != len(units):
        return None
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def started(unit, recorded=True, among=None):
    """Return when a unit became active.

    :param unit: its name.
    :param recorded: ``False`` to compare it with what was written just now; see ``moment``.
    :param among: see ``shown``.
    :return: seconds since 1970, or ``None`` where it does not run.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.started nginx
    """
    properties = shown(unit, "ActiveState", *TIMESTAMPS, among=among)
    if properties.get("ActiveState") != "active":
        return None
    if not recorded:
        properties["ActiveEnterTimestamp"] = ""
    return moment(properties, time.time(), time.monotonic())


def moment(properties, now, monotonic):
    """Return when a unit became active, for a comparison with the times of files.

    Both the file's time and the time that systemd recorded are of the clock as it was then. Where the clock was set in
    between, the time by the monotonic clock may be right instead. The later of the two counts, so that no service
    restarts because a clock was set.

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


def is_read(unit, among=None):
    """Tell whether systemd has read a unit's files since they changed.

    :param unit: its name.
    :param among: see ``shown``.
    :return: a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.is_read supervisor
    """
    return shown(unit, "NeedDaemonReload", among=among).get("NeedDaemonReload") != "yes"


def is_switched(unit, on, among=None):
    """Tell whether a unit runs now and after each boot, or does neither.

    :param unit: its name.
    :param on: which of these is asked.
    :param among: see ``shown``.
    :return: a boolean: ``False`` where only one of them holds.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.is_switched saltern-peers True
    """
    found = shown(unit, "ActiveState", "UnitFileState", among=among)
    return {found.get("ActiveState") == "active", found.get("UnitFileState") == "enabled"} == {bool(on)}


def restarting():
    """List the units that systemd restarted again and again, the last time not long ago.

    :return: for each unit a text: its name, the number of restarts since its last ordinary start, and its state.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.restarting
    """
    names = ("Id", "NRestarts", "ActiveState", "StateChangeTimestampMonotonic")
    command = ["systemctl", "show", "--all", "-p", ",".join(names), *RELIED_ON]
    done = __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)
    return again_and_again(done["stdout"], time.monotonic())


def again_and_again(shown_, monotonic):
    """Find the units that were started again and again.

    :param shown_: what ``systemctl show`` said of them.
    :param monotonic: seconds of the monotonic clock.
    :return: see ``restarting``.
    """
    found = []
    for block in shown_.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        count = int(unit.get("NRestarts") or 0)
        is_recent = monotonic - int(unit.get("StateChangeTimestampMonotonic") or 0) / 1_000_000 < RECENT
        if count >= RESTARTS and (is_recent or unit["ActiveState"] != "active"):
            found.append(f"{unit['Id']} ({count} times, {unit['ActiveState']})")
    return sorted(found)


def read():
    """Reload the files of all units.

    :raises CommandExecutionError: with what systemd says.

    CLI Example:

    .. code-block:: bash

        salt-call service_config.read
    """
    _do("daemon-reload")


def enforce(unit, properties):
    """Enforce in the kernel the limits that the files of a running unit have.

    systemd 257 enforces them by a command, but not by a reload. It also keeps what it was told, and prefers that to the
    files: so that copy is removed.

    :param unit: the unit.
    :param properties: such as ``{'TasksMax': '100'}``.
    :raises CommandExecutionError: with what systemd says.

    CLI Example: none, it serves the state ``app_limits.enforced``.
    """
    _do("set-property", "--runtime", unit, *(f"{name}={value}" for name, value in sorted(properties.items())))
    # systemd has other names for a share of the host's memory or tasks.
    for name in (f"{name}{kind}" for name in properties for kind in ("", "Scale")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{TOLD}/{unit}.d/50-{name}.conf")
    with contextlib.suppress(OSError):
        os.rmdir(f"{TOLD}/{unit}.d")


def restart(unit):
    """Restart a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.

    CLI Example: none, it serves the state ``service_config.loaded``.
    """
    _do("restart", unit)


def stop(unit):
    """Stop a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.

    CLI Example: none, it serves the state ``app_limits.enforced``.
    """
    _do("stop", unit)


def _do(*arguments):
    done = __salt__["cmd.run_all"](["systemctl", *arguments], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"systemctl {' '.join(arguments)}: {done['stderr']}")
