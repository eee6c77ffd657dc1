"""What an operator must know of a host at each converge, though nothing of it is to be changed or has failed."""

import contextlib
import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.fleet import drain
from saltern.host import Host
from saltern.jobs import report
from saltern.system import terminal
from saltern.web import maintenance

Row = Mapping[str, Any]


def of_app(host: Host, app: str) -> list[str]:
    """Tell that an app is held, so that what the pillar declares need not serve.

    :param host: the host.
    :param app: the app's name.
    :return: a list of sentences, empty where it is not held.
    """
    # On other hosts than those of apps nothing else needs it.
    from saltern.releases import plan

    held = plan.held(host, app)
    return [held_note(app, held)] if held else []


def held_note(app: str, held: Mapping[str, Any]) -> str:
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


def of_host(host: Host, for_a_while: bool = True) -> list[str]:
    """List all that an operator must know of a host: apps that are held or in maintenance, a host that is drained, a
    certificate that ends soon.

    :param host: the host.
    :param for_a_while: whether that the host was drained by ``drain.begin`` is one: an orchestration knows it.
    :return: a list of sentences.
    """
    hosts = host.pillar["hosts"]
    found = []
    for app in sorted(host.pillar["app"]) if "app" in host.roles else []:
        # Of an app whose config cannot be made its own states say why.
        with contextlib.suppress(CommandExecutionError):
            found += of_app(host, app)
        found += report.notes(host, app)
    found += drained(hosts, host.id, drain.since() if for_a_while else 0)
    found += maintenance.notes(host.pillar["app"]) if "proxy" in host.roles else []
    found += ending(host.ask("certificate.expiring"), hosts[host.id]["environment"])
    return list(terminal.shown(found))


def drained(hosts: Mapping[str, Row], own: str, since: float) -> list[str]:
    """Tell which hosts take no requests.

    :param hosts: the inventory, rows by host id.
    :param own: the host's id.
    :param since: when it was drained by ``drain.begin``, in seconds since 1970; 0 where it was not.
    """
    row = hosts[own]
    found: list[str] = []
    if row.get("drain"):
        found.append(f"{own} is drained (drain: true in pillar/hosts.yaml): the proxies send it no requests")
    if since:
        at = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat(timespec="seconds")
        found.append(f"{own} takes no requests since {at}: an orchestration has it so, or drain.end ends it")
    if "proxy" in row["roles"]:
        away = [name for name, other in sorted(hosts.items()) if name != own and is_away(other, row["environment"])]
        found += [f"{name} is drained (drain: true in pillar/hosts.yaml): {own} sends it no requests" for name in away]
    return found


def is_away(row: Row, environment: str) -> bool:
    """Tell whether a row of the inventory is an app host's of an environment, and drained."""
    return row["environment"] == environment and "app" in row["roles"] and bool(row.get("drain"))


def ending(expiring: Mapping[str, str], environment: str) -> list[str]:
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


def tell(options: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Have notes be told, whatever is shown of the run that they are of.

    The outputter ``highstate`` shows the ``warnings`` of a state, which are Salt's own way to say something. Where
    another one shows the run, as by ``--out json``, standard error has a line for each.

    :param options: Salt's; ``__opts__``.
    :param notes: a list of sentences.
    :return: what the state is to return of them.
    """
    if not is_shown(options):
        for note in notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
    return {"comment": "\n".join(notes) or "Nothing"} | ({"warnings": list(notes)} if notes else {})


def is_shown(options: Mapping[str, Any]) -> bool:
    """Tell whether the run's report will show its warnings.

    :param options: Salt's.
    """
    ours = [*options.get("outputter_dirs", []), os.path.join(options.get("extension_modules", ""), "output")]
    is_ours = any(os.path.exists(os.path.join(directory, "highstate.py")) for directory in ours)
    return is_ours and options.get("output") in (None, "", "highstate")
