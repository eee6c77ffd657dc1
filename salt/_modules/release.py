"""Releases: a build and a config, numbered and immutable, and the one that serves.

What is declared is compared with what is on the host (``plan``), and what differs is done (``deploy``), in steps.
Whatever fails before the step ``switch`` leaves the serving release as it is; whatever is interrupted is put right by
the next converge, since each step first looks at what is there.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import http.client
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import time
from urllib.parse import unquote, urlsplit

from salt.exceptions import CommandExecutionError

from saltern.web.answer import answer

__load__ = ["deploy", "dying", "held", "hold", "is_due", "list_", "log", "migrate", "migrated", "movable", "plan"]
__load__ += ["rollback", "show", "unhold", "verify"]
__func_alias__ = {"list_": "list"}
# By the functions' own names: Salt does not look for their aliases.
__outputter__ = {"list_": "rows", "log": "rows"}

ROOT = "/srv/apps"
NGINX = "/etc/nginx"
LOCKS = "/run/saltern"
POLL = 0.02
# How often a process that has served is asked for its health before it is called unhealthy, and the seconds between.
ASKED = 3
PAUSE = 1
# How often a migration is tried where other hosts may run it too, and the seconds between.
RELEASE_ATTEMPTS = 3
RELEASE_PAUSE = 2
# What build and config have been migrated from another host; for the next release alone, and gone after a boot.
MIGRATED = "/run/saltern/migrated-{app}"
# How grave a line of a process's log is, in the words of Python's logging and of most servers. The first such word
# counts: what comes after it may be a client's.
LEVEL = re.compile(
    r"\b(DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b|\[(debug|info|notice|warn|warning|error|critical)\]"
)
GRAVE = {"error", "critical", "fatal"}
TRACEBACK = "Traceback (most recent call last):"
CHAINED = re.compile(r"(During handling of the above|The above) exception\b.*:$")
ACCESS = re.compile(r"\"[A-Z]+ \S+ HTTP/\d")
# What a client provokes, and a release answers as it should: a request that is none, or one that is given up. Django's,
# Werkzeug's and Starlette's, and the socket's own.
CLIENTS = re.compile(
    r"^([\w.]+\.)?(Disallowed\w+|Suspicious\w+|InvalidSessionKey|RequestDataTooBig|TooMany(Fields|Files)Sent"
    r"|UnreadablePostError|MultiPart\w*(Error|Exception)|InputStreamExhausted|BadRequest\w*|ClientDisconnect(ed)?"
    r"|RequestAborted|RequestEntityTooLarge|BrokenPipeError|ConnectionResetError)(:|$)"
)
CLIENTS_LINE = re.compile(r"\bdjango\.security\.|\bInvalid HTTP_HOST header\b")
# What the launcher of a process says when it kills it; see formulas/app/files/launcher/ending.py.
KILLED = re.compile(r"v(\d+) (\S+) had not ended within (\d+) s, killed")
# What is stopped within so many seconds was not killed: no grace is shorter.
SOON = 1
LOG_LINES = 15
# Characters of a path that an app has answered with.
LONGEST_PATH = 100
LOG_READ = 1000

# What supervisor says of a process, in words that need no knowledge of it.
STATES = {
    "BACKOFF": "ends right after its start, and is started again and again",
    "EXITED": "has ended",
    "FATAL": "ended at each start, and is no longer started",
    "STARTING": "is starting",
    "STOPPED": "is stopped",
    "STOPPING": "is stopping",
}

# What supervisor says of a process that it does not know.
ABSENT = {"state": "not known to supervisor", "pid": 0, "up": 0, "exit": "not known to supervisor"}

# A process that ended so often within these seconds, and is not up for long again, keeps dying.
DYING_ENDS = 3
DYING_WINDOW = 600
DYING_UP = 120

# Shorter values are too likely to be ordinary words of a log line.
SHORTEST_SECRET = 8


class Redirect(str):
    """Why a process is not healthy, where waiting changes nothing: it sends whoever asks elsewhere."""


class Refusal(Exception):
    """A step cannot be done. ``process`` names the process whose log says more."""

    def __init__(self, reason, process=None):
        super().__init__(reason)
        self.process = process


@dataclasses.dataclass(frozen=True)
class Move:
    """A move to a release.

    :param app: the app's name.
    :param number: the release to move to.
    :param ports: port, or ``None``, by process of it.
    :param left: the release that serves now, or ``None``.
    :param one: the app's settings.
    :param asker: what asks the release for what its documents say, where that was begun.
    :param pids: by process, from when it was first looked at: another one later means that it ended in between.
    :param told: what whoever waits for it must know, beside that it came to serve: a sentence for each.
    """

    app: str
    number: int
    ports: dict
    left: int | None
    one: dict
    asker: object = None
    pids: dict = dataclasses.field(default_factory=dict)
    told: list = dataclasses.field(default_factory=list)


def shown(function):
    """Have what a process, a build or a document said not command the terminal of whoever is told."""

    @functools.wraps(function)
    def told(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except CommandExecutionError as error:
            raise CommandExecutionError(__salt__["journal.escaped"](str(error))) from error

    return told


# --- What is to be done -----------------------------------------------------------------------------------------------


@shown
def plan(app):
    """Compare what is declared for an app with what serves.

    :param app: the app's name.
    :return: ``number`` of the release that is to serve, whether it is ``new``, the ``ports`` of its processes, what is
        ``held`` and the ``changes`` as a state reports them. Without changes there is nothing to do.
    :raises CommandExecutionError: when the app is not declared, the formation asks for what the build does not have, or
        the build takes away what other apps attach.

    CLI Example:

    .. code-block:: bash

        salt-call release.plan tickets
    """
    one = _settings(app)
    current = __salt__["release_store.current"](app)
    held = _hold(app, current, one)
    is_same = current is not None and _is_same(app, current, one)
    lost = _lost(app, current, held) if current is not None else {}
    if current is None or lost or not (is_same or held):
        number = __salt__["release_store.next_number"](app)
        _check_formation(app, one, one["build"]["sha256"])
        _check_contracts(app, one["build"]["sha256"])
        ports = _ports(app, one, current, other=current is not None)
        changes = _novelty(app, one, current, number, ports) | lost
        return {"number": number, "new": True, "ports": ports, "held": {}, "changes": changes}
    sha256 = __salt__["release_store.record"](app, current).get("build", "")
    _check_formation(app, one, sha256)
    if is_same:
        _check_contracts(app, sha256)
    ports = _ports(app, one, current)
    changes = _drift(app, current, ports)
    if is_same and __salt__["release_store.held"](app).get("until") == "another":
        changes["hold"] = {"old": f"v{current}", "new": None}
    return {"number": current, "new": False, "ports": ports, "held": held, "changes": changes}


def _lost(app, current, held):
    """Return what the release that serves lacks to be started again, as changes: a new release is to have it.

    Its processes run on without it, from memory, until those of the new release serve.

    :param held: as ``_hold`` returns it. In the place of a release that is held there is to be no other.
    :raises CommandExecutionError: for a release that is held.
    """
    sha256 = __salt__["release_store.record"](app, current).get("build") or ""
    lost = __salt__["release_store.lost"](app, current)
    # Of the declared build the state before this one takes care.
    is_own = held and sha256 and sha256 != _settings(app)["build"]["sha256"]
    damage = __salt__["build.damage"](app, sha256) if is_own else ""
    if damage:
        lost[_build_path(app, sha256)] = f"is damaged: {damage}"
    if lost and held:
        what = "; ".join(f"{path} {reason}" for path, reason in lost.items())
        raise CommandExecutionError(
            f"{app}: v{current} is held, and could not be started again: {what}. What runs of it is left as it is; "
            f"expected those put back, or release.rollback to another release, or release.unhold {app} for what is "
            "declared"
        )
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(app).pw_uid
        lost |= {} if held else __salt__["process.displaced"](app, current, _build_path(app, sha256), uid)
    return {path: {"old": reason, "new": None} for path, reason in lost.items()}


def _build_path(app, sha256):
    return f"{ROOT}/{app}/builds/{sha256[:12]}"


def is_due(app):
    """Tell whether an app that serves will have a new release, as far as that can be told early in a run.

    :param app: the app's name.
    :return: a boolean.
    :raises CommandExecutionError: when its config cannot be made.

    CLI Example: none, it serves the state ``contract.begun``.
    """
    one, current = _settings(app), __salt__["release_store.current"](app)
    return current is not None and not (_is_same(app, current, one) or _hold(app, current, one))


def _settings(app):
    if app not in __pillar__["app"]:
        known = ", ".join(sorted(__pillar__["app"])) or "none"
        raise CommandExecutionError(f"{app}: no app of this host has this name; expected one of {known}")
    return __pillar__["app"][app]


def _hold(app, current, one):
    """Return the hold that is in force, empty where none is."""
    held = __salt__["release_store.held"](app)
    if current is None or held.get("release") != current:
        return {}
    # Where that release is gone, what the pillar asked for then is not known, and may be what it asks for now.
    is_known = held["until"] == "another" and not __salt__["release_store.lost"](app, held["from"])
    # Another password of what is attached is no other config: what was left for good reason would come back.
    if is_known and not _is_same(app, held["from"], one, attachments=False):
        return {}
    return held


def held(app):
    """Return the hold of an app that is in force.

    :param app: the app's name.
    :return: ``release``, ``from``, ``until``, ``time`` and ``who``, and whether what is ``declared`` serves. Empty
        where the app is not held.

    CLI Example:

    .. code-block:: bash

        salt-call release.held tickets
    """
    one, current = _settings(app), __salt__["release_store.current"](app)
    found = _hold(app, current, one)
    return found | {"declared": _is_same(app, current, one)} if found else {}


def _check_formation(app, one, sha256):
    """Refuse a formation with a process type that a build, where it is on the host, does not have."""
    made = __salt__["release_store.build"](app, sha256)
    for kind, count in sorted(one["formation"].items()) if made else ():
        if count and kind not in made["processes"]:
            # No formation has the process type `release`: it runs once, in a release.
            known = ", ".join(sorted(made["processes"].keys() - {"release"})) or "none"
            raise CommandExecutionError(
                f"app.{app}.formation.{kind}: the Procfile of build {sha256[:12]} has no such process type; "
                f"expected one of {known}"
            )


def _check_contracts(app, sha256):
    """Refuse a build, where it is on the host, that other apps cannot live with; see the module contract."""
    made = __salt__["release_store.build"](app, sha256)
    if made:
        __salt__["contract.judge"](app, sha256, made)


def _is_same(app, number, one, attachments=True):
    """Tell whether a release is what is declared, as it is or but for how its attachments are reached."""
    wanted = {name: value.encode() for name, value in __salt__["attachment.environ"](app).items()}
    record = __salt__["release_store.record"](app, number)
    had = __salt__["release_store.environ"](app, number)
    if not attachments:
        for name in __salt__["attachment.shared"](app, number):
            # A part that a URL of today lacks is none.
            had |= {name: wanted[name]} if name in wanted else {}
    is_as_built = record.get("build") == one["build"]["sha256"] and record.get("grace") == one["grace"]
    return is_as_built and had == wanted


def _graces(app, number):
    """Return the graces of a release's process types.

    They are the release's, not the pillar's: supervisor would take other ones only by restarting the processes.
    """
    graces = __salt__["release_store.record"](app, number).get("grace")
    return graces if isinstance(graces, dict) and all(type(one) is int for one in graces.values()) else {}


def _ports(app, one, current, other=False):
    """Give the processes of the formation their ports: in the slot of the current release, or in the other one."""
    used = _used(app, current) if current else {}
    second = __salt__["process.ports"]({"web": 1}, one["port"], 1)["web.1"]
    slot = 1 if any(port and port >= second for port in used.values()) else 0
    return __salt__["process.ports"](one["formation"], one["port"], 1 - slot if other else slot)


def _used(app, number):
    """Return the ports of a release's processes, or ``None``, by process: as they are configured, or as they run."""
    return __salt__["process.configured"](app, number) or __salt__["process.running"](app, number)


