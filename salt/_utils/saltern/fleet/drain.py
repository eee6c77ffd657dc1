"""Draining an app host for a while: the host tells that it takes no requests, and the proxies use the other hosts.

For longer than a run or a reboot, write ``drain: true`` into the inventory.
"""

import glob
import json
import os
import pathlib
import time
from collections.abc import Collection, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.fleet.minions import Asks
from saltern.host import Host
from saltern.releases import store
from saltern.system import files
from saltern.web import in_flight, peers, tree, workers

# While this file is there, nginx tells that the host takes no requests; see formulas/nginx/files/site.conf.jinja. The
# file names the releases that served before the drain. It is gone after a boot.
MARK = "/run/saltern-drained"
PEERS = f"{tree.ROOT}/peers"
# Seconds between two looks at what a proxy does.
POLL = 0.2

# The text of each app's file of peers.
Sites = Mapping[str, str]


# --- On an app host ---------------------------------------------------------------------------------------------------


def begin(host: Host) -> str:
    """Drain a host: its apps get no requests. Their workers go on.

    A process that is alone in its environment ends, and another host runs it.

    :param host: the host.
    :return: what was done, in words.
    :raises CommandExecutionError: when it is no app host.
    """
    if "app" not in host.roles:
        raise CommandExecutionError(f"{host.id}: does not have the role app; expected an app host")
    if is_drained():
        return "takes no requests already"
    files.write(MARK, json.dumps(_serving(host)))
    return "takes no requests"


def end() -> str:
    """Let this host take requests again.

    :return: what was done, in words.
    """
    try:
        os.unlink(MARK)
    except FileNotFoundError:
        return "takes requests already"
    return "takes requests again"


def undo(host: Host) -> str:
    """End the drain where the same releases serve as before it.

    :param host: the host.
    :return: what was done, in words.
    """
    try:
        with open(MARK, encoding="utf-8") as stream:
            before = json.load(stream)
    except FileNotFoundError:
        return "takes requests"
    # The master may have given up on a run that goes on here.
    if host.ask("saltutil.is_running", "state.*") or host.ask("saltutil.is_running", "release.*"):
        return "takes no requests, and its run is still under way; drain.end has it take them then"
    if _serving(host) == before:
        end()
        return "takes requests again, with the releases from before"
    return "takes no requests; drain.end has it take them as it is"


def _serving(host: Host) -> dict[str, Any]:
    """Return which release serves, by app, and when it was made: an earlier one may have had the same number."""
    current = {app: store.current(app) for app in sorted(host.pillar["app"])}
    # A list, as JSON reads it again.
    return {app: [number, store.created(app, number or 0)] for app, number in current.items()}


def is_drained() -> bool:
    """Tell whether this host was drained with ``begin``."""
    return os.path.exists(MARK)


def since() -> float:
    """Tell when this host was drained with ``begin``.

    :return: seconds since 1970, 0 where it was not.
    """
    try:
        return os.stat(MARK).st_mtime
    except FileNotFoundError:
        return 0


# --- On a proxy -------------------------------------------------------------------------------------------------------


def wait(host: Host, names: str | Collection[str], out: bool = True, timeout: float = 60) -> str:
    """Wait until a proxy sends some app hosts no requests and has all their answers; or until it uses them again.

    :param host: the proxy.
    :param names: the app hosts' ids, or one of them as text.
    :param out: whether they are to get no requests. False to wait until they get some.
    :param timeout: seconds until the proxy must have turned.
    :return: the seconds until it turned, and what was still under way when the time of the apps' ``in_flight`` was
        over.
    :raises CommandExecutionError: when the host is no proxy, has no such app hosts, or has not turned in time, with the
        reason.
    """
    names = [names] if isinstance(names, str) else names
    _refuse_unknown(host, names)
    started = time.monotonic()
    while True:
        sites = _sites()
        others = contrary(sites, names, out)
        if not others and not _unread(sites):
            break
        if time.monotonic() > started + timeout:
            word = "still sends requests to" if out else "sends no requests to"
            listed = "; ".join(f"{app}: {', '.join(of_app)}" for app, of_app in sorted(others.items()))
            listed = listed or f"nginx has not read {PEERS}"
            raise CommandExecutionError(
                f"{host.id} {word} some hosts after {timeout} s ({listed}): journalctl -u saltern-peers says "
                "why. The last host that takes requests is never taken out; where an app answers on no host, have the "
                "orchestration move hosts as they serve: drain: False in its pillar"
            )
        time.sleep(POLL)
    said = f"{time.monotonic() - started:.1f} s"
    if not out:
        return said
    bounds, addresses = limits(host.pillar["app"]), addresses_of(sites, names)
    left = in_flight.drain(workers.old, addresses, None, bounds["requests"], bounds["streams"], ", ".join(names))
    return "; ".join([said, *in_flight.left_there(left, bounds)])


