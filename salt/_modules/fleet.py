"""What is done with several hosts at once, for the orchestrations of a master: who, and in which order."""

import functools
import json
import os

import salt.client
import salt.config
import salt.pillar
from salt.exceptions import CommandExecutionError, SaltClientError

from saltern import inventory, services

__load__ = ["ask", "converge", "reboot", "release", "silent", "verify"]

# In which order hosts converge, by the first of these roles that they have: what apps attach, the apps, the proxies.
PROVIDERS = {service.role for service in services.resources()}
ORDER = (*sorted(PROVIDERS, key=inventory.place), "app", "proxy")

# Seconds in which a minion must answer.
TIMEOUT = 10


def planned(function):
    """Have what cannot be worked out be a mistake of the plan: what is raised, Jinja shows with its trace."""

    @functools.wraps(function)
    def plan(asked):
        try:
            return function(asked)
        except CommandExecutionError as error:
            return {"mistakes": [str(error)]}

    return plan


@planned
def release(asked):
    """Work out a rolling release of an app, or a rollback.

    :param asked: the orchestration's pillar: ``app`` and ``environment``, ``batch`` where it is not to be the setting
        ``master.batch``, ``force`` for a rollback across a migration, and ``drain``, which is false where hosts are to
        be moved as they serve.
    :return: ``mistakes``, or what is to be done: the app hosts (``apps``), their ``batches``, the ``proxies`` that are
        to turn away from these, all ``hosts`` of both, and the declared ``build``.

    CLI Example: none, it serves the orchestrations ``orch.release`` and ``orch.rollback``.
    """
    hosts = __salt__["inventory.read"]()
    options = {"batch": int, "force": bool, "drain": bool}
    if mistakes := unreadable(hosts) or misasked(asked, hosts, ("app", "environment"), options):
        return {"mistakes": mistakes}
    environment = asked["environment"]
    of = minions(hosts, environment)
    its = {role: [name for name in sorted(of) if role in of[name]] for role in ("app", "proxy")}
    if not its["app"]:
        return {"mistakes": [f"{environment}: no host has the role app; expected one in pillar/hosts.yaml"]}
    pillar = _pillar(its["app"][0])
    if pillar.get("_errors"):
        return {"mistakes": pillar["_errors"]}
    if asked["app"] not in pillar["app"]:
        known = ", ".join(sorted(pillar["app"])) or "none"
        return {"mistakes": [f"app: no app of {environment} has the name {asked['app']}; expected one of {known}"]}
    size = asked.get("batch", pillar["master"]["batch"])
    parts, proxies = rolled(its["app"], its["app"], its["proxy"], hosts, size, _left_out(its["app"]))
    proxies = proxies if asked.get("drain", True) else []
    return {
        "mistakes": [],
        "environment": environment,
        "app": asked["app"],
        "apps": its["app"],
        "batches": parts,
        "proxies": proxies,
        "hosts": sorted({*its["app"], *proxies}),
        "build": pillar["app"][asked["app"]]["build"]["sha256"],
        "force": asked.get("force", False),
    }


@planned
def converge(asked):
    """Work out in which order the hosts of an environment converge.

    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or all ``hosts``, and in which ``order``: lists of those that may at once.

    CLI Example: none, it serves the orchestration ``orch.converge``.
    """
    hosts = __salt__["inventory.read"]()
    if mistakes := unreadable(hosts) or misasked(asked, hosts, ("environment",)):
        return {"mistakes": mistakes}
    its = minions(hosts, asked["environment"])
    return {"mistakes": [], "environment": asked["environment"], "hosts": sorted(its), "order": ordered(its)}


@planned
def verify(asked):
    """Work out who is asked whether it is what is declared.

    :param asked: the orchestration's pillar: ``environment``.
    :return: ``mistakes``, or the minions as ``hosts``, and ``own``: the id of this master, where it is one of them.

    CLI Example: none, it serves the orchestration ``orch.verify``.
    """
    hosts = __salt__["inventory.read"]()
    if mistakes := unreadable(hosts) or misasked(asked, hosts, ("environment",)):
        return {"mistakes": mistakes}
    own = salt.config.minion_config(os.path.join(os.path.dirname(__opts__["conf_file"]), "minion"))["id"]
    is_there = hosts.get(own, {}).get("environment") == asked["environment"]
    its = sorted(minions(hosts, asked["environment"]))
    return {"mistakes": [], "hosts": its, "own": own if is_there else None}