def _novelty(app, one, current, number, ports):
    """Say what a new release changes: names of variables, never values."""
    new = {name: value.encode() for name, value in __salt__["attachment.environ"](app).items()}
    old = __salt__["release_store.environ"](app, current) if current else {}
    record = __salt__["release_store.record"](app, current) if current else {}
    changes = {"release": {"old": f"v{current}" if current else None, "new": f"v{number}"}}
    if record.get("build") != one["build"]["sha256"]:
        changes["build"] = {"old": record.get("build", "")[:12] or None, "new": one["build"]["sha256"][:12]}
    if current and record.get("grace") != one["grace"]:
        changes["grace"] = {"old": record.get("grace"), "new": one["grace"]}
    variables = compared(old, new)
    if variables:
        changes["variables"] = variables
    stopping = _used(app, current) if current else {}
    changes["processes"] = {"start": _programs(app, number, ports), "stop": _programs(app, current, stopping)}
    return changes


def _programs(app, number, ports):
    return sorted(f"{app}.v{number}.{process}" for process in ports)


def compared(old, new):
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


def _drift(app, number, ports):
    """Compare the current release's processes and servers with what they should be.

    Processes that were started just now, as all are with supervisor, have their time to come up.
    """
    deadline = time.monotonic() + __pillar__["app"][app]["health"]["grace"]
    while True:
        changes, coming = _differences(app, number, ports)
        if not changes or changes.keys() - coming or time.monotonic() > deadline:
            return changes
        time.sleep(POLL)


def _differences(app, number, ports):
    """Return what differs, see ``_drift``, and which of it are processes that may yet be coming up."""
    # A dry run that finds supervisor stopped says that it would start, and with it these.
    will_start = __opts__["test"] and not __salt__["process.is_up"]()
    changes, coming = ({}, set()) if will_start else _ailing(app, number, ports)
    files = {
        __salt__["process.path"](app, number): __salt__["process.rendered"](app, number, ports, _graces(app, number))
    }
    for path, text in files.items():
        if _read(path) != text:
            changes[path] = {"old": "as it was", "new": "as declared"}
    changes |= __salt__["release_store.misplaced"](app, number)
    for path in _unserved(app, ports):
        changes[f"{NGINX}/{path}"] = {"old": "as it was", "new": "as declared"}
    others = [other for _, other in __salt__["process.releases"](app) if other != number]
    stale = [__salt__["process.path"](app, other) for other in others]
    for path in [*stale, *__salt__["process.leftovers"](app), *__salt__["release_store.leftovers"](app)]:
        changes[path] = {"old": "left behind", "new": None}
    return changes, coming


