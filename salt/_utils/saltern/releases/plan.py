"""What is declared of an app, compared with what is on its host: what is to be done."""

import contextlib
import pwd
import time
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import apps
from saltern.attachments import config, earlier
from saltern.contracts.judge import judge
from saltern.host import Host
from saltern.releases import health, history, hold, serving, staging, store, supervisor
from saltern.releases import process as processes
from saltern.releases.process import Ports
from saltern.releases.refusal import shown
from saltern.releases.store import Changes, Record
from saltern.system import files
from saltern.web import away, routes, tree

Settings = Mapping[str, Any]


@shown
def plan(host: Host, app: str) -> dict[str, Any]:
    """Compare what is declared for an app with what serves.

    :param host: the host.
    :param app: the app's name.
    :return: ``number`` of the release that is to serve, whether it is ``new``, the ``ports`` of its processes, what is
        ``held``, the ``changes`` as a state reports them, and what would ``stay`` though it is old: a sentence for
        each release. Without changes there is nothing to do.
    :raises CommandExecutionError: when the app is not declared, the formation asks for what the build does not have, or
        the build takes away what other apps attach.
    """
    settings = declared(host, app)
    current = store.current(app)
    held = in_force(host, app, current, settings)
    is_declared = current is not None and is_same(host, app, current, settings)
    lost = _lost(host, app, current, held) if current is not None else {}
    if current is None or lost or not (is_declared or held):
        number = history.next_number(app)
        check_formation(app, settings, settings["build"]["sha256"])
        check_contracts(host, app, settings["build"]["sha256"])
        ports = formation_ports(app, settings, current, other=current is not None)
        changes = _novelty(host, app, settings, current, number, ports) | lost
        return {"number": number, "new": True, "ports": ports, "held": {}} | _pruning(app, settings, number, changes)
    sha256 = store.record(app, current).get("build", "")
    check_formation(app, settings, sha256)
    if is_declared:
        check_contracts(host, app, sha256)
    ports = formation_ports(app, settings, current)
    changes = _drift(host, app, current, ports)
    if is_declared and hold.held(app).get("until") == "another":
        changes["hold"] = {"old": f"v{current}", "new": None}
    return {"number": current, "new": False, "ports": ports, "held": held} | _pruning(app, settings, current, changes)


def _pruning(app: str, settings: Settings, number: int, changes: Changes) -> dict[str, Any]:
    """Return the changes, and what a move to a release would prune, or not yet."""
    if not changes:
        return {"changes": changes, "stay": []}
    found = staging.superseded(app, settings["keep_releases"], settings["build"]["sha256"], number)
    return {"changes": changes | ({"pruned": found.changes} if found.changes else {}), "stay": found.told}


def _lost(host: Host, app: str, current: int, held: Record) -> Changes:
    """Return what the release that serves lacks to be started again, as changes: a new release is to have it.

    Its processes run on without it, from memory, until those of the new release serve.

    :param held: as ``in_force`` returns it. In the place of a release that is held there is to be no other.
    :raises CommandExecutionError: for a release that is held.
    """
    sha256 = store.record(app, current).get("build") or ""
    lost = store.lost(app, current)
    # Of the declared build the state before this one takes care.
    is_own = held and sha256 and sha256 != declared(host, app)["build"]["sha256"]
    damage = host.ask("build.damage", app, sha256) if is_own else ""
    if damage:
        lost[store.build_directory(app, sha256)] = f"is damaged: {damage}"
    if lost and held:
        what = "; ".join(f"{path} {reason}" for path, reason in lost.items())
        raise CommandExecutionError(
            f"{app}: v{current} is held, and could not be started again: {what}. What runs of it is left as it is; "
            f"expected those put back, or release.rollback to another release, or release.unhold {app} for what is "
            "declared"
        )
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(app).pw_uid
        lost |= {} if held else supervisor.displaced(app, current, store.build_directory(app, sha256), uid)
    return {path: {"old": reason, "new": None} for path, reason in lost.items()}


def is_due(host: Host, app: str) -> bool:
    """Tell whether an app that serves will have a new release, as far as that can be told early in a run.

    :param host: the host.
    :param app: the app's name.
    :return: a boolean.
    :raises CommandExecutionError: when its config cannot be made.
    """
    settings, current = declared(host, app), store.current(app)
    return current is not None and not (is_same(host, app, current, settings) or in_force(host, app, current, settings))


