"""The apps of a host: those that are declared, and no others."""

from salt.exceptions import CommandExecutionError

from saltern.apps import removal
from saltern.host import Host


def retired(name, apps):
    """Remove what an app that is no longer declared has: processes, ports, user, commands, config and releases.

    A release is no data: the pillar makes it again. The data of its services is kept, by the formula of each service.

    :param name: the directory of the apps, ``/srv/apps``.
    :param apps: the apps that are declared.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other app is there"}
    try:
        gone = removal.gone(apps)
        if not gone:
            return ret
        ret["changes"] = {app: {"old": "present", "new": None} for app in gone}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{', '.join(gone)} would be removed"}
        removal.remove(Host.of(__salt__, __pillar__, __opts__), gone)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    verb = "were" if len(gone) > 1 else "was"
    return ret | {"comment": f"{', '.join(gone)} {verb} removed; salt-call app.orphans lists the data that is kept"}