def _ailing(app, number, ports):
    """Return the processes that do not run as they should, or should not run, and which of them may be coming up."""
    changes, wanted, coming = {}, set(_programs(app, number, ports)), set()
    found = __salt__["process.info"](app)
    for name in sorted(wanted | found.keys()):
        state = found.get(name, {}).get("state")
        if name not in wanted:
            changes[name] = {"old": in_words(state), "new": None}
        elif state != "RUNNING":
            changes[name] = {"old": in_words(state), "new": "runs"}
            # What has ended, supervisor starts again within a second.
            coming |= {name} if state in ("STARTING", "EXITED") else set()
    for name in set(__salt__["process.strays"](app)) - wanted:
        changes[name] = {"old": "left behind", "new": None}
    for process, port in ports.items():
        name = f"{app}.v{number}.{process}"
        if not port or name in changes:
            continue
        is_coming = found[name]["up"] < __pillar__["app"][app]["health"]["grace"]
        asked = (app, number, process, port)
        reason = _ask(*asked) if is_coming else _ask_patiently(*asked)
        if reason:
            changes[name] = {"old": reason, "new": "healthy"}
            coming |= {name} if is_coming and not isinstance(reason, Redirect) else set()
    return changes, coming


def in_words(state):
    """Say how a process is.

    :param state: what supervisor says, ``None`` where it does not know the process.
    """
    return STATES.get(state, "runs" if state == "RUNNING" else state or "is not known to supervisor")


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def _servers(app, ports):
    """Return the file of nginx's tree that names the web processes, if nginx serves the app here."""
    if app not in __pillar__["nginx"]["fronts"]:
        return {}
    return {__salt__["nginx_tree.upstream_path"](app): __salt__["nginx_tree.upstream"](filter(None, ports.values()))}


# --- Doing it ---------------------------------------------------------------------------------------------------------


@shown
def deploy(app):
    """Bring the declared release of an app to serve.

    :param app: the app's name.
    :return: the number of the ``release`` that serves, and what was ``told`` of the move to it: a sentence for each
        thing, such as a request that was cut off.
    :raises CommandExecutionError: when it was refused, with the step, the reason and what its processes logged last.

    CLI Example:

    .. code-block:: bash

        salt-call release.deploy tickets
    """
    with _locked(app):
        wanted = plan(app)
        current = __salt__["release_store.current"](app)
        one = _settings(app)
        asker = __salt__["contract.begin"](app) if wanted["new"] else None
        move = Move(app, wanted["number"], wanted["ports"], current, one, asker)
        try:
            if wanted["new"]:
                details = {key: wanted["changes"][key] for key in ("build", "variables") if key in wanted["changes"]}
                _take(DEPLOY, move, "serves", details)
            elif wanted["changes"]:
                # A release that was gone back to has less to migrate than is there.
                is_to_migrate = is_ill(wanted["changes"]) and not wanted["held"]
                _take(MEND if is_to_migrate else SETTLE, move)
        finally:
            if asker:
                asker.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(MIGRATED.format(app=app))
        return {"release": move.number, "told": move.told}


@shown
def migrate(app, sha256=None):
    """Run the process type ``release`` of what is declared, as a release does, and leave what serves as it is.

    :param app: the app's name.
    :param sha256: the digest of the build that whoever asks takes for the declared one.
    :return: what was done.
    :raises CommandExecutionError: when this host is told of another build, the app is held, the build is not on the
        host yet, or it failed, with what it logged last.

    CLI Example:

    .. code-block:: bash

        salt-call release.migrate tickets
    """
    with _locked(app):
        wanted, one = _movable(app, sha256), _settings(app)
        sha256 = one["build"]["sha256"]
        if not wanted["new"]:
            return f"{app}: v{wanted['number']} is what is declared; nothing to migrate"
        if not __salt__["release_store.build"](app, sha256):
            raise CommandExecutionError(
                f"{app}: build {sha256[:12]} is not on this host yet; converge its state app-build"
            )
        current = __salt__["release_store.current"](app)
        move = Move(app, wanted["number"], wanted["ports"], current, one)
        _take({name: DEPLOY[name] for name in ("clear", "stage", "release")}, move)
        __salt__["release_store.sweep"](app)
    return f"{app}: build {sha256[:12]} has run its process release"


def migrated(app, sha256):
    """Take note that another host has run the process type ``release`` of a build: this one's next release does not.

    :param app: the app's name.
    :param sha256: the build's digest.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.

    CLI Example:

    .. code-block:: bash

        salt-call release.migrated tickets 3a7bd3e2360a…
    """
    if not _movable(app, sha256)["new"]:
        return True
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(MIGRATED.format(app=app), "w", encoding="ascii") as stream:
        stream.write(_migration(app, sha256))
    return True


def _migration(app, sha256):
    """Return a digest of what the process type ``release`` of a build would run with: its code and its config."""
    ran = json.dumps([sha256, __salt__["attachment.environ"](app)], sort_keys=True)
    return hashlib.sha256(ran.encode()).hexdigest()


@shown
def movable(app, sha256=None):
    """Tell that a release would bring an app on to what is declared, on this host. Nothing is done.

    :param app: the app's name.
    :param sha256: the digest of the build that whoever asks takes for the declared one.
    :return: true.
    :raises CommandExecutionError: when this host is told of another build, or the app is held.

    CLI Example:

    .. code-block:: bash

        salt-call release.movable tickets
    """
    _movable(app, sha256)
    return True


def _movable(app, sha256):
    """Return what is to be done (see ``plan``) for an app that a release is to bring on.

    :param sha256: see ``movable``.
    :raises CommandExecutionError: when this host is told of another build, as its pillar is of before, or it is held.
    """
    told = _settings(app)["build"]["sha256"]
    if sha256 not in (None, told):
        raise CommandExecutionError(
            f"{app}: this host is told to run build {told[:12]}, and is asked for {sha256[:12]}; expected the same, "
            "which saltutil.refresh_pillar may bring"
        )
    wanted = plan(app)
    if wanted["held"]:
        raise CommandExecutionError(
            f"{app}: v{wanted['number']} is held, and what is declared would not come to serve; expected another build "
            f"or config in the pillar than the one that was left, or first release.unhold {app}"
        )
    return wanted


@shown
def verify(*apps):
    """Ask the releases that serve whether they are as declared, healthy, as their contracts say, and without errors.

    :param apps: the apps' names, all of this host's where none is given.
    :return: what serves, by app.
    :raises CommandExecutionError: with what is wrong, and what its processes logged of it.

    CLI Example:

    .. code-block:: bash

        salt-call release.verify
        salt-call release.verify tickets
    """
    return {app: _verified(app) for app in apps or sorted(__pillar__["app"])}


def _verified(app):
    _settings(app)
    wanted = plan(app)
    number = wanted["number"]
    if wanted["changes"]:
        what = ", ".join(sorted(wanted["changes"]))
        raise CommandExecutionError(f"{app}: v{number} is not as declared ({what}); salt-call state.apply says why")
    if dead := dying(app, number):
        raise CommandExecutionError(f"{app}: {'; '.join(dead)}")
    sha256 = __salt__["release_store.record"](app, number).get("build") or ""
    if damage := __salt__["build.damage"](app, sha256, deeply=True):
        raise CommandExecutionError(
            f"{app}: build {sha256[:12]} is damaged: {damage}; salt-call build.unpack {app} deeply=True puts the "
            "declared build right, while its processes go on"
        )
    move = Move(app, number, wanted["ports"], number, _settings(app))
    try:
        _contract(move)
    except Refusal as error:
        raise CommandExecutionError(f"{app}: v{number}: {error}") from error
    if lines := _errors(app, number):
        text = "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
        text = masked(text, __salt__["attachment.environ"](app))
        raise CommandExecutionError(f"{app}: v{number} has logged {len(lines)} errors, at last:\n{text}")
    return f"v{number} serves, without an error in its log"