def _refuse_unknown(host: Host, names: Collection[str]) -> None:
    """Refuse a host that is no proxy, and app hosts that its sites are not balanced over.

    :param host: the host.
    :param names: the app hosts' ids.
    :raises CommandExecutionError: in one line.
    """
    if "proxy" not in host.roles:
        raise CommandExecutionError(f"{host.id}: does not have the role proxy; expected a proxy")
    nginx = host.pillar["nginx"]
    known = {server["id"] for site in nginx["peers"].values() for server in site["servers"]}
    # The only app host is its own proxy: its sites are not balanced.
    known |= {host.id} if nginx["alone"] else set()
    # A proxy without sites sends nobody any requests.
    if known and (unknown := sorted(set(names) - known)):
        raise CommandExecutionError(
            f"{', '.join(unknown)}: no app host of this proxy has this name; expected one of {', '.join(sorted(known))}"
        )


def limits(apps: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the longest ``in_flight`` times of some apps.

    :param apps: settings by app.
    :return: seconds for ``requests`` and for ``streams``.
    """
    return {kind: max((one["in_flight"][kind] for one in apps.values()), default=0) for kind in ("requests", "streams")}


def addresses_of(sites: Sites, names: Collection[str]) -> list[str]:
    """Return the addresses at which a proxy reaches hosts.

    :param sites: the text of each app's file of peers.
    :param names: the hosts' ids.
    """
    found = [pair for text in sites.values() for pair in peers.at(text)]
    return [address for address, name in found if name in names]


def contrary(sites: Sites, names: Collection[str], out: bool) -> dict[str, list[str]]:
    """Find the hosts that get requests and should not, or should and get none.

    :param sites: the text of each app's file of peers.
    :param names: the hosts' ids.
    :param out: whether they are to get no requests.
    :return: ids by app.
    """
    found = {}
    for app, text in sites.items():
        serving, away = peers.serving(text), peers.out(text)
        # A host that the inventory drains is out in any case.
        there = set(names) & (serving | away) - peers.drained(text)
        wrong = there & serving if out else there - serving
        if wrong:
            found[app] = sorted(wrong)
    return found


def _unread(sites: Sites) -> bool:
    """Tell whether nginx has yet to read what saltern-peers has written."""
    return workers.is_stale(tree.ROOT, [f"peers/{app}.conf" for app in sites], settle=0)


def _sites() -> dict[str, str]:
    """Read the files of peers, without the temporary one that saltern-peers may be writing."""
    paths = glob.glob(f"{PEERS}/*.conf")
    return {pathlib.Path(path).stem: pathlib.Path(path).read_text(encoding="utf-8") for path in paths}


# --- On a master ------------------------------------------------------------------------------------------------------


def left_out(asks: Asks, names: Collection[str]) -> set[str]:
    """Return the app hosts that ``begin`` has drained. A host that does not answer is told later, with a reason.

    :param asks: asks minions.
    :param names: the app hosts' ids.
    :raises CommandExecutionError: when no master runs here.
    """
    answers = asks(names, "drain.is_drained")
    return {name for name in names if answers.get(name) is True}


def undone(asks: Asks, names: Collection[str]) -> list[str]:
    """Put hosts back that are as they were before the drain.

    :param asks: asks minions.
    :param names: the app hosts' ids.
    :return: a line for each host.
    :raises CommandExecutionError: when no master runs here.
    """
    answers = asks(names, "drain.undo")
    return [f"{name}: {answers.get(name, 'does not answer')}" for name in names]
