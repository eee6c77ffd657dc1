"""A service that runs with the configuration that is on the disk."""

import os
import time

from salt.exceptions import CommandExecutionError


def loaded(name, files):
    """Restart a running service that is older than its configuration.

    ``watch`` restarts it in the run that writes a file. Where that run is interrupted in between, the next one finds
    the file as it should be, and the service would keep its old configuration for good.

    :param name: the unit, such as ``redis-server@tickets``.
    :param files: what it reads at its start.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has its configuration"}
    started = __salt__["service_config.started"](name)
    if started is None:
        return ret
    changes = {}
    if not __salt__["service_config.is_read"](name):
        changes["systemd"] = {"old": "older than the unit's files", "new": "reloaded"}
    if newer(files, started, time.time()):
        changes[name] = {"old": "older than its configuration", "new": "restarted"}
    if not changes:
        return ret
    if __opts__["test"]:
        return ret | {"changes": changes, "result": None, "comment": f"{name} would be given its configuration"}
    try:
        if "systemd" in changes:
            __salt__["service_config.read"]()
        if name in changes:
            __salt__["service_config.restart"](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"{name} was given its configuration"}


def newer(files, started, now):
    """Tell whether a file changed after a service started.

    :param files: paths.
    :param started: when, in seconds since 1970.
    :param now: the time. A file from the future says nothing.
    """
    times = [os.stat(path).st_mtime for path in files if os.path.exists(path)]
    return any(started < changed <= now for changed in times)
