"""What the apps of a host may take of it, as systemd enforces it."""

from salt.exceptions import CommandExecutionError

from saltern.apps import limits


def enforced(name):
    """Limit by systemd what an app takes. A change applies at once to running processes.

    The state compares what the kernel enforces. So it also completes a run that ended before systemd read the files.

    :param name: the app.
    """
    declared = __pillar__["app"][name]["limits"]
    wanted = limits.units(name, declared)
    ret = {"name": name, "changes": limits.unlike(wanted), "result": True, "comment": f"{name} has its limits"}
    if not ret["changes"]:
        found = limits.differences(name, declared)
        ret["changes"] = {unit: {"old": what, "new": "as declared"} for unit, what in found.items()}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would have other limits"}
    try:
        limits.write(wanted)
        limits.enforce(name, declared)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    if found := limits.differences(name, declared):
        what = "; ".join(f"{unit}: {wrong}" for unit, wrong in sorted(found.items()))
        comment = f"The kernel has not taken what app.{name}.limits says; is more in use now than may be? {what}"
        return ret | {"result": False, "comment": comment}
    return ret | {"comment": f"{name} has other limits"}


def retired(name, apps):
    """Remove the limits of apps that are no longer declared, and write those that all apps share.

    :param name: what is retired, in words.
    :param apps: the apps that are declared.
    """
    version = int(__grains__.get("systemd", {}).get("version", 0))
    own = limits.common(version)
    wanted = set(own)
    for app in apps:
        wanted |= limits.units(app, __pillar__["app"][app]["limits"]).keys()
    stale = limits.stale(wanted)
    changes = limits.unlike(own) | {path: {"old": "left behind", "new": None} for path in stale}
    ret = {"name": name, "changes": changes, "result": True, "comment": "No other limits are there"}
    if not changes:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": "Other limits would be removed"}
    try:
        limits.write(own)
        limits.remove(stale)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": "Other limits were removed"}