@planned
def reboot(asked):
    """Work out in which order hosts are rebooted, one after the other, and app hosts a batch at a time.

    :param asked: the orchestration's pillar: ``environment``, ``batch`` where it is not to be the setting
        ``master.batch``, and ``all`` for hosts too that have no reason to be.
    :return: ``mistakes``, or the ``reasons`` by host, who comes ``before`` the app hosts, their ``batches`` and the
        ``proxies`` that balance over them, and who comes ``after``.

    CLI Example: none, it serves the orchestration ``orch.reboot``.
    """
    hosts = __salt__["inventory.read"]()
    if mistakes := unreadable(hosts) or misasked(asked, hosts, ("environment",), {"batch": int, "all": bool}):
        return {"mistakes": mistakes}
    its = minions(hosts, asked["environment"])
    reasons, mistakes = _reasons(sorted(its))
    if mistakes:
        return {"mistakes": mistakes}
    chosen = [name for part in ordered(its) for name in part if reasons[name] or asked.get("all")]
    apps = [name for name in sorted(its) if "app" in its[name]]
    # A boot would have them take requests, with whatever it was that they were left out for.
    if out := sorted(_left_out(apps)) if chosen else []:
        why = "takes no requests: an orchestration is under way, or one that failed or ended is to be run again first"
        return {"mistakes": [f"{name}: {why}; after a reboot that ended, salt {name} drain.undo" for name in out]}
    proxies = [name for name in sorted(its) if "proxy" in its[name]]
    size = asked.get("batch", 1)
    if apps and "batch" not in asked:
        pillar = _pillar(apps[0])
        if pillar.get("_errors"):
            return {"mistakes": pillar["_errors"]}
        size = pillar["master"]["batch"]
    others = [name for name in chosen if name not in apps]
    parts, proxies = rolled([name for name in chosen if name in apps], apps, proxies, hosts, size)
    return {
        "mistakes": [],
        "environment": asked["environment"],
        "hosts": sorted({*chosen, *proxies}),
        "reasons": {name: "; ".join(reasons[name]) or "asked for" for name in chosen},
        "before": [name for name in others if "proxy" not in its[name]],
        "batches": parts,
        "proxies": proxies,
        "after": [name for name in others if "proxy" in its[name]],
    }


def ask(names, function, *arguments, timeout=TIMEOUT, **options):
    """Ask minions, all at once.

    :param names: ids.
    :param function: of an execution module.
    :param arguments: the function's.
    :param timeout: seconds in which they must answer.
    :param options: of Salt's ``LocalClient.cmd``.
    :return: the answers of those that gave one, by id.
    :raises CommandExecutionError: when no master runs here.

    CLI Example: none, it serves the states of orchestrations.
    """
    if not names:
        return {}
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            return client.cmd(names, function, arguments, tgt_type="list", timeout=timeout, **options)
    except SaltClientError as error:
        raise CommandExecutionError(
            "The master does not run here; expected a host with the role master: systemctl start salt-master"
        ) from error


def silent(names):
    """Ask minions whether they are there.

    :param names: ids.
    :return: a message that names those which do not answer, empty where all do.
    :raises CommandExecutionError: when no master runs here.

    CLI Example: none, it serves the orchestrations.
    """
    answered = ask(names, "test.ping", gather_job_timeout=TIMEOUT // 2)
    missing = [name for name in sorted(names) if answered.get(name) is not True]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)}: no answer within {TIMEOUT} s; nothing was touched. Start salt-minion there, and run "
        "this again"
    )


def _left_out(names):
    """Return which app hosts take no requests since ``drain.begin``. What does not answer is told later."""
    answers = ask(names, "drain.is_drained")
    return {name for name in names if answers.get(name) is True}


def _reasons(names):
    """Ask minions why they should be rebooted. Return that by id, and mistakes."""
    if missing := silent(names):
        return {}, [missing]
    answers = ask(names, "reboot.pending")
    mistakes = [
        f"{name}: cannot tell whether it is to be rebooted; expected a host that has converged from this master"
        for name in names
        if not isinstance(answers.get(name), list) or not all(isinstance(one, str) for one in answers[name])
    ]
    return answers, mistakes


