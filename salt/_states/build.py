"""An app's build, on the host."""

from salt.exceptions import CommandExecutionError


def unpacked(name):
    """Have the declared build of an app on the host: fetched, checked against its sha256, unpacked, its venv made.

    :param name: the app.
    """
    ret = {"name": name, "changes": {}, "result": True}
    build = __pillar__["app"][name]["build"]["sha256"][:12]
    if __salt__["build.is_unpacked"](name):
        return ret | {"comment": f"Build {build} is there"}
    ret["changes"] = {"build": {"old": None, "new": build}}
    try:
        if __opts__["test"]:
            __salt__["build.foresee"](name)
            return ret | {"result": None, "comment": f"Build {build} would be unpacked"}
        __salt__["build.unpack"](name)
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    return ret | {"comment": f"Build {build} was unpacked"}
