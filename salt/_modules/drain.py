"""Draining an app host for a while: the host tells that it takes no requests, and the proxies use the other hosts.

For longer than a run or a reboot, write ``drain: true`` into the inventory.
"""

import glob
import json
import os
import pathlib
import time

from salt.exceptions import CommandExecutionError

from saltern.releases import store
from saltern.system import files
from saltern.web import in_flight, peers, tree, workers

__load__ = ["begin", "end", "is_drained", "limits", "since", "undo", "wait"]

# nginx looks for this file; see formulas/nginx/files/site.conf.jinja. It names the releases that served when the host
# was drained, and is gone after a boot.
MARK = "/run/saltern-drained"
PEERS = f"{tree.ROOT}/peers"
POLL = 0.2


def begin():
    """Drain this host: its apps get no requests. Their workers go on.

    :return: what was done, in words.
    :raises CommandExecutionError: when it is no app host.

    CLI Example:

    .. code-block:: bash

        salt-call drain.begin
    """
    if "app" not in __pillar__["hosts"][__opts__["id"]]["roles"]:
        raise CommandExecutionError(f"{__opts__['id']}: has not the role app; expected an app host")
    if is_drained():
        return "takes no requests already"
    files.write(MARK, json.dumps(_serving()))
    return "takes no requests"


def end():
    """Say that this host takes requests again.

    :return: what was done, in words.

    CLI Example:

    .. code-block:: bash

        salt-call drain.end
    """
    try:
        os.unlink(MARK)
    except FileNotFoundError:
        return "takes requests already"
    return "takes requests again"


def undo():
    """End the drain where the same releases serve as before it.

    :return: what was done, in words.

    CLI Example:

    .. code-block:: bash

        salt-call drain.undo
    """
    try:
        with open(MARK, encoding="utf-8") as stream:
            before = json.load(stream)
    except FileNotFoundError:
        return "takes requests"
    # A request without an answer in time may still be under way.
    if __salt__["saltutil.is_running"]("state.*") or __salt__["saltutil.is_running"]("release.*"):
        return "takes no requests, and its run is still under way; drain.end has it take them then"
    if _serving() == before:
        end()
        return "takes requests again, with the releases from before"
    return "takes no requests; drain.end has it take them as it is"


def _serving():
    """Return which release serves, by app, and when it was made: an earlier one may have had the same number."""
    current = {app: store.current(app) for app in sorted(__pillar__["app"])}
    return {app: [number, store.created(app, number)] for app, number in current.items()}


def is_drained():
    """Tell whether this host was drained with ``drain.begin``.

    CLI Example:

    .. code-block:: bash

        salt-call drain.is_drained
    """
    return os.path.exists(MARK)


def since():
    """Tell when this host was drained with ``drain.begin``.

    :return: seconds since 1970, 0 where it is not.

    CLI Example:

    .. code-block:: bash

        salt-call drain.since
    """
    try:
        return os.stat(MARK).st_mtime
    except FileNotFoundError:
        return 0


def wait(hosts, out=True, timeout=60):
    """On a proxy, wait until it sends no requests to some app hosts and has all their answers; or until it sends them
    requests again.

    :param hosts: their ids.
    :param out: whether they are to get none.
    :param timeout: seconds.
    :return: the seconds until the proxy turned, and what was still under way when the time of the apps' ``in_flight``
        was over.
    :raises CommandExecutionError: when the proxy has not turned in time, with the reason.

    CLI Example:

    .. code-block:: bash

        salt-call drain.wait '[app1]'
        salt-call drain.wait '[app1]' out=False
    """
    started = time.monotonic()
    while True:
        sites = _sites()
        others = contrary(sites, hosts, out)
        if not others and not _unread(sites):
            break
        if time.monotonic() > started + timeout:
            word = "still sends requests to" if out else "sends no requests to"
            listed = "; ".join(f"{app}: {', '.join(names)}" for app, names in sorted(others.items()))
            listed = listed or f"nginx has not read {PEERS}"
            raise CommandExecutionError(
                f"{__opts__['id']} {word} some hosts after {timeout} s ({listed}): journalctl -u saltern-peers says "
                "why. The last host that takes requests is never taken out; where an app answers on no host, have the "
                "orchestration move hosts as they serve: drain: False in its pillar"
            )
        time.sleep(POLL)
    said = f"{time.monotonic() - started:.1f} s"
    if not out:
        return said
    bounds, addresses = limits(), addresses_of(sites, hosts)
    left = in_flight.drain(workers.old, addresses, None, bounds["requests"], bounds["streams"], ", ".join(hosts))
    return "; ".join([said, *in_flight.left_there(left, bounds)])


def limits():
    """Return the longest ``in_flight`` times of this host's apps, in seconds.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    apps = __pillar__["app"].values()
    return {kind: max((one["in_flight"][kind] for one in apps), default=0) for kind in ("requests", "streams")}


def addresses_of(sites, hosts):
    """Return where a proxy reaches hosts.

    :param sites: the text of each app's file of peers.
    :param hosts: their ids.
    """
    found = [pair for text in sites.values() for pair in peers.at(text)]
    return [address for address, name in found if name in hosts]


def _unread(sites):
    """Tell whether nginx has yet to read what saltern-peers has written."""
    return workers.is_stale(tree.ROOT, [f"peers/{app}.conf" for app in sites], settle=0)


def contrary(sites, hosts, out):
    """Find the hosts that get requests and should not, or should and get none.

    :param sites: the text of each app's file of peers.
    :param hosts: their ids.
    :param out: whether they are to get none.
    :return: the ids, by app.
    """
    found = {}
    for app, text in sites.items():
        serving, away = peers.serving(text), peers.out(text)
        # A host that the inventory drains is out in any case.
        there = set(hosts) & (serving | away) - peers.drained(text)
        wrong = there & serving if out else there - serving
        if wrong:
            found[app] = sorted(wrong)
    return found


def _sites():
    # A temporary file of saltern-peers, which is gone in a moment.
    paths = glob.glob(f"{PEERS}/*.conf")
    return {pathlib.Path(path).stem: pathlib.Path(path).read_text(encoding="utf-8") for path in paths}
