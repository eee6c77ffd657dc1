"""The second nginx, which speaks HTTP/3; see ``saltern.web.http3``."""

import pathlib

from salt.exceptions import CommandExecutionError

from saltern.system import files, systemd
from saltern.tls import site
from saltern.web import http3, tree, workers

UNITS = "/etc/systemd/system"


def current(name, source):
    """Have HTTP/3 served where it is declared, with the live configuration and certificates. Elsewhere remove it.

    :param name: the service's unit.
    :param source: the unit's file; a ``salt://`` address.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is as declared"}
    nginx, path = __pillar__["nginx"], f"{UNITS}/{name}.service"
    is_wanted = http3.is_served(nginx)
    cached = __salt__["cp.cache_file"](source) if is_wanted else ""
    unit, there = pathlib.Path(cached).read_text(encoding="utf-8") if cached else None, files.read(path)
    is_switched = (not is_wanted and there is None) or systemd.is_switched(name, is_wanted)
    if unit != there:
        ret["changes"][path] = {"old": None if there is None else "there", "new": unit and "written"}
    if not is_switched:
        ret["changes"][name] = {"old": "off" if is_wanted else "running", "new": "running" if is_wanted else "off"}
    elif is_wanted and _is_stale(nginx):
        ret["changes"][name] = {"old": "older than its configuration", "new": "reloaded"}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would change"}
    try:
        _change(name, path, unit, there, is_switched, name in ret["changes"])
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{name} was changed"}


def _is_stale(nginx):
    """Tell whether the workers are older than what they read, or, in a dry run, than what they would read."""
    paths = [http3.CONFIG, *(site.path(app) for app in sorted(nginx["sites"]))]
    if workers.is_stale(tree.ROOT, paths, pid_file=http3.PID_FILE):
        return True
    told = [one["changes"] for one in __running__.values() if one.get("name") in paths] if __opts__["test"] else []
    trees = [one["changes"] for one in __running__.values() if one.get("name") == tree.ROOT]
    return any(told) or (__opts__["test"] and any(http3.CONFIG in changes for changes in trees))


def _change(name, path, unit, there, is_switched, is_told):
    if unit is None:
        if not is_switched:
            systemd.switch(name, False)
        pathlib.Path(path).unlink()
        systemd.read()
        return
    if unit != there:
        files.write(path, unit)
        systemd.read()
    if not is_switched:
        systemd.switch(name, True)
    elif is_told:
        workers.reload(http3.PID_FILE)
