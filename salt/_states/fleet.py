"""What an orchestration asks several minions at once, on the master. See ``saltern.fleet``."""

import functools
import os
import sys
import time

from salt.exceptions import CommandExecutionError

from saltern import inventory
from saltern.fleet import drain, minions, reboot, suite
from saltern.fleet import ready as preparing
from saltern.paths import Roots


def _asks():
    return functools.partial(minions.ask, __opts__)


def ready(name, hosts, environment=None):
    """Check that minions answer, and bring them the tree's modules and today's pillar.

    :param name: what the state is for, in words.
    :param hosts: the minions' ids.
    :param environment: the environment whose hosts the orchestration moves. No other orchestration may move them
        meanwhile. ``None`` where it only asks.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"All {len(hosts)} answer"}
    if environment:
        lock = preparing.locked(__opts__["cachedir"], environment)
        if lock is None:
            comment = f"{environment}: another orchestration is under way; nothing was touched. Run this again after it"
            return ret | {"result": False, "comment": comment}
        # It is held until the orchestration ends.
        __context__["fleet.lock"] = lock
    try:
        comment = minions.silent(_asks(), hosts)
        if not comment and not __opts__["test"]:
            comment = preparing.unready(_asks(), hosts)
    except CommandExecutionError as error:
        comment = str(error)
    return ret | {"result": False, "comment": comment} if comment else ret


def refused(name):
    """Say why nothing is done.

    :param name: the reason.
    """
    return {"name": name, "changes": {}, "result": False, "comment": name}


def told(name):
    """Tell the operator who waits for the orchestration what is under way.

    :param name: a line.
    """
    print(f"would be: {name}" if __opts__["test"] else name, file=sys.stderr, flush=True)
    return {"name": name, "changes": {}, "result": True, "comment": name}


def noted(name, hosts):
    """Tell the operator who waits for the orchestration what the minions' notes are.

    The report of an orchestration leaves out a minion whose run changed nothing.

    :param name: what is told, in words.
    :param hosts: the minions' ids.
    """
    return {"name": name, "changes": {}, "result": True} | __salt__["notes.tell"](preparing.notes(_asks(), hosts))


def stopped(name, hosts):
    """End an orchestration whose last step failed. Hosts that are as they were before it take requests again.

    :param name: what the operator is to do then.
    :param hosts: the ids of the hosts of that step.
    """
    if __opts__["test"]:
        return {"name": name, "changes": {}, "result": None, "comment": "Would stop here"}
    try:
        lines = drain.undone(_asks(), hosts)
    except CommandExecutionError as error:
        lines = [str(error)]
    return {"name": name, "changes": {}, "result": False, "comment": "\n".join([*lines, name])}


def rebooted(name, hosts, timeout=reboot.REBOOT):
    """Reboot minions, and wait until they are back and systemd has started all that it should.

    :param name: whatever the state is for.
    :param hosts: their ids.
    :param timeout: seconds in which they must be back.
    """
    if __opts__["test"]:
        comment = f"{', '.join(hosts)} would be rebooted"
        return {"name": name, "changes": dict.fromkeys(hosts, "rebooted"), "result": None, "comment": comment}
    started = time.monotonic()
    try:
        back, failed = reboot.reboot(_asks(), hosts, timeout)
    except CommandExecutionError as error:
        return {"name": name, "changes": {}, "result": False, "comment": str(error)}
    seconds = f"{time.monotonic() - started:.0f} s"
    comment = "; ".join(f"{host}: {reason}" for host, reason in sorted(failed.items()))
    comment = f"{comment}. No further host was rebooted" if failed else f"Back after {seconds}"
    changes = dict.fromkeys(sorted(back), f"rebooted, {seconds}")
    return {"name": name, "changes": changes, "result": not failed, "comment": comment}


def verified(name, hosts, own=None):
    """Run the suite of ``make verify`` over hosts from here, and print one table of what it found.

    :param name: whatever the state is for.
    :param hosts: the ids of minions.
    :param own: the id of this master, where it is to be asked too.
    """
    targets = {host: f"salt://{host}" for host in hosts} | ({own: "local://"} if own else {})
    roots = Roots.of(__opts__)
    tell = functools.partial(print, file=sys.stderr, flush=True)
    done = suite.run(os.path.dirname(roots.states[0]), targets, __opts__["gpg_keydir"], tell)
    roles = {host: row["roles"] for host, row in inventory.read(roots).items()}
    tell(suite.table(done, roles))
    failed = {host: found.failed for host, found in sorted(done.items()) if found.failed}
    lines = [f"{host}: {line}" for host, found in failed.items() for line in found]
    comment = "\n".join(lines) or f"All {len(done)} hosts are what is declared"
    return {"name": name, "changes": {}, "result": not failed, "comment": comment}