def declared(host: Host, app: str) -> Settings:
    """Return what is declared of an app.

    :param host: the host.
    :param app: the app's name.
    :raises CommandExecutionError: when no app of the host has this name.
    """
    return apps.declared(host.pillar["app"], app)


def in_force(host: Host, app: str, current: int | None, settings: Settings) -> Record:
    """Return the hold that is in force, empty where none is.

    :param host: the host.
    :param app: the app's name.
    :param current: the release that serves, or ``None``.
    :param settings: the app's settings.
    """
    held = hold.held(app)
    if current is None or held.get("release") != current:
        return {}
    # Where that release is gone, what the pillar asked for then is not known, and may be what it asks for now.
    is_known = held["until"] == "another" and not store.lost(app, held["from"])
    # Another password of what is attached is no other config: what was left for good reason would come back.
    if is_known and not is_same(host, app, held["from"], settings, attachments=False):
        return {}
    return held


def held(host: Host, app: str) -> Record:
    """Return the hold of an app that is in force.

    :param host: the host.
    :param app: the app's name.
    :return: ``release``, ``from``, ``until``, ``time`` and ``who``, and whether what is ``declared`` serves. Empty
        where the app is not held.
    """
    settings, current = declared(host, app), store.current(app)
    found = in_force(host, app, current, settings)
    return found | {"declared": is_same(host, app, found["release"], settings)} if found else {}


def check_formation(app: str, settings: Settings, sha256: str, way_out: str = "") -> None:
    """Refuse a setting with a process type that a build, where it is on the host, does not have.

    :param app: the app's name.
    :param settings: the app's settings.
    :param sha256: the build's digest.
    :param way_out: what can be done, for the end of the message.
    """
    made = store.build(app, sha256)
    for setting, _, allowed in apps.unknown_types(settings, made["processes"]) if made else ():
        raise CommandExecutionError(
            f"app.{app}.{setting}: the Procfile of build {sha256[:12]} has no such process type; "
            f"expected one of {', '.join(allowed) or 'none'}{way_out}"
        )


def check_contracts(host: Host, app: str, sha256: str) -> None:
    """Refuse a build, where it is on the host, that other apps cannot live with; see ``contracts.judge``.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the build's digest.
    """
    made = store.build(app, sha256)
    if made:
        judge(host, app, sha256, made)


def is_same(host: Host, app: str, number: int, settings: Settings, attachments: bool = True) -> bool:
    """Tell whether a release is what is declared, as it is or but for how its attachments are reached.

    :param host: the host.
    :param app: the app's name.
    :param number: the release's number.
    :param settings: the app's settings.
    :param attachments: whether how they are reached counts too.
    """
    wanted = {name: value.encode() for name, value in config.environ(host, app).items()}
    record = store.record(app, number)
    had = store.environ(app, number)
    if not attachments:
        for name in earlier.shared(host, app, number):
            # A part that a URL of today lacks is none.
            had |= {name: wanted[name]} if name in wanted else {}
    is_as_built = record.get("build") == settings["build"]["sha256"] and record.get("grace") == settings["grace"]
    return is_as_built and record.get("listening", []) == routes.others(settings) and had == wanted


def formation_ports(app: str, settings: Settings, current: int | None, other: bool = False) -> Ports:
    """Give the processes of the formation their ports: in the slot of the current release, or in the other one.

    :param app: the app's name.
    :param settings: the app's settings.
    :param current: the release that serves, or ``None``.
    :param other: whether it is the other slot.
    """
    used = supervisor.used(app, current) if current else {}
    second = settings["port"] + apps.SLOT + 1
    slot = 1 if any(port and port >= second for port in used.values()) else 0
    slot = 1 - slot if other else slot
    others = routes.others(settings)
    return processes.ports(settings["formation"], settings["port"], slot, apps.alone(settings), others)