def _errors(app, number):
    """Return the lines that tell of errors, in the log of a release's processes.

    They count since the processes were started, or since the host was drained, where that is later.
    """
    up = max((one["up"] for one in __salt__["process.info"](app, number).values()), default=0)
    since = max(time.time() - up - 1, __salt__["drain.since"]())
    own = [f"_UID={pwd.getpwnam(app).pw_uid}"]
    lines = _texts(__salt__["journal.lines"](own, raw=True, since=f"@{int(since)}", lines=LOG_READ))
    return errors_in(lines)


def errors_in(lines):
    """Return the lines that tell of an error of the release.

    :param lines: of a log. What somebody has asked for stands in a line of an access log, and tells of nothing. What a
        client provokes is no error of the release: a host that is not the app's, a request that is given up.
    """
    found, index = [], 0
    while index < len(lines):
        if lines[index].startswith(TRACEBACK):
            end, reason = _traceback_end(lines, index)
            if not CLIENTS.search(reason):
                found.append(lines[index])
            elif index and found and found[-1] is lines[index - 1]:
                # The line that came with it.
                found.pop()
            index = end
            continue
        if _is_grave(lines[index]) and not ACCESS.search(lines[index]) and not CLIENTS_LINE.search(lines[index]):
            found.append(lines[index])
        index += 1
    return found


def _is_grave(line):
    """Tell whether a line is one of an error, by the level that it names itself."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            levels = [str(said[key]).lower() for key in ("level", "levelname", "severity") if key in said]
            if levels:
                return levels[0] in GRAVE
    level = LEVEL.search(line)
    return bool(level) and (level[1] or level[2]).lower() in GRAVE


def _traceback_end(lines, index):
    """Return where a traceback ends, with those that it is chained to, and the line of its last exception."""
    while True:
        index += 1
        while index < len(lines) and (lines[index].startswith(" ") or not lines[index]):
            index += 1
        reason = lines[index] if index < len(lines) else ""
        index += 1
        after = [line for line in lines[index : index + 4] if line]
        if len(after) < 2 or not CHAINED.match(after[0]) or not after[1].startswith(TRACEBACK):
            return index, reason
        while not lines[index].startswith(TRACEBACK):
            index += 1


def is_ill(changes):
    """Tell whether a process of the current release is to become healthy.

    :param changes: see ``plan``.
    """
    return any(change["new"] == "healthy" for change in changes.values())


@contextlib.contextmanager
def _locked(app):
    """Keep others from moving an app's releases meanwhile. They wait."""
    # Not in /run/lock, where anybody may be first.
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    with open(f"{LOCKS}/{app}.lock", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _take(steps, move, event=None, details=None):
    """Take the steps of a move, in order; take back what was begun where one cannot be taken."""
    started = time.time()
    for name, step in steps.items():
        try:
            step(move)
        except (Refusal, CommandExecutionError, OSError) as error:
            reason = _message(move, name, error, started)
            _take_back(move, reason)
            raise CommandExecutionError(reason) from error
        except BaseException as error:
            _interrupted(steps, name, move, error, started)
            if event and __salt__["release_store.current"](move.app) == move.number:
                _note(move, event, details)
            raise
    if event:
        _note(move, event, details)


def _note(move, event, details):
    __salt__["release_store.note"](move.app, event, move.number, left=move.left, **(details or {}))


def _interrupted(steps, name, move, error, started):
    """Leave one release alone running, when a signal or a mistake of ours ends the run: the one that serves.

    :param steps: of the move.
    :param name: of the step that was under way.
    :param error: what the signal's handler raised, or the mistake.
    :param started: when the move began, in seconds since 1970.
    """
    if __salt__["release_store.current"](move.app) != move.number:
        reason = _message(move, name, Refusal(f"the run was ended by {ended_by(error)}"), started)
        _take_back(move, reason, is_patient=False)
    elif name in AFTER:
        cut = __salt__["in_flight.drain"](_leaving(move), move.app, 0, 0)
        _tell_of(move, cut_off(cut, dict.fromkeys(cut, f"when the run was ended by {ended_by(error)}")))
        # Nobody waits for requests any more.
        for after in list(steps)[list(steps).index(name) :]:
            with contextlib.suppress(Refusal, CommandExecutionError, OSError):
                steps[after](move) if after != "drain" else None


def ended_by(error):
    """Say which signal ended a run.

    :param error: what its handler raised; see ``bootstrap.sh``.
    """
    if isinstance(error, KeyboardInterrupt):
        return "SIGINT"
    if isinstance(error, Exception):
        return type(error).__name__
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        return signal.Signals(error.code - 128).name
    return "a signal"


def _clear(move):
    """Remove what an interrupted run left behind, with nginx on the current release first."""
    app, left = move.app, move.left
    if left is not None:
        __salt__["process.keep"](app, left, _graces(app, left))
    others = [number for _, number in __salt__["process.releases"](app) if number != left]
    if others and left is not None:
        # It may have been interrupted between the switch of nginx and that of the link.
        _serve_again(app, left)
        _wait_for_requests(move, _servers_of(app, others), others)
    _stop_others(app, left)
    __salt__["release_store.sweep"](app)


def _stage(move):
    """Write the new release."""
    environ, sha256 = __salt__["attachment.environ"](move.app), move.one["build"]["sha256"]
    provides = {version: one["path"] for version, one in move.one["provides"].items()}
    attached = __salt__["attachment.targets"](move.app)
    __salt__["release_store.stage"](move.app, move.number, sha256, move.one["grace"], environ, provides, attached)


def _release(move):
    """Run the process type ``release`` once, if there is one, and wait for its end."""
    record = __salt__["release_store.record"](move.app, move.number)
    if "release" not in record["processes"]:
        return
    # The note is of a release that another host has migrated for. One that serves and is ill may have lost its data.
    note = _read(MIGRATED.format(app=move.app)) if move.number != move.left else None
    if note and note == _migration(move.app, record.get("build", "")):
        return
    # Another app host may migrate the same database just now. Who comes second fails, and then finds it done.
    for attempt in range(1 if __pillar__["nginx"]["alone"] else RELEASE_ATTEMPTS):
        time.sleep(RELEASE_PAUSE if attempt else 0)
        returncode = _run_release(move)
        if not returncode:
            return
    raise Refusal(ending(returncode), "release")


def _run_release(move):
    """Run the process type ``release``, and return how it ended."""
    timeout = move.one["release_timeout"]
    # It ends with the run that started it, so that no migration goes on behind the next one's back.
    bound = ["setpriv", "--pdeathsig", "TERM"]
    command = [*bound, "/usr/local/lib/saltern/process", move.app, str(move.number), "release"]
    # Nothing of root's goes with it: no variable, and neither its terminal nor what it prints to.
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **streams, env={"PATH": os.defpath}, start_new_session=True) as process:
        try:
            process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise Refusal(f"not done after {timeout} s (app.{move.app}.release_timeout)", "release") from None
        except BaseException:
            # The release is taken back: what it began is not to go on meanwhile.
            process.terminate()
            raise
    return process.returncode


def ending(returncode):
    """Say how a process ended.

    :param returncode: as ``subprocess`` gives it.
    """
    return f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"


def _start(move):
    """Start the processes of a release beside those that run."""
    before = __salt__["process.configured"](move.app, move.number)
    __salt__["process.apply"](move.app, move.number, before | move.ports, _graces(move.app, move.number))


def _health(move):
    """Wait until each process is up, and each web process healthy, which says so before supervisor does."""
    _wait(move, "STARTING", "RUNNING")


def _running(move):
    """Wait until each web process has been up for the second after which supervisor calls it running, too.

    It has requests by then; those that it replaces are there yet, and get them again if it ends.
    """
    _wait(move, "RUNNING")


