"""The command that asks a new release for what its contracts promise."""

import logging

from saltern import host
from saltern.contracts import ask
from saltern.releases import plan

log = logging.getLogger(__name__)


def begun(name, apps):
    """Start the command early in a run, for the first app that will get a new release: its imports take a second.

    The command changes nothing. A release uses it, or it ends with the run.

    :param name: the command, in words.
    :param apps: the apps of this host.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "Nothing is to be asked"}
    if __opts__["test"]:
        return ret
    own = host.Host.of(__salt__, __pillar__, __opts__)
    for app in apps:
        try:
            if __pillar__["app"][app]["provides"] and plan.is_due(own, app):
                ask.begin(own, app, __context__, ahead=True)
                return ret | {"comment": f"{app} will be asked"}
        except Exception as error:
            # Whatever went wrong, the release reports it.
            log.debug("%s: not begun: %r", app, error)
    return ret
