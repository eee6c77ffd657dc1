"""What an app may take of its host: memory, tasks and processors, as systemd enforces it.

Each app has a slice, and each of its processes a scope in it; see the launcher, ``formulas/app/files/launcher``. What
holds for the scopes of a process type, systemd reads from a directory that is named as they begin.
"""

import glob
import os
import re

__load__ = ["common", "differences", "limits", "properties", "shown", "stale", "units"]

UNITS = "/etc/systemd/system"
GROUPS = "/sys/fs/cgroup"
# What holds for all scopes of apps, and for those of a process type, which is read after it: of files of the same name
# systemd reads one.
COMMON, OWN = "10-saltern.conf", "20-saltern.conf"
HEAD = "# Managed by Saltern (formula app).\n"
# The first systemd that knows OOMPolicy= for scopes, and would otherwise end all of a scope of which one was ended.
OOM_POLICY_SINCE = 253
SCALES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# What a kernel rounds of a size, as a share of it, and the least that is no limit to it.
ROUNDED = 0.001
UNLIMITED = 1 << 62


def common(version):
    """Return the file by which systemd has no limits of its own for the scopes of apps.

    :param version: systemd's version.
    :return: text by path.

    CLI Example: none, it serves the state ``app_limits.retired``.
    """
    text = f"{HEAD}[Scope]\nTasksMax=infinity\n"
    text += "OOMPolicy=continue\n" if version >= OOM_POLICY_SINCE else ""
    return {f"{UNITS}/app-.scope.d/{COMMON}": text}


def units(app, limits):
    """Return the files by which systemd limits an app.

    :param app: the app's name.
    :param limits: its settings.
    :return: text by path.

    CLI Example: none, it serves the state ``app_limits.enforced``.
    """
    # An equal share of the processors for each app that wants more than there is.
    text = f"{HEAD}[Unit]\nDescription=The app {app}\n\n[Slice]\n{_properties(limits)}CPUWeight=100\n"
    found = {f"{UNITS}/app-{_escaped(app)}.slice": text}
    for kind, own in sorted(limits["processes"].items()):
        path = f"{UNITS}/app-{_escaped(app)}-{_escaped(kind)}-.scope.d/{OWN}"
        found[path] = f"{HEAD}[Scope]\n{_properties(own)}"
    return found


def _escaped(name):
    # To systemd a dash in a slice's name is the end of its parent's.
    return name.replace("-", "\\x2d")


def _properties(limits):
    text = ""
    if "memory" in limits:
        text += f"MemoryMax={limits['memory'].upper()}\n"
    if "tasks" in limits:
        text += f"TasksMax={limits['tasks']}\n"
    if "cpu" in limits:
        text += f"CPUQuota={limits['cpu']}\n"
    return text


def stale(wanted):
    """List files of ours that limit what is no longer there.

    :param wanted: the files that are to be there; see ``units``.
    :return: paths, sorted.

    CLI Example: none, it serves the state ``app_limits.retired``.
    """
    found = [path for name in ("app-*.slice", "app-*.scope.d/*.conf") for path in glob.glob(f"{UNITS}/{name}")]
    return sorted(path for path in found if path not in wanted and _read(path).startswith(HEAD))


def differences(app, declared):
    """Compare what the kernel enforces with what is declared, for what runs.

    :param app: the app's name.
    :param declared: its limits.
    :return: by the name of a slice or a scope a phrase such as ``memory 64 MiB, expected 128 MiB``.

    CLI Example: none, it serves the state ``app_limits.enforced``.
    """
    found = {}
    for group, kind in _groups(app):
        wanted, actual = _wanted(declared if kind is None else declared["processes"].get(kind, {})), limits(group)
        wrong = [what for what in actual if not _is_same(actual[what], wanted[what])]
        if wrong:
            texts = (f"{what} {_text(what, actual[what])}, expected {_text(what, wanted[what])}" for what in wrong)
            found[os.path.basename(group)] = "; ".join(texts)
    return found


def properties(unit, app, declared):
    """Return systemd's properties of an app's slice or scope, also of what is not limited.

    :param unit: its name.
    :param app: the app's name.
    :param declared: the app's limits.

    CLI Example: none, it serves the state ``app_limits.enforced``.
    """
    kinds = {os.path.basename(group): kind for group, kind in _groups(app)}
    own = declared if kinds[unit] is None else declared["processes"].get(kinds[unit], {})
    said = dict(line.split("=") for line in _properties(own).splitlines())
    return {"MemoryMax": "infinity", "TasksMax": "infinity", "CPUQuota": ""} | said


