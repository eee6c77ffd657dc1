"""What asks new releases for what their contracts say."""

import logging

log = logging.getLogger(__name__)


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
            if __pillar__["app"][app]["provides"] and __salt__["release.is_due"](app):
                __salt__["contract.begin"](app, ahead=True)
                return ret | {"comment": f"{app} will be asked"}
        except Exception as error:
            # Whatever went wrong, the release reports it.
            log.debug("%s: not begun: %r", app, error)
    return ret