def rolled(names, apps, proxies, hosts, size, left_out=()):
    """Part app hosts into batches, none of which takes all away that serve.

    Who takes no requests comes first, each alone: it can be spared, and is there then for the others' requests.

    :param names: the ids of those that are to be touched.
    :param apps: the ids of all app hosts.
    :param proxies: the ids of the proxies.
    :param hosts: the inventory. Who is drained there serves nothing.
    :param size: of a batch, at most.
    :param left_out: the ids of those that an earlier orchestration has left out.
    :return: the batches, and the proxies that are asked to turn away: none where one host alone serves.
    """
    serving = [name for name in apps if not hosts[name].get("drain")]
    idle = [name for name in names if name not in serving or name in left_out]
    parts = batches([name for name in names if name not in idle], size, len(serving))
    return [[name] for name in idle] + parts, proxies if len(serving) > 1 else []


def minions(hosts, environment):
    """Return the roles, by id, of an environment's hosts that have a master. A master has none.

    :param hosts: the inventory.
    :param environment: its name.
    """
    its = {name: row["roles"] for name, row in hosts.items() if row["environment"] == environment}
    return {name: roles for name, roles in its.items() if "master" not in roles}


def ordered(roles):
    """Return in which order hosts converge.

    The first app host comes before the others: what it migrates, they find migrated.

    :param roles: by host id.
    """
    rank = {name: next((n for n, role in enumerate(ORDER) if role in its), len(ORDER)) for name, its in roles.items()}
    parts = [sorted(name for name in roles if rank[name] == n) for n in range(len(ORDER) + 1)]
    apps = ORDER.index("app")
    parts[apps : apps + 1] = [parts[apps][:1], parts[apps][1:]]
    return [part for part in parts if part]


def _pillar(minion_id):
    """Compile the pillar of a host. That of the orchestration itself would be laid over it."""
    opts = {key: value for key, value in __opts__.items() if key != "pillar"}
    return salt.pillar.Pillar(opts, {}, minion_id, "base").compile_pillar()


def unreadable(hosts):
    """Say that the inventory is none.

    :param hosts: what ``pillar/hosts.yaml`` says.
    :return: a list with a message, empty where each row says what orchestrations ask of it.
    """
    rows = list(hosts.values()) if isinstance(hosts, dict) else [None]
    if all(isinstance(row, dict) and _is_told(row) for row in rows):
        return []
    return ["pillar/hosts.yaml: cannot be read as rows of hosts; salt-call state.apply on this master says where"]


def _is_told(row):
    roles = row.get("roles")
    is_list = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
    return is_list and isinstance(row.get("environment"), str)


EXAMPLES = {"app": "tickets", "environment": "production"}


def misasked(asked, hosts, words, options=None):
    """List what is wrong with what an orchestration was asked.

    :param asked: its pillar.
    :param hosts: the inventory.
    :param words: what it must say, as text.
    :param options: what it may say besides, and of which type.
    """
    options = options or {}
    environments = sorted({row["environment"] for row in hosts.values()})
    example = json.dumps({word: EXAMPLES[word] for word in words})
    found = [f"{word}: missing; expected pillar='{example}'" for word in words if not isinstance(asked.get(word), str)]
    if not found and asked["environment"] not in environments:
        found.append(f"environment: no host is in {asked['environment']}; expected one of {', '.join(environments)}")
    known = ", ".join([*words, *options])
    found += [
        f"{word}: is nothing that is asked here; expected one of {known}" for word in asked.keys() - {*words, *options}
    ]
    if type(asked.get("batch", 1)) is not int or asked.get("batch", 1) < 1:
        found.append("batch: expected how many app hosts at once, a number of 1 or more")
    switches = [word for word, kind in options.items() if kind is bool and type(asked.get(word, False)) is not bool]
    return found + [f"{word}: expected True or False" for word in switches]


def batches(names, size, total):
    """Part app hosts into batches, of which the smallest is the first.

    At least one host of several is left to serve while a batch is drained.

    :param names: ids.
    :param size: of a batch, at most.
    :param total: how many app hosts there are.
    """
    size = min(size, max(total - 1, 1))
    head = len(names) % size
    parts = [names[:head]] if head else []
    return parts + [names[start : start + size] for start in range(head, len(names), size)]
