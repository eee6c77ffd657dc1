"""Units that run, and start at boot, as Salt's own states of services have them.

Those would say, in a dry run before a package is there, that they would start what the package starts. And they ask
systemd eight times for what it tells at once.
"""

import os

from saltern.system import systemd


def enabled(name, package):
    """Enable a unit at boot.

    :param name: the unit.
    :param package: the package that brings it.
    """
    return _left_to_package(name, package) or _right(name, enable=True) or __states__["service.enabled"](name)


def running(name, package=None, started_if=None, enable=True):
    """Run a unit, now and after each boot.

    :param name: the unit.
    :param package: the package that brings it and starts it, or ``None`` where none starts it.
    :param started_if: a path; where it is not there, the package does not start the unit, an instance that is yet to
        be.
    :param enable: whether it is started at boot by itself, and not by another unit.
    """
    left = _left_to_package(name, package) if started_if is None or os.path.exists(started_if) else None
    right = left or _right(name, active=True, enable=enable)
    return right or __states__["service.running"](name, enable=enable or None)


def _right(name, active=False, enable=False):
    """Return the result for a unit that is as it should be; ``None`` where the unit is not."""
    among = systemd.among(__context__, __opts__["test"], __instance_id__, __lowstate__, __running__)
    shown = systemd.shown(name, "ActiveState", "UnitFileState", among=among)
    wanted = {"ActiveState": "active"} if active else {}
    wanted |= {"UnitFileState": "enabled"} if enable else {}
    if any(shown.get(key) != value for key, value in wanted.items()):
        return None
    return {"name": name, "changes": {}, "result": True, "comment": f"{name} is {' and '.join(wanted.values())}"}


def _left_to_package(name, package):
    """Return the result of a dry run while the package is not installed; ``None`` where the package is."""
    if not __opts__["test"] or not package or __salt__["pkg.version"](package):
        return None
    return {"name": name, "changes": {}, "result": True, "comment": f"The package {package} starts {name}"}
