"""The plans of orchestrations: which hosts, in which order, and what is wrong with what was asked.

A plan is worked out before anything is touched. Its ``mistakes`` are messages; with mistakes it has nothing else.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.fleet import asked as asking
from saltern.fleet import drain as draining
from saltern.fleet import reboot as rebooting
from saltern.fleet.batches import ordered, roles_in, rolled
from saltern.fleet.master import Master

Plan = dict[str, Any]
Asked = Mapping[str, Any]


def planned(function: Callable[[Master, Asked], Plan]) -> Callable[[Master, Asked], Plan]:
    """Turn what a plan raises into a mistake of the plan, because Jinja would show it with a traceback."""

    @functools.wraps(function)
    def plan(master: Master, asked: Asked) -> Plan:
        try:
            return function(master, asked)
        except CommandExecutionError as error:
            return {"mistakes": [str(error)]}

    return plan


@planned
def release(master: Master, asked: Asked) -> Plan:
    """Plan a rolling release of an app, or a rollback.

    :param master: that plans it.
    :param asked: the orchestration's pillar: ``app`` and ``environment``; ``batch`` in place of the setting
        ``master.batch``; ``force`` for a rollback across a migration; ``drain``, false where hosts are to be moved
        while they serve.
    :return: ``mistakes``, or the app hosts (``apps``), their ``batches``, the ``proxies`` that turn away from each
        batch, all ``hosts`` of both, and the declared ``build``.
    """
    options = {"batch": int, "force": bool, "drain": bool}
    if mistakes := asking.mistakes(asked, master.hosts, ("app", "environment"), options):
        return {"mistakes": mistakes}
    environment = asked["environment"]
    roles = roles_in(master.hosts, environment)
    apps, proxies = ([name for name in sorted(roles) if role in roles[name]] for role in ("app", "proxy"))
    if not apps:
        return {"mistakes": [f"{environment}: no host has the role app; expected one in pillar/hosts.yaml"]}
    pillar = master.pillar(apps[0])
    if pillar.get("_errors"):
        return {"mistakes": pillar["_errors"]}
    if asked["app"] not in pillar["app"]:
        known = ", ".join(sorted(pillar["app"])) or "none"
        return {"mistakes": [f"app: no app of {environment} has the name {asked['app']}; expected one of {known}"]}
    size = asked.get("batch", pillar["master"]["batch"])
    batches, turning = rolled(apps, apps, proxies, master.hosts, size, draining.left_out(master.ask, apps))
    turning = turning if asked.get("drain", True) else []
    return {
        "mistakes": [],
        "environment": environment,
        "app": asked["app"],
        "apps": apps,
        "batches": batches,
        "proxies": turning,
        "hosts": sorted({*apps, *turning}),
        "build": pillar["app"][asked["app"]]["build"]["sha256"],
        "force": asked.get("force", False),
    }


@planned
def converge(master: Master, asked: Asked) -> Plan:
    """Plan in which order the hosts of an environment converge.

    :param master: that plans it.
    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or all ``hosts``, and their ``order``: lists of those that converge at once.
    """
    if mistakes := asking.mistakes(asked, master.hosts, ("environment",)):
        return {"mistakes": mistakes}
    roles = roles_in(master.hosts, asked["environment"])
    return {"mistakes": [], "environment": asked["environment"], "hosts": sorted(roles), "order": ordered(roles)}


@planned
def verify(master: Master, asked: Asked) -> Plan:
    """Plan which hosts are asked whether they are what is declared.

    :param master: that plans it.
    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or the minions as ``hosts``, and ``own``: the id of this master, where it is in the
        environment too.
    """
    if mistakes := asking.mistakes(asked, master.hosts, ("environment",)):
        return {"mistakes": mistakes}
    own = master.own_id()
    is_there = master.hosts.get(own, {}).get("environment") == asked["environment"]
    names = sorted(roles_in(master.hosts, asked["environment"]))
    return {"mistakes": [], "hosts": names, "own": own if is_there else None}


@planned
def reboot(master: Master, asked: Asked) -> Plan:
    """Plan in which order hosts are rebooted: one after the other, and app hosts a batch at a time.

    :param master: that plans it.
    :param asked: the orchestration's pillar: ``environment``; ``batch`` in place of the setting ``master.batch``;
        ``all`` for hosts too that need no reboot.
    :return: ``mistakes``, or the ``reasons`` by host, who comes ``before`` the app hosts, their ``batches``, the
        ``proxies`` that turn away from each batch, and who comes ``after``.
    """
    if mistakes := asking.mistakes(asked, master.hosts, ("environment",), {"batch": int, "all": bool}):
        return {"mistakes": mistakes}
    roles = roles_in(master.hosts, asked["environment"])
    reasons, mistakes = rebooting.reasons(master.ask, sorted(roles))
    if mistakes:
        return {"mistakes": mistakes}
    chosen = [name for part in ordered(roles) for name in part if reasons[name] or asked.get("all")]
    apps = [name for name in sorted(roles) if "app" in roles[name]]
    # A drain ends with a boot. These hosts would take requests, whatever was the reason to leave them out.
    if out := sorted(draining.left_out(master.ask, apps)) if chosen else []:
        why = "takes no requests: an orchestration is under way, or one that failed or ended is to be run again first"
        return {"mistakes": [f"{name}: {why}; after a reboot that ended, salt {name} drain.undo" for name in out]}
    proxies = [name for name in sorted(roles) if "proxy" in roles[name]]
    size = asked.get("batch", 1)
    if apps and "batch" not in asked:
        pillar = master.pillar(apps[0])
        if pillar.get("_errors"):
            return {"mistakes": pillar["_errors"]}
        size = pillar["master"]["batch"]
    others = [name for name in chosen if name not in apps]
    batches, turning = rolled([name for name in chosen if name in apps], apps, proxies, master.hosts, size)
    return {
        "mistakes": [],
        "environment": asked["environment"],
        "hosts": sorted({*chosen, *turning}),
        "reasons": {name: "; ".join(reasons[name]) or "asked for" for name in chosen},
        "before": [name for name in others if "proxy" not in roles[name]],
        "batches": batches,
        "proxies": turning,
        "after": [name for name in others if "proxy" in roles[name]],
    }