def _wait(move, *web_states):
    """Wait until each process is up, and each web process healthy.

    A new process that ends by itself is given up at once. A process of the serving release may still be waiting for
    what it attaches, and has its grace.

    :param web_states: what supervisor may say of a web process.
    """
    app, health = move.app, move.one["health"]
    is_new = move.number != move.left
    deadline = time.monotonic() + health["grace"]
    pids, healthy = move.pids, set()
    while True:
        info, reasons = __salt__["process.info"](app, move.number), {}
        for process, port in move.ports.items():
            one = info.get(f"{app}.v{move.number}.{process}", ABSENT)
            restarted = pids.get(process, 0) not in (0, one["pid"])
            pids[process] = one["pid"]
            if restarted or one["state"] in ("BACKOFF", "EXITED", "FATAL"):
                if is_new:
                    how = _last_end(app, f"{app}.v{move.number}.{process}") or one["exit"]
                    raise Refusal(f"{process} ended by itself, {how}{_taken(port)}", process)
                healthy.discard(process)
            if one["state"] not in (("RUNNING",) if port is None else web_states):
                reasons[process] = in_words(one["state"])
            elif port is None and one["up"] < (health["settle"] if is_new else 1):
                reasons[process] = "not yet up for long"
            elif port is not None and process not in healthy:
                reason = _ask(app, move.number, process, port)
                if isinstance(reason, Redirect):
                    raise Refusal(reason, process)
                if reason:
                    reasons[process] = reason
                else:
                    healthy.add(process)
        if not reasons:
            return
        if time.monotonic() > deadline:
            process, reason = next(iter(reasons.items()))
            where = _elsewhere(app, move.number, process, move.ports[process])
            raise Refusal(f"{process} is not healthy within {health['grace']} s: {reason}{where}", process)
        time.sleep(POLL)


def _elsewhere(app, number, process, port):
    """Say where a web process listens that does not at its port, for the end of a sentence; nothing where it does."""
    if port is None:
        return ""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return ""
    found = __salt__["listener.ports"](__salt__["process.pids"](app, number, process))
    ports = " and ".join(f"{one} of another address" if one == port else str(one) for one in found)
    listens = f"it listens on port {ports}" if found else "it listens on no port"
    return f"; {listens}, and is expected at 127.0.0.1:{port} (the variable PORT)"


def _contract(move):
    """Ask the web processes what the build's OpenAPI documents say that they answer."""
    # Of an app that is held another build serves than the declared one.
    sha256 = __salt__["release_store.record"](move.app, move.number).get("build", "")
    wrong, process = __salt__["contract.ask"](move.app, move.number, sha256, move.ports, move.asker)
    if wrong:
        raise Refusal(wrong, process)


def _taken(port):
    """Say who has the port of a process that has ended, for the end of a sentence; nothing where nobody has."""
    stranger = __salt__["listener.stranger"](port, ()) if port else None
    return f"; port {port} is taken by {stranger}" if stranger else ""


def _ask(app, number, process, port):
    """Ask a web process for its health; return what is wrong, or ``None``. Nobody else may answer in its place."""
    one = __pillar__["app"][app]
    health = one["health"]
    headers = {"Host": (one["domains"] or ["localhost"])[0], "X-Forwarded-Proto": "https", "User-Agent": "saltern"}
    deadline = time.monotonic() + health["timeout"]
    try:
        # Every converge asks: requests alone would take longer to import than all the answers together.
        with socket.create_connection(("127.0.0.1", port), timeout=health["timeout"]) as stream:
            stranger = __salt__["listener.stranger"](port, __salt__["process.pids"](app, number, process))
            if stranger:
                return f"port {port} is taken by {stranger}"
            status, location = answer(stream, health["path"], headers, deadline)
    except TimeoutError:
        return f"{health['path']} did not answer within {health['timeout']} s"
    except OSError as error:
        return f"{health['path']} cannot be asked ({type(error).__name__})"
    except http.client.HTTPException as error:
        return f"{health['path']} answered what is no HTTP ({type(error).__name__})"
    return answered(app, health, status, location)


def answered(app, health, status, location):
    """Return what is wrong with an answer to the question for its health, or ``None``.

    :param app: the app's name.
    :param health: its settings of that question.
    :param status: the answer's.
    :param location: its header ``Location``, or ``None``.
    """
    if status == health["status"]:
        return None
    if not (300 <= status < 400 and location):
        return f"{health['path']} answered {status}, not {health['status']}"
    # Of an address its path alone: the rest may be anybody's.
    where = ""
    with contextlib.suppress(ValueError):
        address = urlsplit(location)
        where, location = ", at another address" if address.netloc else "", address.path or "/"
    shown = "".join(char if " " < char <= "~" else "?" for char in location[:LONGEST_PATH])
    where = f"itself{where}" if shown == health["path"] else shown
    return Redirect(
        f"{health['path']} answered {status}, which leads to {where}; expected {health['status']} from itself. "
        f"Set app.{app}.health.path to one that answers so, or have the app redirect all but this path"
    )


def _ask_patiently(*asked):
    """Ask a web process that has served for a while: for one slow answer it would not be worth a restart."""
    for _ in range(ASKED - 1):
        if not _ask(*asked):
            return None
        time.sleep(PAUSE)
    return _ask(*asked)


def _switch(move):
    """Have nginx send requests to the release's web processes."""
    _serve(move.app, move.ports)


def _serve(app, ports):
    texts = _unserved(app, ports)
    if texts:
        __salt__["nginx_tree.promote"](NGINX, texts)


def _serve_again(app, number):
    """Have nginx send requests to the web processes that a release has, if it is known which these are."""
    ports = _used(app, number)
    if any(ports.values()):
        _serve(app, ports)


def _unserved(app, ports):
    """Return what nginx is to have of the web processes and has not: another text, or one that it has not read yet."""
    texts = _servers(app, ports)
    is_stale = __salt__["nginx_tree.is_stale"]
    return {path: text for path, text in texts.items() if _read(f"{NGINX}/{path}") != text or is_stale(NGINX, [path])}


def _point(move):
    """Make the release the current one."""
    __salt__["release_store.point"](move.app, move.number)
    held = __salt__["release_store.held"](move.app)
    if held and held.get("release") != move.number:
        __salt__["release_store.unhold"](move.app)


def _workers(move):
    """Tell processes without a port to end: no scheduler ticks twice while requests are waited for."""
    app, number = move.app, move.number
    for _, other in __salt__["process.releases"](app):
        wanted = move.ports if other == number else {}
        configured = __salt__["process.configured"](app, other)
        leaving = [name for name, port in configured.items() if port is None and name not in wanted]
        if leaving:
            __salt__["process.tell"](app, other, leaving)


def _drain(move):
    """Let requests in flight end, where a web process is to be stopped."""
    _wait_for_requests(move, _leaving(move), [move.left])


def _leaving(move):
    """Return the addresses of the web processes that are to be stopped."""
    app = move.app
    others = [number for _, number in __salt__["process.releases"](app) if number != move.number]
    configured = __salt__["process.configured"](app, move.number)
    own = [f"127.0.0.1:{port}" for name, port in configured.items() if port and name not in move.ports]
    return own + _servers_of(app, others)


def _servers_of(app, numbers):
    """Return the addresses of the web processes of releases."""
    ports = [port for number in numbers for port in __salt__["process.configured"](app, number).values()]
    return [f"127.0.0.1:{port}" for port in ports if port]