def _groups(app):
    """Return the control groups of an app, as paths below any controller, and the process type of each."""
    top = f"app.slice/app-{_escaped(app)}.slice"
    roots = {os.path.dirname(_path("memory", top)), os.path.dirname(_path("pids", top))}
    if not any(os.path.isdir(f"{root}/{os.path.basename(top)}") for root in roots):
        return
    yield top, None
    pattern = re.compile(rf"app-{re.escape(_escaped(app))}-(.+)-[0-9]+\.v[0-9]+\.scope")
    for name in sorted({name for root in roots for name in _names(f"{root}/{os.path.basename(top)}")}):
        if match := pattern.fullmatch(name):
            yield f"{top}/{name}", match[1].replace("\\x2d", "-")


def _path(controller, group):
    """Return the directory of a control group of a controller: one for all, or one for each."""
    is_unified = os.path.exists(f"{GROUPS}/cgroup.controllers")
    return f"{GROUPS}/{group}" if is_unified else f"{GROUPS}/{controller}/{group}"


def limits(group):
    """Return the limits of a control group, as the kernel has them.

    :param group: such as ``app.slice/app-tickets.slice``.
    :return: ``memory`` in bytes, ``tasks``, and ``cpu`` in processors; ``None`` for what is not limited. What the host
        has no controller for is not in it.

    CLI Example:

    .. code-block:: bash

        salt-call app_limits.limits app.slice/app-tickets.slice
    """
    found = {}
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


def _number(text):
    return None if text.strip() == "max" or int(text) >= UNLIMITED else int(text)


def _wanted(declared):
    """Return declared limits in the kernel's units."""
    memory = declared.get("memory")
    return {
        "memory": _bytes(memory) if memory else None,
        "tasks": declared.get("tasks"),
        "cpu": int(declared["cpu"][:-1]) / 100 if "cpu" in declared else None,
    }


def _bytes(size):
    """Return a declared size in bytes: such as ``512m``, or ``75%`` of the host's memory."""
    if size.endswith("%"):
        return _physical() * int(size[:-1]) // 100
    return int(size[:-1]) * SCALES[size[-1]]


def _physical():
    """Return the bytes of memory of the host, which may be a container with a limit of its own."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [_read(f"{_path('memory', '.')}/{name}") for name in ("memory.max", "memory.limit_in_bytes")]
    return min([total, *filter(None, [_number(text) for text in texts if text])])


def _is_same(actual, wanted):
    if actual is None or wanted is None:
        return actual is wanted
    return abs(actual - wanted) <= max(wanted * ROUNDED, 4096 if wanted > 1 << 20 else 0)


def shown(app):
    """Show what an app takes of its host now, and what it may.

    :param app: the app's name.
    :return: a mapping of ``memory``, ``tasks`` and ``cpu``, and the same of each of its ``processes``.

    CLI Example:

    .. code-block:: bash

        salt-call app_limits.shown tickets
    """
    found, processes = {}, {}
    for group, kind in _groups(app):
        if kind is None:
            found = _shown(group)
        else:
            # Of two releases in a switch, each has its own.
            index, _, number = os.path.basename(group).removesuffix(".scope").rpartition("-")[2].partition(".")
            processes[f"{number} {kind}.{index}"] = _shown(group)
    return found | {"processes": processes}


def _shown(group):
    limit, memory, tasks = limits(group), _path("memory", group), _path("pids", group)
    used = {
        "memory": _read(f"{memory}/memory.current") or _read(f"{memory}/memory.usage_in_bytes"),
        "tasks": _read(f"{tasks}/pids.current"),
    }
    found = {
        what: f"{_text(what, int(text))} of {_text(what, limit.get(what)) if limit.get(what) else 'no limit'}"
        for what, text in used.items()
        if text
    }
    return found | ({"cpu": f"at most {_text('cpu', limit['cpu'])}"} if limit.get("cpu") else {})


def _text(what, value):
    if value is None:
        return "no limit"
    if what == "memory":
        return f"{value / (1 << 20):.0f} MiB"
    return f"{value:g} processors" if what == "cpu" else str(value)


def _names(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(path):
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""
