"""nginx's configuration, as one tree that nginx has accepted."""

import re

import watching
from salt.exceptions import CommandExecutionError

from saltern.fleet import drain as draining
from saltern.host import Host
from saltern.tls import site
from saltern.web import in_flight, maintenance, tree, workers

RELOADED = {"nginx": {"old": "older than its configuration", "new": "reloaded"}}


@watching.failure_counts
def current(name, template, apps):
    """Bring nginx's configuration to what is declared, as far as nginx accepts it.

    The candidate tree is checked by ``nginx -t`` before any of it replaces the live one. Where it is refused, each
    changed site is tried alone: the sites that pass go live, the others stay as they were and fail the state by name.
    It ``watch``es the states that write the certificates.
    Where an app host is drained, the state waits until that host has answered its requests, at most as long as the
    apps' ``in_flight`` allows.

    :param name: nginx's directory, ``/etc/nginx``.
    :param template: what renders to its files; see ``formulas/nginx/files/tree.jinja``.
    :param apps: the apps that have a site.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The configuration is live"}
    host = Host.of(__salt__, __pillar__, __opts__)
    try:
        wanted = tree.rendered(host.ask, __pillar__["nginx"], template, apps, __opts__["cachedir"])
        wanted |= site.snippets(__pillar__) | maintenance.snippets(__pillar__)
        changes = tree.changes(name, wanted)
        certificates = [site.path(app) for app in sorted(__pillar__["nginx"]["sites"])]
        is_stale = not changes and workers.is_stale(name, [*wanted, *certificates])
        left = maintenance.left(__pillar__["app"])
        if not changes and not is_stale and not left:
            return ret
        ret["changes"] = {path: change["diff"] for path, change in changes.items()}
        ret["changes"] |= {maintenance.path(app): {"old": "there", "new": None} for app in left}
        if is_stale:
            ret["changes"] |= RELOADED
        if __opts__["test"]:
            return ret | {"result": None, "comment": "The configuration would change"}
        refused = tree.promote(name, {path: change["text"] for path, change in changes.items()})
        maintenance.forget(left)
        # nginx must read other sites' certificates, even where it refuses everything that changed.
        is_stale = is_stale or (refused and workers.is_stale(name, certificates))
        if is_stale:
            workers.reload()
            ret["changes"] |= RELOADED
        live = {path: change["diff"] for path, change in changes.items() if path not in refused}
        told = _drained({address for diff in live.values() for address in drained_in(diff)})
    except CommandExecutionError as error:
        return ret | {"changes": {}, "result": False, "comment": str(error)}
    ret["changes"] = {path: diff for path, diff in ret["changes"].items() if path not in refused}
    if refused:
        ret["result"] = False
        ret["comment"] = "\n".join(f"{path} stays as it was: {reason}" for path, reason in sorted(refused.items()))
        return ret
    return ret | {"comment": "\n".join(["The configuration was changed", *told])}


def _drained(addresses):
    """Wait for the requests on app hosts that were drained, and return those that did not end in their time."""
    if not addresses:
        return []
    limits = draining.limits(__pillar__["app"])
    left = in_flight.drain(workers.old, addresses, None, limits["requests"], limits["streams"], "drained hosts")
    return in_flight.left_there(left, limits)


def mod_watch(name, **_):
    """Reload a running nginx whose certificates were written. In a dry run, tell that nginx would be reloaded."""
    ret = {"name": name, "changes": {}, "result": True, "comment": "The configuration is live"}
    if not workers.runs():
        return ret
    if __opts__["test"]:
        return ret | {"changes": RELOADED, "result": None, "comment": "nginx would be reloaded"}
    try:
        # nginx would not report here what it refuses, and would go on with what it has.
        tree.promote(name, {})
        workers.reload()
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": RELOADED, "comment": "nginx was reloaded"}


def drained_in(diff):
    """Return the addresses of the app hosts that a change drains.

    :param diff: of a file.
    """
    return re.findall(r"^\+(?:# )?server (\S+) .*; # \S+ is drained", diff, re.MULTILINE)