def _wait_for_requests(move, servers, numbers):
    """Wait until nginx has in flight nothing for some servers, and tell what had not ended in its time."""
    if not servers:
        return
    limits = move.one["in_flight"]
    what = f"{move.app}: {' and '.join(f'v{number}' for number in numbers if number is not None)}"
    cut = __salt__["in_flight.drain"](servers, move.app, limits["requests"], limits["streams"], what)
    _tell_of(
        move, cut_off(cut, {kind: f"not ended in {limits[kind]} s (app.{move.app}.in_flight.{kind})" for kind in cut})
    )


def _tell_of(move, what, number=None):
    """Tell, and note, what a move did to requests; nothing where ``what`` is empty.

    :param number: the release that they were of, the one that was left where it is not given.
    """
    number = number or move.left or move.number
    if what:
        move.told.append(f"v{number}: {what}")
        __salt__["release_store.note"](move.app, "cut off", number, reason=what)


def cut_off(cut, why):
    """Say how many requests and streams a move cut off, empty where it was none.

    :param cut: how many of each kind, ``requests`` and ``streams``.
    :param why: the end of the sentence, by kind.
    """
    worded = __salt__["in_flight.worded"]
    return "; ".join(f"{worded(count, kind)} cut off, {why[kind]}" for kind, count in sorted(cut.items()) if count)


def _stop(move):
    """Stop what is not to run any more: other releases, and processes that the formation no longer has."""
    started = time.time()
    configured = [__salt__["process.configured"](*one) for one in __salt__["process.releases"](move.app)]
    names = {name for ports in configured for name in ports}
    _stop_others(move.app, move.number)
    if __salt__["process.configured"](move.app, move.number) != move.ports:
        __salt__["process.apply"](move.app, move.number, move.ports, _graces(move.app, move.number))
    if time.time() > started + SOON:
        _tell_of(move, _killed(move.app, names, started))


def _killed(app, processes, since):
    """Say which processes of an app were killed, since they had not ended within their grace.

    :param processes: such as ``web.1``.
    :param since: seconds since 1970.
    """
    # What their launcher says of it, which is root's.
    command = ["journalctl", "-q", "-o", "cat", "_UID=0", "--since", f"@{int(since)}", "-g", " had not ended within "]
    command += [word for name in sorted(processes) for word in ("-t", f"{app}[{name}]")]
    lines = __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True).splitlines()
    return killed_in(lines, app)


def killed_in(lines, app):
    """Say which processes of an app were killed, empty where it was none.

    :param lines: of their launchers.
    :param app: the app's name.
    """
    found = [match for line in lines if (match := KILLED.match(line))]
    return "; ".join(
        f"{process} was killed after {grace} s (app.{app}.grace.{process.partition('.')[0]})"
        for process, grace in sorted({(match[2], match[3]) for match in found})
    )


def _stop_others(app, number):
    others = [other for _, other in __salt__["process.releases"](app) if other != number]
    own = __salt__["process.info"](app, number) if number is not None else {}
    strays = __salt__["process.info"](app).keys() - own.keys()
    strays |= set(__salt__["process.strays"](app))
    if others or strays or __salt__["process.leftovers"](app):
        __salt__["process.remove"](app, others)


def _prune(move):
    """Drop what is too old to go back to, and what was left behind."""
    if __salt__["release_store.held"](move.app).get("until") == "another" and _is_same(move.app, move.number, move.one):
        __salt__["release_store.unhold"](move.app)
    __salt__["release_store.sweep"](move.app)
    __salt__["release_store.prune"](move.app, move.one["keep_releases"], move.one["build"]["sha256"])


# The steps of a new release.
DEPLOY = {
    "clear": _clear,
    "stage": _stage,
    "release": _release,
    "start": _start,
    "health": _health,
    "contract": _contract,
    "switch": _switch,
    "running": _running,
    "point": _point,
    "workers": _workers,
    "drain": _drain,
    "stop": _stop,
    "prune": _prune,
}


def _mend(move):
    """Have the files of the current release, and the link to it, where its processes look for them."""
    __salt__["release_store.mend"](move.app, move.number)


# The steps that bring the current release to what it should be, scaling among them.
SETTLE = {"mend": _mend} | {
    name: DEPLOY[name] for name in ("start", "health", "switch", "running", "workers", "drain", "stop", "prune")
}

# The steps after which one release alone runs, however they were interrupted: the new one.
AFTER = ("point", "mark", "workers", "drain", "stop", "prune")

# And where a process says that it cannot serve: what it migrated may be gone, its database host made anew.
MEND = {"mend": _mend, "release": DEPLOY["release"]} | SETTLE


def _take_back(move, reason, is_patient=True):
    """Take back a release that did not come to serve, and note why.

    :param move: to it.
    :param reason: for people.
    :param is_patient: whether to wait for requests that it has taken already.
    """
    app, left = move.app, move.left
    if __salt__["release_store.current"](app) == move.number:
        return
    with contextlib.suppress(CommandExecutionError, OSError):
        if left is not None:
            _serve_again(app, left)
            # Between the switch and the link it may have been sent requests.
            limits = move.one["in_flight"] if is_patient else {"requests": 0, "streams": 0}
            servers, what = _servers_of(app, [move.number]), f"{app}: v{move.number}"
            cut = __salt__["in_flight.drain"](servers, app, limits["requests"], limits["streams"], what)
            _tell_of(move, cut_off(cut, dict.fromkeys(cut, "when it was taken back")), move.number)
        _stop_others(app, left)
    with contextlib.suppress(OSError):
        if __salt__["release_store.outcome"](app, move.number) == "":
            __salt__["release_store.mark"](app, move.number, f"refused: {reason.splitlines()[0]}")
            __salt__["release_store.note"](app, "refused", move.number, left=left, reason=reason.splitlines()[0])
        __salt__["release_store.sweep"](app)
        __salt__["release_store.prune"](app, move.one["keep_releases"], move.one["build"]["sha256"])


# --- Going back -------------------------------------------------------------------------------------------------------


