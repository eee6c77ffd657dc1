"""An app's release, serving."""

from salt.exceptions import CommandExecutionError


def current(name):
    """Have the declared build and config of an app serving, with the declared formation.

    A new release is made exactly when build or config differ from the current release's.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True}
    try:
        plan = __salt__["release.plan"](name)
        if not plan["changes"]:
            return ret | {"comment": f"v{plan['number']} serves"}
        ret["changes"] = plan["changes"]
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"v{plan['number']} would serve"}
        __salt__["release.deploy"](name)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"v{plan['number']} serves"}


def retired(name, apps):
    """Have no process of an app that is no longer declared. Its releases and its data stay.

    :param name: the directory of the apps.
    :param apps: the apps that are declared.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "No other app runs"}
    try:
        gone = {}
        for app, number in __salt__["process.releases"]():
            if app not in apps:
                gone.setdefault(app, []).append(number)
        if not gone:
            return ret
        ret["changes"] = {app: {"old": f"v{max(numbers)}", "new": None} for app, numbers in gone.items()}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{', '.join(gone)} would be stopped"}
        for app, numbers in gone.items():
            __salt__["process.remove"](app, numbers)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"{', '.join(gone)} no longer runs; what it kept is in {name}"}
