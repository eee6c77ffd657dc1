"""The apps of a host: those that are declared, and no others."""

from salt.exceptions import CommandExecutionError


def retired(name, apps):
    """Have nothing of an app that is no longer declared: no process, no port, no user, no command, no config.

    Its releases go too: they are no data, and are made anew from the pillar. Databases and Redis instances are kept, by
    the formulas that they are of.

    :param name: the directory of the apps, ``/srv/apps``.
    :param apps: the apps that are declared.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other app is there"}
    try:
        gone = __salt__["app.gone"](apps)
        if not gone:
            return ret
        ret["changes"] = {app: {"old": "present", "new": None} for app in gone}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{', '.join(gone)} would be removed"}
        __salt__["app.remove"](gone)
    except (CommandExecutionError, OSError) as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    verb = "were" if len(gone) > 1 else "was"
    return ret | {"comment": f"{', '.join(gone)} {verb} removed; salt-call app.orphans lists the data that is kept"}
