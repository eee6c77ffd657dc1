"""What an app may take of its host: memory, tasks and processors, as systemd enforces it.

Each app has a slice, and each of its processes has a scope in that slice; see ``formulas/app/files/launcher``. systemd
reads the limits of a process type from a directory whose name is how the names of the type's scopes begin.
"""

import contextlib
import glob
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.system import files, systemd

Limits = Mapping[str, Any]
Found = dict[str, float | None]

UNITS = "/etc/systemd/system"
GROUPS = "/sys/fs/cgroup"
# The file for all scopes of apps, and the file for those of a process type. systemd reads them in this order, and of
# files of one name it reads only one.
COMMON, OWN = "10-saltern.conf", "20-saltern.conf"
HEAD = "# Managed by Saltern (formula app).\n"
# The first systemd that knows OOMPolicy= for scopes. Its default ends all of a scope once the kernel has ended one
# process of it.
OOM_POLICY_SINCE = 253
SCALES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# The kernel rounds a size by up to this share of it. A limit of so many bytes is no limit.
ROUNDED = 0.001
UNLIMITED = 1 << 62


def common(version: int) -> dict[str, str]:
    """Return the file that keeps systemd from setting limits of its own for the scopes of apps.

    :param version: systemd's version.
    :return: text by path.
    """
    text = f"{HEAD}[Scope]\nTasksMax=infinity\n"
    text += "OOMPolicy=continue\n" if version >= OOM_POLICY_SINCE else ""
    return {f"{UNITS}/app-.scope.d/{COMMON}": text}


def units(app: str, limits: Limits) -> dict[str, str]:
    """Return the files by which systemd limits an app.

    :param app: the app's name.
    :param limits: its settings.
    :return: text by path.
    """
    # Apps that together want more than the processors give get equal shares.
    text = f"{HEAD}[Unit]\nDescription=The app {app}\n\n[Slice]\n{_properties(limits)}CPUWeight=100\n"
    found = {f"{UNITS}/app-{_escaped(app)}.slice": text}
    for kind, own in sorted(limits["processes"].items()):
        path = f"{UNITS}/app-{_escaped(app)}-{_escaped(kind)}-.scope.d/{OWN}"
        found[path] = f"{HEAD}[Scope]\n{_properties(own)}"
    return found


def _escaped(name: str) -> str:
    # In the name of a slice, a dash ends the name of its parent.
    return name.replace("-", "\\x2d")


def _properties(limits: Limits) -> str:
    text = ""
    if "memory" in limits:
        text += f"MemoryMax={limits['memory'].upper()}\n"
    if "tasks" in limits:
        text += f"TasksMax={limits['tasks']}\n"
    if "cpu" in limits:
        text += f"CPUQuota={limits['cpu']}\n"
    return text


def stale(wanted: Collection[str]) -> list[str]:
    """List the files of Saltern that limit what is no longer there.

    :param wanted: the paths of the files that are to be there; see ``units``.
    :return: paths, sorted.
    """
    found = [path for name in ("app-*.slice", "app-*.scope.d/*.conf") for path in glob.glob(f"{UNITS}/{name}")]
    return sorted(path for path in found if path not in wanted and _read(path).startswith(HEAD))


def differences(app: str, declared: Limits) -> dict[str, str]:
    """Compare the limits that the kernel enforces on running processes with the declared ones.

    :param app: the app's name.
    :param declared: its limits.
    :return: by the name of a slice or a scope a phrase such as ``memory 64 MiB, expected 128 MiB``.
    """
    found = {}
    for group, kind in _groups(app):
        wanted, actual = _wanted(declared if kind is None else declared["processes"].get(kind, {})), limits(group)
        wrong = [what for what in actual if not _is_same(actual[what], wanted[what])]
        if wrong:
            texts = (f"{what} {_text(what, actual[what])}, expected {_text(what, wanted[what])}" for what in wrong)
            found[os.path.basename(group)] = "; ".join(texts)
    return found


def properties(unit: str, app: str, declared: Limits) -> dict[str, str]:
    """Return the properties that systemd must have for an app's slice or scope, also for what is not limited.

    :param unit: its name.
    :param app: the app's name.
    :param declared: the app's limits.
    """
    kinds = {os.path.basename(group): kind for group, kind in _groups(app)}
    own = declared if kinds[unit] is None else declared["processes"].get(kinds[unit], {})
    said = dict(line.split("=") for line in _properties(own).splitlines())
    return {"MemoryMax": "infinity", "TasksMax": "infinity", "CPUQuota": ""} | said


def _groups(app: str) -> Iterator[tuple[str, str | None]]:
    """Yield the control groups of an app, as paths below any controller, and the process type of each."""
    top = f"app.slice/app-{_escaped(app)}.slice"
    roots = {os.path.dirname(_path("memory", top)), os.path.dirname(_path("pids", top))}
    if not any(os.path.isdir(f"{root}/{os.path.basename(top)}") for root in roots):
        return
    yield top, None
    # Of a process, or of a run of a job.
    pattern = re.compile(rf"app-{re.escape(_escaped(app))}-(.+)-(?:[^.-]+\.)?[0-9]+\.v[0-9]+\.scope")
    for name in sorted({name for root in roots for name in _names(f"{root}/{os.path.basename(top)}")}):
        if match := pattern.fullmatch(name):
            yield f"{top}/{name}", match[1].replace("\\x2d", "-")