@shown
def rollback(app, number=None, force=False, declared=False):
    """Go back to an earlier release, its config included, and hold the app there.

    What it attaches it reaches as the release that serves does: the passwords of before may be closed by now. It holds
    until the pillar asks for another build or config than the one that was left.

    :param app: the app's name.
    :param number: the release to go back to. Without it, the last one that served before the current one and was
        not itself left for an earlier one.
    :param force: go back across a migration, to a build without a version that is attached, or to a release that has
        attached what is not there any more.
    :param declared: go back from what is declared alone, as for a fleet: a host that has gone back already stays, and
        one on which what is declared never came to serve stays too, and is held.
    :return: what was done.
    :raises CommandExecutionError: when there is no such release, a migration lies between, a version is not in it, or
        what it has attached is not there any more.

    CLI Example:

    .. code-block:: bash

        salt-call release.rollback tickets
        salt-call release.rollback tickets 11 force=True
    """
    one = _settings(app)
    with _locked(app):
        current = __salt__["release_store.current"](app)
        if current is None:
            raise CommandExecutionError(f"{app}: no release serves; expected one to go back from")
        if declared and _hold(app, current, one):
            return f"{app}: v{current} serves and is held already"
        if declared and not _is_same(app, current, one):
            __salt__["release_store.hold"](app, current, None, "unhold")
            __salt__["release_store.note"](app, "held", current)
            why = f"what is declared does not serve; held until release.unhold {app}"
            return f"{app}: v{current} stays: {why}"
        target = _target(app, current, number)
        _check_whole(app, target)
        crossed = _crossed(app, current, target)
        if crossed and not force:
            raise CommandExecutionError(
                f"{app}: {crossed}. If v{target} works with what that left, go back with force=True"
            )
        sha256 = __salt__["release_store.record"](app, target)["build"]
        dropped = __salt__["contract.dropped"](app, sha256)
        if dropped and not force:
            raise CommandExecutionError(
                f"{app}: v{target} lacks {'; '.join(dropped)}. If it can do without, go back with force=True"
            )
        attached, missing = __salt__["attachment.renewed"](app, target, current)
        if missing and not force:
            raise CommandExecutionError(
                f"{app}: v{target} cannot work: {'; '.join(missing)}. Declare it again and converge, or, if v{target} "
                "can do without, go back with force=True"
            )
        _check_formation(app, one, sha256)
        move = Move(app, target, _ports(app, one, current, other=True), current, one)
        held = _hold(app, current, one)
        until = held.get("until", "another")
        wanted = held.get("from", current)

        def attach(_):
            __salt__["release_store.attach"](app, target, attached)

        def hold_it(_):
            __salt__["release_store.hold"](app, target, wanted, until)

        def mark_left(_):
            __salt__["release_store.mark"](app, current, "rolled back" if target < current else "serving")

        steps = {"clear": _clear, "attach": attach} | {name: DEPLOY[name] for name in ("start", "health")}
        steps |= {"hold": hold_it, "switch": _switch, "running": _running, "point": _point, "mark": mark_left}
        steps |= {name: DEPLOY[name] for name in ("workers", "drain", "stop", "prune")}
        try:
            _take(steps, move, "rolled back to", {"variables": _between(app, current, target)})
        except CommandExecutionError:
            if __salt__["release_store.current"](app) == current:
                __salt__["release_store.unhold"](app)
                if held:
                    __salt__["release_store.hold"](app, current, held["from"], held["until"])
            raise
        return "; ".join([f"{app}: v{target} serves and is held; v{current} was left", *move.told])


def _target(app, current, number):
    """Return the release to go back to."""
    served = [n for n in __salt__["release_store.numbers"](app) if _can_serve(app, n) and n != current]
    if number is None:
        good = [n for n in served if n < current and __salt__["release_store.outcome"](app, n) == "serving"]
        if not good:
            raise CommandExecutionError(f"{app}: no release before v{current} is there to go back to")
        return good[-1]
    text = str(number).removeprefix("v")
    if not text.isdigit() or int(text) not in served:
        known = ", ".join(f"v{n}" for n in served) or "none"
        raise CommandExecutionError(f"{app}: {number}: no release to go back to; expected one of {known}")
    return int(text)


def _can_serve(app, number):
    build = __salt__["release_store.record"](app, number).get("build", "")
    is_there = bool(__salt__["release_store.build"](app, build))
    return is_there and __salt__["release_store.outcome"](app, number) in ("serving", "rolled back")


def _check_whole(app, target):
    """Refuse to go back to a release of which something is missing on the host."""
    sha256 = __salt__["release_store.record"](app, target)["build"]
    found = [f"{path} {what}" for path, what in __salt__["release_store.lost"](app, target).items()]
    if damage := __salt__["build.damage"](app, sha256, deeply=True):
        found.append(f"{_build_path(app, sha256)} is damaged: {damage}")
    if found:
        raise CommandExecutionError(
            f"{app}: v{target} could not be started: {'; '.join(found)}; expected another release, or those put back"
        )


def _crossed(app, current, target):
    """Return why going from one release to an earlier one may meet a database that it does not know, or ``None``."""
    records = {n: __salt__["release_store.record"](app, n) for n in __salt__["release_store.numbers"](app)}
    between = {current, *(number for number in records if target < number < current)}
    for number in sorted(number for number in between if "build" not in records.get(number, {})):
        return f"what v{number} has migrated is not known, since its release.json cannot be read"
    # Which migrations a build brings, and by which wheels, it says itself.
    records = {n: __salt__["release_store.build"](app, one.get("build", "")) | one for n, one in records.items()}
    return migration_between(records, current, target)


def migration_between(records, current, target):
    """Find a migration between two releases.

    A build says which migrations it has, by digests of their files, and whether the builds before it work with what its
    own leave.

    :param records: what each release and its build are, by number.
    :param current: the release that serves.
    :param target: the release to go to.
    :return: a sentence, or ``None``.
    """
    untold = None
    for number in sorted((n for n in records if target < n <= current), reverse=True):
        record = records[number]
        # Who is to run them is the process type `release`, and nobody else.
        if record["build"] == records[target]["build"] or "release" not in record.get("processes", {}):
            continue
        if record.get("reversible"):
            continue
        of, why = new_migrations(record, records[target])
        if of is not None:
            return f"v{number} has run migrations{of} that v{target} does not have"
        if why:
            untold = untold or (
                f"it cannot be told whether v{number} has run migrations that v{target} does not have: {why}"
            )
    return untold


def new_migrations(record, other):
    """Tell whether a release has migrations that another one has not.

    :param record: what it and its build are.
    :param other: the same of the other one.
    :return: whose they are, in words, or ``None``; and why that cannot be told, or ``None``.
    """
    installed, its = record.get("installed_migrations"), other.get("installed_migrations")
    if installed is not None and its is not None:
        named = sorted(name for name, digest in installed.items() if its.get(name) != digest)
        if named == ["unknown"]:
            return None, "there are none of a kind that Saltern knows, and their code differs"
        shown = ", ".join("its code" if name == "code" else name for name in named)
        return (f" of {shown}", None) if named else (None, None)
    # Earlier builds only say which their own code has.
    own, theirs = record.get("migrations"), other.get("migrations")
    if own is not None and own != theirs:
        return "", None
    is_alike = record.get("wheels") is not None and record["wheels"] == other.get("wheels")
    is_known = own is not None or theirs is not None or "unknown" not in (installed or its or {"unknown": ""})
    if is_alike and is_known:
        return None, None
    return None, "an earlier bin/build made one of their builds, which does not say what its wheels migrate"


def _between(app, old, new):
    store = "release_store.environ"
    return compared(__salt__[store](app, old), __salt__[store](app, new))


def hold(app):
    """Hold an app at its current release, whatever the pillar asks for, until ``release.unhold``.

    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when no release serves.

    CLI Example:

    .. code-block:: bash

        salt-call release.hold tickets
    """
    _settings(app)
    with _locked(app):
        current = __salt__["release_store.current"](app)
        if current is None:
            raise CommandExecutionError(f"{app}: no release serves; expected one to hold")
        __salt__["release_store.hold"](app, current, None, "unhold")
        __salt__["release_store.note"](app, "held", current)
    return f"{app}: v{current} is held until release.unhold {app}"


def unhold(app):
    """Let the next converge move an app on again.

    :param app: the app's name.
    :return: what was done.

    CLI Example:

    .. code-block:: bash

        salt-call release.unhold tickets
    """
    _settings(app)
    with _locked(app):
        held = __salt__["release_store.held"](app)
        if not held:
            return f"{app}: is not held"
        __salt__["release_store.unhold"](app)
        __salt__["release_store.note"](app, "no longer held", held["release"])
    return f"{app}: v{held['release']} is no longer held; the next converge brings what the pillar asks for"


# --- Telling ----------------------------------------------------------------------------------------------------------


def reason_of(outcome):
    """Return why a release was refused, without the announcement of log lines, which a table has no place for."""
    return re.sub(r"\. \S+ logged last:\Z", "", outcome.partition(": ")[2])


