"""What an operator must know of a host at each converge, though nothing of it is to be changed or has failed."""

import contextlib
import datetime
import os
import sys

from salt.exceptions import CommandExecutionError

from saltern.fleet import drain
from saltern.host import Host
from saltern.jobs import report
from saltern.settings import load
from saltern.system import terminal
from saltern.web import maintenance

__load__ = ["of_app", "of_host", "tell"]


def of_app(app):
    """Tell that an app is held, so that what the pillar declares need not serve.

    :param app: the app's name.
    :return: a list of sentences, empty where it is not held.

    CLI Example:

    .. code-block:: bash

        salt-call notes.of_app tickets
    """
    # On other hosts than those of apps nothing else needs it.
    from saltern.releases import plan

    held = plan.held(Host.of(__salt__, __pillar__, __opts__), app)
    return [held_note(app, held)] if held else []


def held_note(app, held):
    """Say why an app is held and how it goes on.

    :param app: the app's name.
    :param held: as ``saltern.releases.plan.held`` gives it.
    """
    by, number = f"by {held['who']} at {held['time']}", f"v{held['release']}"
    if held["until"] == "another":
        return (
            f"{app} is held at {number}, and what the pillar declares does not serve: v{held['from']} was rolled back "
            f"{by}; declare another build or config, or release.unhold {app}"
        )
    serves = "what the pillar declares serves" if held["declared"] else "what the pillar declares does not serve"
    return f"{app} is held at {number}, and {serves}: it is held {by}, until release.unhold {app}"


def of_host(for_a_while=True):
    """List all that an operator must know of this host: apps that are held or in maintenance, a host that is drained, a
    certificate that ends soon.

    :param for_a_while: whether that the host was drained by ``drain.begin`` is one: an orchestration knows it.
    :return: a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt-call notes.of_host
    """
    load.check(__pillar__)
    hosts, own = __pillar__["hosts"], __opts__["id"]
    apps = sorted(__pillar__["app"]) if "app" in hosts[own]["roles"] else []
    found = []
    for app in apps:
        # Of an app whose config cannot be made its own states say why.
        with contextlib.suppress(CommandExecutionError):
            found += of_app(app)
        found += report.notes(Host.of(__salt__, __pillar__, __opts__), app)
    found += drained(hosts, own, drain.since() if for_a_while else 0)
    found += maintenance.notes(__pillar__["app"]) if "proxy" in hosts[own]["roles"] else []
    found += ending(__salt__["certificate.expiring"](), hosts[own]["environment"])
    return terminal.shown(found)


def drained(hosts, own, since):
    """Tell which hosts take no requests.

    :param hosts: the inventory, rows by host id.
    :param own: the host's id.
    :param since: when it was drained by ``drain.begin``, in seconds since 1970; 0 where it was not.
    """
    row, found = hosts[own], []
    if row.get("drain"):
        found.append(f"{own} is drained (drain: true in pillar/hosts.yaml): the proxies send it no requests")
    if since:
        at = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat(timespec="seconds")
        found.append(f"{own} takes no requests since {at}: an orchestration has it so, or drain.end ends it")
    if "proxy" in row["roles"]:
        away = [name for name, other in sorted(hosts.items()) if name != own and is_away(other, row["environment"])]
        found += [f"{name} is drained (drain: true in pillar/hosts.yaml): {own} sends it no requests" for name in away]
    return found


def is_away(row, environment):
    """Tell whether a row of the inventory is an app host's of an environment, and drained."""
    return row["environment"] == environment and "app" in row["roles"] and bool(row.get("drain"))


def ending(expiring, environment):
    """Tell which certificates end soon.

    :param expiring: a mapping of path to the day; see ``certificate.expiring``.
    :param environment: the host's.
    """
    return [
        f"{path} was not renewed in time and ends on {day}: "
        + (
            "salt-call state.apply says why"
            if "/sites/" in path
            else f"make certificates ENV={environment}, and converge its hosts"
        )
        for path, day in sorted(expiring.items())
    ]


def tell(notes):
    """Have notes be told, whatever is shown of the run that they are of.

    The outputter ``highstate`` shows the ``warnings`` of a state, which are Salt's own way to say something. Where
    another one shows the run, as by ``--out json``, standard error has a line for each.

    :param notes: a list of sentences.
    :return: what the state is to return of them.

    CLI Example: none, it serves states.
    """
    if not is_shown(__opts__):
        for note in notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
    return {"comment": "\n".join(notes) or "Nothing"} | ({"warnings": notes} if notes else {})


def is_shown(opts):
    """Tell whether the run's report will show its warnings.

    :param opts: Salt's options.
    """
    ours = [*opts.get("outputter_dirs", []), os.path.join(opts.get("extension_modules", ""), "output")]
    is_ours = any(os.path.exists(os.path.join(directory, "highstate.py")) for directory in ours)
    return is_ours and opts.get("output") in (None, "", "highstate")