def _path(controller: str, group: str) -> str:
    """Return the directory of a control group. All controllers share one tree, or each controller has its own."""
    is_unified = os.path.exists(f"{GROUPS}/cgroup.controllers")
    return f"{GROUPS}/{group}" if is_unified else f"{GROUPS}/{controller}/{group}"


def limits(group: str) -> Found:
    """Return the limits of a control group, as the kernel has them.

    :param group: such as ``app.slice/app-tickets.slice``.
    :return: ``memory`` in bytes, ``tasks``, and ``cpu`` in processors; ``None`` for what is not limited. Without a
        controller on this host, a limit is left out.
    """
    found: Found = {}
    for name in ("memory.max", "memory.limit_in_bytes"):
        if text := _read(f"{_path('memory', group)}/{name}"):
            found["memory"] = _number(text)
    if text := _read(f"{_path('pids', group)}/pids.max"):
        found["tasks"] = _number(text)
    if text := _read(f"{_path('cpu', group)}/cpu.max"):
        quota, period = text.split()
        found["cpu"] = None if quota == "max" else int(quota) / int(period)
    elif text := _read(f"{_path('cpu', group)}/cpu.cfs_quota_us"):
        period = _read(f"{_path('cpu', group)}/cpu.cfs_period_us")
        found["cpu"] = None if int(text) < 0 else int(text) / int(period)
    return found


def _number(text: str) -> int | None:
    return None if text.strip() == "max" or int(text) >= UNLIMITED else int(text)


def _wanted(declared: Limits) -> Found:
    """Return declared limits in the kernel's units."""
    memory = declared.get("memory")
    return {
        "memory": _bytes(memory) if memory else None,
        "tasks": declared.get("tasks"),
        "cpu": int(declared["cpu"][:-1]) / 100 if "cpu" in declared else None,
    }


def _bytes(size: str) -> int:
    """Return a declared size in bytes: such as ``512m``, or ``75%`` of the host's memory."""
    if size.endswith("%"):
        return _physical() * int(size[:-1]) // 100
    return int(size[:-1]) * SCALES[size[-1]]


def _physical() -> int:
    """Return the bytes of memory that the host has. A container may have a limit below the machine's memory."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [_read(f"{_path('memory', '.')}/{name}") for name in ("memory.max", "memory.limit_in_bytes")]
    return min([total, *filter(None, [_number(text) for text in texts if text])])


def _is_same(actual: float | None, wanted: float | None) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    return abs(actual - wanted) <= max(wanted * ROUNDED, 4096 if wanted > 1 << 20 else 0)


def shown(app: str) -> dict[str, Any]:
    """Show what an app takes of its host now, and what it may take.

    :param app: the app's name.
    :return: a mapping of ``memory``, ``tasks`` and ``cpu``, and the same of each of its ``processes``.
    """
    found: dict[str, Any] = {}
    processes: dict[str, Any] = {}
    for group, kind in _groups(app):
        if kind is None:
            found = _shown(group)
        else:
            # During a switch, each of two releases has processes of its own.
            index, _, number = os.path.basename(group).removesuffix(".scope").rpartition("-")[2].rpartition(".")
            processes[f"{number} {kind}.{index}"] = _shown(group)
    return found | {"processes": processes}


def _shown(group: str) -> dict[str, str]:
    limit, memory, tasks = limits(group), _path("memory", group), _path("pids", group)
    used = {
        "memory": _read(f"{memory}/memory.current") or _read(f"{memory}/memory.usage_in_bytes"),
        "tasks": _read(f"{tasks}/pids.current"),
    }
    found = {
        what: f"{_text(what, int(text))} of {_text(what, limit[what]) if limit.get(what) else 'no limit'}"
        for what, text in used.items()
        if text
    }
    return found | ({"cpu": f"at most {_text('cpu', limit['cpu'])}"} if limit.get("cpu") else {})


def _text(what: str, value: float | None) -> str:
    if value is None:
        return "no limit"
    if what == "memory":
        return f"{value / (1 << 20):.0f} MiB"
    return f"{value:g} processors" if what == "cpu" else str(value)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def unlike(wanted: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """Return the changes, as a state reports them, for the files that differ from what is declared.

    :param wanted: text by path; see ``units``.
    """
    paths = [path for path, text in wanted.items() if files.read(path) != text]
    return {path: {"old": "as it was" if os.path.exists(path) else None, "new": "as declared"} for path in paths}


def write(wanted: Mapping[str, str]) -> None:
    """Write the files of systemd that differ from what is declared.

    :param wanted: text by path; see ``units``.
    """
    for path in unlike(wanted):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, wanted[path])


def enforce(app: str, declared: Limits) -> None:
    """Have systemd read its files, and the kernel enforce what they say.

    :param app: the app's name.
    :param declared: its limits.
    :raises CommandExecutionError: when systemd refuses to read its files.
    """
    systemd.read()
    names = differences(app, declared)
    for unit in names:
        # A process that has ended meanwhile needs no limits.
        with contextlib.suppress(CommandExecutionError, KeyError):
            systemd.enforce(unit, properties(unit, app, declared))
    if names:
        systemd.read()


def remove(paths: Collection[str]) -> None:
    """Remove files of systemd that limit what is no longer there; see ``stale``.

    :param paths: the files.
    :raises CommandExecutionError: when systemd does not stop a slice.
    """
    for path in paths:
        # Nothing of the removed app runs any more, but systemd keeps its empty slice.
        if path.endswith(".slice"):
            systemd.stop(os.path.basename(path))
        os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
    systemd.read()
