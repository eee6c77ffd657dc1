"""systemd's units: whether each runs, since when, and with which of its files."""

import contextlib
import dataclasses
import datetime
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

TIMESTAMPS = ("ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic")
PROPERTIES = ("ActiveState", "UnitFileState", "NeedDaemonReload", *TIMESTAMPS)
# States whose name is a unit's.
OF_UNITS = ("drift_timer", "peers", "unit")
FUNCTIONS_OF_UNITS = (("job", "scheduled"), ("service_config", "loaded"))
# systemd keeps settings that a command gave it in this directory, until the host boots.
TOLD = "/run/systemd/system.control"
# Seconds for which an answer about many units counts, in a run that changes nothing meanwhile.
SETTLED = 2


@dataclasses.dataclass
class Among:
    """What the states of a run ask about. One question about all of it takes less time than one question by each state.

    An answer counts for ``SETTLED`` seconds.

    :param run: the run's ``__instance_id__``.
    :param chunks: its ``__lowstate__``.
    :param units: the units that its states ask about, sorted.
    :param until: until when the answer about the units counts, by the monotonic clock.
    :param asked: the command that asks systemd, as long as nobody has read its answer.
    :param answer: the properties of each unit, by the unit's name; ``None`` where systemd did not answer.
    :param others: what a service was asked, by its name: each module of a service keeps its own answers here.
    """

    run: str
    chunks: Sequence[Mapping[str, Any]]
    units: list[str]
    until: float = 0
    asked: subprocess.Popen[str] | None = None
    answer: dict[str, dict[str, str]] | None = None
    others: dict[str, Any] = dataclasses.field(default_factory=dict)


def among(
    context: MutableMapping[str, Any],
    is_dry: bool,
    run: str,
    chunks: Sequence[Mapping[str, Any]],
    running: Mapping[str, Mapping[str, Any]],
) -> Among | None:
    """Return what the states of a run ask about, as long as none of these states has done anything.

    :param context: ``__context__``, which keeps the answers.
    :param is_dry: whether the run is a dry run.
    :param run: the run's ``__instance_id__``.
    :param chunks: its ``__lowstate__``.
    :param running: its ``__running__``.
    :return: ``None`` where a state has changed something or failed, or runs beside the others and may do so.
    """
    if any(
        ret["changes"] or ret["result"] is False or (ret["result"] is None and not is_dry) for ret in running.values()
    ):
        return None
    known: Among | None = context.get("saltern_among")
    if not known or known.run != run:
        units: set[str] = set()
        for chunk in chunks:
            if chunk["state"] in OF_UNITS or (chunk["state"], chunk["fun"]) in FUNCTIONS_OF_UNITS:
                units.add(chunk["name"])
            elif (chunk["state"], chunk["fun"]) == ("service_config", "unit_read"):
                units.update(chunk["units"])
        known = Among(run, chunks, sorted(units))
        context["saltern_among"] = known
    return known


def begin(among: Among) -> None:
    """Ask systemd about many units, without waiting for the answer, which takes a while.

    :param among: what the states ask about. The answer counts from now.
    """
    among.until = time.monotonic() + SETTLED
    among.asked = _ask(among.units, PROPERTIES)


def shown(unit: str, *names: str, among: Among | None = None) -> dict[str, str]:
    """Return properties of a unit, as systemd has them now.

    :param unit: its name.
    :param names: the properties' names.
    :param among: what the other states ask about: systemd answers for all these units at once.
    :return: values by name. For a unit that does not exist, systemd makes the values up.
    """
    if among and unit in among.units and set(names) <= set(PROPERTIES):
        if time.monotonic() > among.until:
            begin(among)
        if among.asked:
            found = _answer(among.asked, among.units)
            among.asked = None
            among.answer = None if found is None else dict(zip(among.units, found, strict=True))
        if among.answer:
            return {name: value for name, value in among.answer[unit].items() if name in names}
    return (_answer(_ask([unit], names), [unit]) or [{}])[0]