def _novelty(host: Host, app: str, settings: Settings, current: int | None, number: int, ports: Ports) -> Changes:
    """Say what a new release changes: names of variables, never values."""
    new = {name: value.encode() for name, value in config.environ(host, app).items()}
    old = store.environ(app, current) if current else {}
    record = store.record(app, current) if current else {}
    changes: Changes = {"release": {"old": f"v{current}" if current else None, "new": f"v{number}"}}
    if record.get("build") != settings["build"]["sha256"]:
        changes["build"] = {"old": record.get("build", "")[:12] or None, "new": settings["build"]["sha256"][:12]}
    if current and record.get("grace") != settings["grace"]:
        changes["grace"] = {"old": record.get("grace"), "new": settings["grace"]}
    if current and record.get("listening", []) != routes.others(settings):
        changes["listening"] = {"old": record.get("listening", []), "new": routes.others(settings)}
    variables = compared(old, new)
    if variables:
        changes["variables"] = variables
    stopping = supervisor.used(app, current) if current else {}
    changes["processes"] = {
        "start": processes.programs(app, number, ports),
        "stop": processes.programs(app, current, stopping),
    }
    served = [{name.partition(".")[0] for name, port in each.items() if port} for each in (stopping, ports)]
    if leaving := [kind for kind in away.kinds(settings) if all(kind in each for each in served)]:
        changes["away"] = dict.fromkeys(leaving, "nginx answers 503 until the new release is healthy")
    return changes


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    """Compare two configs by the names of their variables.

    :param old: a mapping of variable to value.
    :param new: another.
    :return: lists of names that were ``added``, ``changed`` and ``removed``, each where there are any.
    """
    names = {
        "added": sorted(new.keys() - old.keys()),
        "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
        "removed": sorted(old.keys() - new.keys()),
    }
    return {kind: listed for kind, listed in names.items() if listed}


def _drift(host: Host, app: str, number: int, ports: Ports) -> Changes:
    """Compare the current release's processes and servers with what they should be.

    Processes that were started just now, as all are with supervisor, have their time to come up.
    """
    deadline = time.monotonic() + declared(host, app)["health"]["grace"]
    while True:
        changes, coming = _differences(host, app, number, ports)
        if not changes or changes.keys() - coming or time.monotonic() > deadline:
            return changes
        time.sleep(health.POLL)


def _differences(host: Host, app: str, number: int, ports: Ports) -> tuple[Changes, set[str]]:
    """Return what differs, see ``_drift``, and which of it are processes that may yet be coming up."""
    # A dry run that finds supervisor stopped says that it would start, and with it these.
    will_start = host.is_dry and not supervisor.is_up()
    changes, coming = ({}, set()) if will_start else _ailing(host, app, number, ports)
    path = processes.path(app, number)
    if files.read(path, errors="replace") != processes.rendered(app, number, ports, store.graces(app, number)):
        changes[path] = {"old": "as it was", "new": "as declared"}
    changes |= store.misplaced(app, number)
    for path in serving.unserved(host, app, ports):
        changes[f"{tree.ROOT}/{path}"] = {"old": "as it was", "new": "as declared"}
    others = [other for _, other in processes.releases(app) if other != number]
    stale = [processes.path(app, other) for other in others]
    for path in [*stale, *processes.leftovers(app), *store.leftovers(app), *away.marks(app).values()]:
        changes[path] = {"old": "left behind", "new": None}
    return changes, coming


def _ailing(host: Host, app: str, number: int, ports: Ports) -> tuple[Changes, set[str]]:
    """Return the processes that do not run as they should, or should not run, and which of them may be coming up."""
    settings, wanted = declared(host, app), set(processes.programs(app, number, ports))
    changes: Changes = {}
    coming: set[str] = set()
    found = supervisor.info(app)
    for name in sorted(wanted | found.keys()):
        state = found[name]["state"] if name in found else None
        if name not in wanted:
            changes[name] = {"old": health.in_words(state), "new": None}
        elif state != "RUNNING":
            changes[name] = {"old": health.in_words(state), "new": "runs"}
            # What has ended, supervisor starts again within a second.
            coming |= {name} if state in ("STARTING", "EXITED") else set()
    for name in set(supervisor.strays(app)) - wanted:
        changes[name] = {"old": "left behind", "new": None}
    for process, port in ports.items():
        name = f"{app}.v{number}.{process}"
        if not port or name in changes:
            continue
        is_coming = found[name]["up"] < settings["health"]["grace"]
        asked = (settings, app, number, process, port)
        reason = health.ask(*asked) if is_coming else health.ask_patiently(*asked)
        if reason:
            changes[name] = {"old": reason, "new": "healthy"}
            coming |= {name} if is_coming and not isinstance(reason, health.Redirect) else set()
    return changes, coming
