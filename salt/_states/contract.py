"""What asks new releases for what their contracts say."""

from salt.exceptions import CommandExecutionError


def begun(name, apps):
    """Start the command for the first app that will have a new release, early in a run: its imports take a second.

    It changes nothing: the release asks it, or it ends with the run.

    :param name: the command, in words.
    :param apps: the apps of this host.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "Nothing is to be asked"}
    if __opts__["test"]:
        return ret
    for app in apps:
        try:
            is_due = __pillar__["app"][app]["provides"] and __salt__["release.is_due"](app)
        except (CommandExecutionError, OSError):
            # Whatever it is, the release has to say it.
            continue
        if is_due:
            __salt__["contract.begin"](app, ahead=True)
            return ret | {"comment": f"{app} will be asked"}
    return ret