def _ask(units: Iterable[str], names: Iterable[str]) -> subprocess.Popen[str]:
    """Ask systemd for properties of units, and do not wait for the answer."""
    command = ["systemctl", "show", "--timestamp=us+utc", "-p", ",".join(names), *units]
    environ = os.environ | {"LC_ALL": "C"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


def _answer(asked: subprocess.Popen[str], units: Collection[str]) -> list[dict[str, str]] | None:
    """Return values by name for each unit, in the order of the units; ``None`` unless all are there."""
    blocks = asked.communicate()[0].split("\n\n")
    if asked.returncode or len(blocks) != len(units):
        return None
    return [properties(block) for block in blocks]


def properties(block: str) -> dict[str, str]:
    """Read what ``systemctl show`` says of one unit: values by name."""
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def started(unit: str, recorded: bool = True, among: Among | None = None) -> float | None:
    """Return when a unit became active.

    :param unit: its name.
    :param recorded: ``False`` to compare it with a file that was written just now; see ``moment``.
    :param among: see ``shown``.
    :return: seconds since 1970, or ``None`` where the unit does not run.
    """
    found = shown(unit, "ActiveState", *TIMESTAMPS, among=among)
    if found.get("ActiveState") != "active":
        return None
    if not recorded:
        found["ActiveEnterTimestamp"] = ""
    return moment(found, time.time(), time.monotonic())


def moment(found: Mapping[str, str | None], now: float, monotonic: float) -> float:
    """Return when a unit became active, for a comparison with the times of files.

    The clock may have been set since the unit started. So there are two candidates: the time that systemd recorded,
    and the time that follows from the monotonic clock. The later one counts, so that setting a clock restarts nothing.

    :param found: the unit's properties.
    :param now: seconds since 1970.
    :param monotonic: seconds of the monotonic clock.
    :return: seconds since 1970; 0 where systemd does not say.
    """
    recorded, since_boot = map(found.get, TIMESTAMPS)
    times = [now - monotonic + int(since_boot) / 1_000_000] if since_boot and since_boot != "0" else []
    if recorded:
        times.append(datetime.datetime.strptime(f"{recorded}+0000", "%a %Y-%m-%d %H:%M:%S.%f UTC%z").timestamp())
    return max((at for at in times if at <= now), default=0)


def loaded(unit: str) -> float | None:
    """Return when a unit started, or was reloaded: each of both is a change of its state.

    :param unit: its name.
    :return: seconds since 1970, or ``None`` where the unit does not run.
    """
    names = ("StateChangeTimestamp", "StateChangeTimestampMonotonic")
    found = shown(unit, "ActiveState", *names)
    if found.get("ActiveState") != "active":
        return None
    return moment(dict(zip(TIMESTAMPS, map(found.get, names), strict=True)), time.time(), time.monotonic())


def newer(files: Iterable[str], since: float, now: float) -> bool:
    """Tell whether a file changed after a service started.

    :param files: paths; each need not be there.
    :param since: when the service started, in seconds since 1970.
    :param now: the time, in seconds since 1970. A file from the future says nothing.
    """
    times = [os.stat(path).st_mtime for path in files if os.path.exists(path)]
    return any(since < changed <= now for changed in times)


def is_read(unit: str, among: Among | None = None) -> bool:
    """Tell whether systemd has read a unit's files since they changed.

    :param unit: its name.
    :param among: see ``shown``.
    """
    return shown(unit, "NeedDaemonReload", among=among).get("NeedDaemonReload") != "yes"


def is_switched(unit: str, on: bool, among: Among | None = None) -> bool:
    """Tell whether a unit runs now and after each boot, or does neither.

    :param unit: its name.
    :param on: which of these is asked.
    :param among: see ``shown``.
    :return: a boolean: ``False`` where the unit only runs, or is only enabled.
    """
    found = shown(unit, "ActiveState", "UnitFileState", among=among)
    return {found.get("ActiveState") == "active", found.get("UnitFileState") == "enabled"} == {bool(on)}


def read() -> None:
    """Have systemd read the files of all units again.

    :raises CommandExecutionError: with what systemd says.
    """
    _do("daemon-reload")


def enforce(unit: str, limits: Mapping[str, str]) -> None:
    """Enforce in the kernel the limits that the files of a running unit have.

    systemd 257 enforces them by a command, but not by a reload. It also keeps what it was told, and prefers that to the
    files: so that copy is removed.

    :param unit: the unit.
    :param limits: such as ``{'TasksMax': '100'}``.
    :raises CommandExecutionError: with what systemd says.
    """
    _do("set-property", "--runtime", unit, *(f"{name}={value}" for name, value in sorted(limits.items())))
    # systemd has other names for a share of the host's memory or tasks.
    for name in (f"{name}{kind}" for name in limits for kind in ("", "Scale")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{TOLD}/{unit}.d/50-{name}.conf")
    with contextlib.suppress(OSError):
        os.rmdir(f"{TOLD}/{unit}.d")


def restart(unit: str) -> None:
    """Restart a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.
    """
    _do("restart", unit)


def reload(unit: str) -> None:
    """Have a unit read its configuration again.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.
    """
    _do("reload", unit)


def stop(unit: str) -> None:
    """Stop a unit.

    :param unit: its name.
    :raises CommandExecutionError: with what systemd says.
    """
    _do("stop", unit)


def switch(unit: str, on: bool) -> None:
    """Run a unit, now and after each boot; or stop it, for good.

    :param unit: its name.
    :param on: which of these.
    :raises CommandExecutionError: with what systemd says.
    """
    _do("enable" if on else "disable", "--now", "--quiet", unit)


def forget(unit: str) -> None:
    """Forget that a unit has failed, whose files are gone.

    :param unit: its name, or a pattern.
    """
    # One that has not failed is not known any more.
    with contextlib.suppress(CommandExecutionError):
        _do("reset-failed", unit)


def _do(*words: str) -> None:
    environ = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, env=environ)
    except OSError as error:
        raise CommandExecutionError(f"systemctl {' '.join(words)}: {error.strerror}") from None
    if done.returncode:
        raise CommandExecutionError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
