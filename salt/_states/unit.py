"""Units that a Debian package enables and starts when it is installed.

Salt's own states would say, in a dry run before the package is there, that they would start what the package starts.
"""

import os


def enabled(name, package):
    """Have a unit start at boot.

    :param name: the unit.
    :param package: the package that brings it.
    """
    return _left_to_package(name, package) or __states__["service.enabled"](name)


def running(name, package, started_if=None, enable=True):
    """Have a unit run, now and after a boot.

    :param name: the unit.
    :param package: the package that brings it.
    :param started_if: a path; where it is not there, the package does not start the unit, an instance that is yet to
        be.
    :param enable: whether it is started at boot by itself, and not by another unit.
    """
    left = _left_to_package(name, package) if started_if is None or os.path.exists(started_if) else None
    return left or __states__["service.running"](name, enable=enable or None)


def _left_to_package(name, package):
    """Return what a dry run has to say while the package is not there, or ``None``."""
    if not __opts__["test"] or __salt__["pkg.version"](package):
        return None
    return {"name": name, "changes": {}, "result": True, "comment": f"The package {package} starts {name}"}
