"""Units that a Debian package enables and starts when it is installed.

Salt's own states would say, in a dry run before the package is there, that they would start what the package starts.
"""


def enabled(name, package):
    """Have a unit start at boot.

    :param name: the unit.
    :param package: the package that brings it.
    """
    return _said_by_package(name, package) or __states__["service.enabled"](name)


def running(name, package):
    """Have a unit run, now and after a boot.

    :param name: the unit.
    :param package: the package that brings it.
    """
    return _said_by_package(name, package) or __states__["service.running"](name, enable=True)


def _said_by_package(name, package):
    """Return what a dry run has to say while the package is not there, or ``None``."""
    if not __opts__["test"] or __salt__["pkg.version"](package):
        return None
    return {"name": name, "changes": {}, "result": True, "comment": f"The package {package} starts {name}"}