def list_(app):
    """List an app's releases on this host, newest first.

    :param app: the app's name.
    :return: a mapping for each.

    CLI Example:

    .. code-block:: bash

        salt-call release.list tickets
        salt-call release.list tickets --out json
    """
    one = _settings(app)
    current = __salt__["release_store.current"](app)
    held = _hold(app, current, one)
    rows = []
    for number in reversed(__salt__["release_store.numbers"](app)):
        record = __salt__["release_store.record"](app, number)
        outcome = __salt__["release_store.outcome"](app, number)
        state = outcome.partition(":")[0] or "interrupted"
        if number == current:
            state = "serving, held" if held else "serving"
        elif state == "serving":
            state = "earlier"
        rows.append(
            {
                "release": f"v{number}",
                "state": state,
                "version": record.get("version", ""),
                "build": record.get("build", "")[:12],
                "created": record.get("created", ""),
                "reason": reason_of(outcome),
            }
        )
    return __salt__["journal.shown"](rows)


def show(app, number=None):
    """Show a release: its build, its process types and the names of its variables.

    :param app: the app's name.
    :param number: the release, the current one where it is not given.
    :return: a mapping.
    :raises CommandExecutionError: when there is no such release.

    CLI Example:

    .. code-block:: bash

        salt-call release.show tickets 11
    """
    _settings(app)
    number = __salt__["release_store.current"](app) if number is None else number
    text = str(number).removeprefix("v")
    record = __salt__["release_store.record"](app, int(text)) if text.isdigit() else {}
    if not record:
        known = ", ".join(f"v{n}" for n in __salt__["release_store.numbers"](app)) or "none"
        raise CommandExecutionError(f"{app}: {number}: no such release; expected one of {known}")
    found = record | {"outcome": __salt__["release_store.outcome"](app, int(text)) or "interrupted"}
    # Of what runs: the limits are the app's, whichever release serves.
    is_current = int(text) == __salt__["release_store.current"](app)
    return __salt__["journal.shown"](found | ({"limits": __salt__["app_limits.shown"](app)} if is_current else {}))


def log(app):
    """Show what happened to an app's releases: who, when, what changed. Never a value of a variable.

    :param app: the app's name.
    :return: a mapping for each event, oldest first.

    CLI Example:

    .. code-block:: bash

        salt-call release.log tickets
    """
    _settings(app)
    rows = []
    for line in __salt__["release_store.log"](app):
        what = [f"build {line['build']['new']}"] if "build" in line else []
        what += [f"{kind} {', '.join(names)}" for kind, names in (line.get("variables") or {}).items()]
        what += [line["reason"]] if "reason" in line else []
        left = f" (from v{line['left']})" if line.get("left") else ""
        event = f"{line['event']}{left}"
        row = {"time": line["time"], "who": line["who"], "release": f"v{line['release']}", "event": event}
        rows.append(row | {"what": "; ".join(what)})
    return __salt__["journal.shown"](rows)


def dying(app, number):
    """Find processes that are up now and keep dying.

    :param app: the app's name.
    :param number: the release that serves.
    :return: a sentence for each.

    CLI Example: none, it serves the state ``release.current``.
    """
    if "saltern_ends" not in __context__:
        # Supervisor's own: an app's user may write as supervisord too, but not as root.
        own = ["_UID=0", "_SYSTEMD_UNIT=supervisor.service", "SYSLOG_IDENTIFIER=supervisord"]
        entries = __salt__["journal.lines"](own, since=f"-{DYING_WINDOW}s", grep=" exited: ")
        __context__["saltern_ends"] = [(_written(one), one["MESSAGE"].partition(" exited: ")[2]) for one in entries]
    since = __salt__["release_store.created"](app, number)
    ends = [end for time_, end in __context__["saltern_ends"] if time_ >= since]
    found = died(ends, __salt__["process.info"](app, number))
    ends = [_last_end(app, sentence.partition(" ")[0]) for sentence in found]
    return [f"{sentence}{end and ': '}{end}" for sentence, end in zip(found, ends, strict=True)]


def _last_end(app, name):
    """Return what the launcher of a process told of its last end, empty where it told nothing.

    Supervisor does not know that memory was short, and forgets how a process ended once it has started it again.
    """
    release, _, process = name.removeprefix(f"{app}.").partition(".")
    own, begins = [f"SYSLOG_IDENTIFIER={app}[{process}]", "_UID=0"], f"{release} {process} has ended: "
    since = max(time.time() - DYING_WINDOW, __salt__["release_store.created"](app, int(release.removeprefix("v"))))
    lines = _texts(__salt__["journal.lines"](own, since=f"@{int(since)}", grep=f"^{begins}", lines=1))
    return lines[-1].removeprefix(begins) if lines else ""


def died(ends, info):
    """Find the processes that keep dying; see ``dying``.

    :param ends: what supervisor said of each end, such as ``faq.v1.web.1 (exit status 1; not expected)``.
    :param info: the processes, by supervisor's name.
    """
    found = []
    for name, one in sorted(info.items()):
        its = [end for end in ends if end.startswith(f"{name} ")]
        if len(its) >= DYING_ENDS and one["up"] < DYING_UP:
            how = its[-1].partition("(")[2].partition(";")[0]
            found.append(f"{name} ended {len(its)} times in the last {DYING_WINDOW // 60} minutes, at last with {how}")
    return found


def _message(move, step, error, started):
    """Say which step failed, why, what serves, and what the process logged last."""
    app, number, current = move.app, move.number, __salt__["release_store.current"](move.app)
    if number == current:
        text = f"v{number} is not as declared, at the step {step}: {error}"
    else:
        serves = f"v{current} goes on serving" if current else "no release serves"
        text = f"v{number} was refused at the step {step}: {error}; {serves}"
    process = getattr(error, "process", None)
    lines = _last_lines(app, number, process, started) if process else []
    if lines:
        text += f". {app}[{process}] logged last:\n" + "\n".join(f"  {line}" for line in lines)
    return __salt__["journal.escaped"](masked(text, __salt__["attachment.environ"](app)))


def _last_lines(app, number, process, started):
    """Return the last lines that a process of a release logged, from its start to its end."""
    # What a process wrote just before its end may not have been read yet.
    __salt__["cmd.run_stdout"](["journalctl", "--sync"], python_shell=False, ignore_retcode=True)
    stream = __salt__["journal.stream"](app, number, process, started)
    options = {"raw": True, "since": f"@{int(started)}", "lines": LOG_LINES}
    if stream:
        found = __salt__["journal.lines"]([f"_STREAM_ID={stream}"], **options)
    else:
        # What never started has said nothing. Its launcher may have, which is root's.
        own = [f"SYSLOG_IDENTIFIER={app}[{process}]", "_UID=0"]
        found = __salt__["journal.lines"](own, grep=f"^v{number} ", **options)
    return _texts(found)[-LOG_LINES:]


def _written(entry):
    """Return when an entry of the journal was written, in seconds since 1970."""
    return int(entry.get("__REALTIME_TIMESTAMP") or 0) / 1_000_000


def _texts(entries):
    """Return what entries of the journal say, by the line."""
    return [line for entry in entries for line in entry.get("MESSAGE", "").split("\n")]


def masked(text, environ):
    """Put a variable's name in place of its value.

    :param text: what goes to people.
    :param environ: value by variable.
    :return: the text without values of eight or more characters, and without passwords that stand in them as in a URL.
    """
    secrets = [(value, name) for name, value in environ.items()]
    for name, value in environ.items():
        with contextlib.suppress(ValueError):
            password = urlsplit(value).password or ""
            secrets += [(password, name), (unquote(password), name)]
    for value, name in sorted(secrets, key=lambda secret: -len(secret[0])):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"<{name}>")
    return text
