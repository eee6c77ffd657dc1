"""What the apps of a host may take of it, as systemd enforces it."""

import contextlib
import os

from salt.exceptions import CommandExecutionError

from saltern.system import files


def enforced(name):
    """Limit by systemd what an app takes. A change applies at once to running processes.

    The state compares what the kernel enforces. So it also completes a run that ended before systemd read the files.

    :param name: the app.
    """
    limits = __pillar__["app"][name]["limits"]
    wanted = __salt__["app_limits.units"](name, limits)
    ret = {"name": name, "changes": _unlike(wanted), "result": True, "comment": f"{name} has its limits"}
    if not ret["changes"]:
        found = __salt__["app_limits.differences"](name, limits)
        ret["changes"] = {unit: {"old": what, "new": "as declared"} for unit, what in found.items()}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would have other limits"}
    try:
        _write(wanted)
        __salt__["service_config.read"]()
        _enforce(name, limits)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    if found := __salt__["app_limits.differences"](name, limits):
        what = "; ".join(f"{unit}: {wrong}" for unit, wrong in sorted(found.items()))
        comment = f"The kernel has not taken what app.{name}.limits says; is more in use now than may be? {what}"
        return ret | {"result": False, "comment": comment}
    return ret | {"comment": f"{name} has other limits"}


def _enforce(name, limits):
    """Enforce in the kernel what systemd has read."""
    units = __salt__["app_limits.differences"](name, limits)
    for unit in units:
        # A process that has ended meanwhile needs no limits.
        with contextlib.suppress(CommandExecutionError, KeyError):
            __salt__["service_config.enforce"](unit, __salt__["app_limits.properties"](unit, name, limits))
    if units:
        __salt__["service_config.read"]()


def retired(name, apps):
    """Remove the limits of apps that are no longer declared, and write those that all apps share.

    :param name: what is retired, in words.
    :param apps: the apps that are declared.
    """
    version = int(__grains__.get("systemd", {}).get("version", 0))
    own = __salt__["app_limits.common"](version)
    wanted = set(own)
    for app in apps:
        wanted |= __salt__["app_limits.units"](app, __pillar__["app"][app]["limits"]).keys()
    stale = __salt__["app_limits.stale"](wanted)
    changes = _unlike(own) | {path: {"old": "left behind", "new": None} for path in stale}
    ret = {"name": name, "changes": changes, "result": True, "comment": "No other limits are there"}
    if not changes:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": "Other limits would be removed"}
    try:
        _write(own)
        for path in stale:
            # Nothing of the removed app runs any more, but systemd keeps its empty slice.
            if path.endswith(".slice"):
                __salt__["service_config.stop"](os.path.basename(path))
            os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
        __salt__["service_config.read"]()
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": "Other limits were removed"}


def _unlike(wanted):
    """Return changes for the files that differ from what is declared."""
    unlike = [path for path, text in wanted.items() if files.read(path) != text]
    return {path: {"old": "as it was" if os.path.exists(path) else None, "new": "as declared"} for path in unlike}


def _write(wanted):
    """Write those of systemd's files that differ from what is declared."""
    for path in _unlike(wanted):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, wanted[path])
