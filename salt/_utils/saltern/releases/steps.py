"""The steps of a move to a release: a function of the ``Move`` for each, which raises what stands in its way.

A failure before the step ``switch`` leaves the serving release as it is. The next converge completes an interrupted
move, because each step first looks at what is there.
"""

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable

from saltern.attachments import config
from saltern.contracts import ask as asking
from saltern.releases import (
    ends,
    history,
    hold,
    migration,
    plan,
    published,
    scopes,
    serving,
    staging,
    store,
    supervisor,
)
from saltern.releases import process as processes
from saltern.releases.health import wait
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal
from saltern.system import files
from saltern.web import away, routes
from saltern.web import workers as nginx_workers

Step = Callable[[Move], None]
Steps = dict[str, Step]

# How many times a migration is tried where other hosts may run it too, and the seconds between.
ATTEMPTS = 3
PAUSE = 2

# Seconds after its grace in which a process that was told to end must be gone. Seconds between two looks.
LATE = 30
POLL = 0.1

# Supervisor's states of a process that has not ended.
UP = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")

# A process that stopped within so many seconds was not killed: no grace is shorter.
SOON = 1


def clear(move: Move) -> None:
    """Remove what an interrupted run left behind, with nginx on the current release first."""
    app, left = move.app, move.left
    if left is not None:
        supervisor.keep(app, left, store.graces(app, left))
    others = [number for _, number in processes.releases(app) if number != left]
    if others and left is not None:
        # That run may have been interrupted between the switch of nginx and that of the link.
        serve_left(move)
        serving.wait(move, serving.servers_of(app, others), others)
    stop_others(app, left)
    resume(move)
    staging.sweep(app)


def stage(move: Move) -> None:
    """Write the new release."""
    settings = move.settings
    environ, sha256 = config.environ(move.host, move.app), settings["build"]["sha256"]
    provides = {version: one["path"] for version, one in settings["provides"].items()}
    attached = config.targets(move.host, move.app)
    others = routes.others(settings)
    staging.stage(move.app, move.number, sha256, settings["grace"], others, environ, provides, attached)


def release(move: Move) -> None:
    """Run the process type ``release`` once, if there is one, and wait for its end."""
    record = store.record(move.app, move.number)
    if "release" not in record["processes"]:
        return
    # The note is of a release that another host has migrated for. One that serves and is ill may have lost its data.
    note = files.read(migration.MIGRATED.format(app=move.app), errors="replace") if move.number != move.left else None
    if note and note == migration.digest(move.host, move.app, record.get("build", "")):
        return
    # Another app host may migrate the same database right now. The second host fails, and then finds it done.
    for attempt in range(1 if move.host.pillar["nginx"]["alone"] else ATTEMPTS):
        time.sleep(PAUSE if attempt else 0)
        returncode = _run_release(move)
        if not returncode:
            return
    raise Refusal(ends.ending(returncode), "release")


def _run_release(move: Move) -> int:
    """Run the process type ``release``, and return how it ended."""
    timeout = move.settings["release_timeout"]
    # The migration ends with the run that started it, so that none goes on beside the next one.
    bound = ["setpriv", "--pdeathsig", "TERM"]
    command = [*bound, "/usr/local/lib/saltern/process", move.app, str(move.number), "release"]
    # The process gets nothing of root's: no variable, no terminal, no open output.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": os.defpath},
        start_new_session=True,
    ) as process:
        try:
            process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise Refusal(f"not done after {timeout} s (app.{move.app}.release_timeout)", "release") from None
        except BaseException:
            # The release is taken back, so what it began must end.
            process.terminate()
            raise
    return process.returncode


def start(move: Move) -> None:
    """Start the processes of a release beside those that run, but for those that wait until others have ended."""
    before, waiting = _standing(move), _waiting(move)
    now = {name: port for name, port in move.ports.items() if name not in waiting}
    supervisor.apply(move.app, move.number, before | now, store.graces(move.app, move.number))


def health(move: Move) -> None:
    """Wait until each process is up, and each that listens healthy, which says so before supervisor does."""
    waiting = _waiting(move)
    wait(move, {name: port for name, port in move.ports.items() if name not in waiting}, "STARTING", "RUNNING")


def _waiting(move: Move) -> processes.Ports:
    """Return the processes that start only when those of the same type of other releases have ended.

    Those that are alone in their environment are alone on their host too.
    """
    if all(number == move.number for _, number in processes.releases(move.app)):
        return {}
    order, before = move.settings["order"], _standing(move)
    return {
        name: port
        for name, port in move.ports.items()
        if name not in before and (port == processes.ALONE or order.get(name.partition(".")[0]) == "stop-first")
    }


def _standing(move: Move) -> processes.Ports:
    """Return the processes of the release that supervisor is to run: not those that were told to end."""
    ended = processes.ended(move.app, move.number)
    configured = processes.configured(move.app, move.number)
    return {name: port for name, port in configured.items() if name not in ended}


def succeed(move: Move) -> None:
    """End processes that must be alone, of other releases, and start those of this one in their place."""
    waiting = _waiting(move)
    # Those that listen come last: they are away for their own end and start alone.
    for is_listening in (False, True):
        _follow(move, {name: port for name, port in waiting.items() if bool(port) is is_listening})
    if move.asker and any(name.partition(".")[0] == routes.WEB for name in waiting):
        contract(move)


def _follow(move: Move, waiting: processes.Ports) -> None:
    """Start some processes when those of the same types of other releases have ended, and wait until they are up."""
    app, kinds = move.app, {name.partition(".")[0] for name in waiting}
    if not waiting:
        return
    _leave(move, kinds)
    for _, other in processes.releases(app):
        leaving = [name for name in processes.configured(app, other) if name.partition(".")[0] in kinds]
        if other == move.number or not leaving:
            continue
        supervisor.tell(app, other, leaving)
        graces = store.graces(app, other)
        seconds = max(graces.get(kind, processes.DEFAULT_GRACE) for kind in kinds) + LATE
        deadline = time.monotonic() + seconds
        while not _have_ended(app, other, leaving):
            if time.monotonic() > deadline:
                raise Refusal(f"{', '.join(leaving)} of v{other} did not end within {seconds} s", leaving[0])
            time.sleep(POLL)
    supervisor.apply(app, move.number, _standing(move) | waiting, store.graces(app, move.number))
    wait(move, waiting, "STARTING", "RUNNING")


def _leave(move: Move, kinds: Collection[str]) -> None:
    """Have nginx answer in the place of those process types that listen, and wait for what these have in flight.

    They are away meanwhile, so the wait ends with the longest of their graces.
    """
    app, servers = move.app, []
    graces: dict[str, int] = {}
    for other in (number for _, number in processes.releases(app) if number != move.number):
        for name, port in processes.configured(app, other).items():
            kind = name.partition(".")[0]
            if port and kind in kinds:
                servers.append(f"127.0.0.1:{port}")
                graces[kind] = max(graces.get(kind, 0), store.graces(app, other).get(kind, processes.DEFAULT_GRACE))
    if not servers:
        return
    away.begin(app, graces)
    # Workers from before a reload have what was passed on already, and nothing else.
    nginx_workers.reload()
    kind, seconds = max(graces.items(), key=lambda item: item[1])
    requests = min(seconds, move.settings["in_flight"]["requests"])
    why = {"requests": f"not ended in {requests} s (app.{app}.grace.{kind})"}
    # Clients would connect again to nobody.
    why["streams"] = f"since what answered them ends before its successor starts (app.{app}.order.{kind})"
    serving.wait(move, servers, [move.left], {"requests": requests, "streams": 0}, why)


def resume(move: Move) -> None:
    """Start again what was ended of the serving release, for a release that did not come to serve."""
    app, left = move.app, move.left
    if left is not None:
        supervisor.resume(app, left)
        found, kinds = processes.configured(app, left), away.marks(app)
        ports = {name: port for name, port in found.items() if name.partition(".")[0] in kinds}
        if ports:
            # nginx would answer 502 until they are healthy.
            with contextlib.suppress(Refusal):
                wait(dataclasses.replace(move, number=left, pids={}), ports, "STARTING", "RUNNING")
    _come_back(move)


def serve_left(move: Move) -> None:
    """Have nginx serve the release that was to be left, but for what was ended of it already: that is away."""
    app, left = move.app, move.left
    if left is not None:
        ended, ports = processes.ended(app, left), processes.configured(app, left)
        away.begin(app, {name.partition(".")[0] for name, port in ports.items() if port and name in ended})
        serving.serve_again(move.host, app, left)


def _come_back(move: Move) -> None:
    """Have nginx send requests to processes again, and tell for how long these were away."""
    for kind, seconds in away.end(move.app).items():
        said = away.told(move.app, kind, seconds)
        move.told.append(said)
        history.note(move.app, "away", move.number, reason=said)


def running(move: Move) -> None:
    """Wait until each process that listens has been up for the second after which supervisor calls it running, too.

    New processes have requests by then. The old ones are still there, and get the requests again if a new one ends.
    """
    wait(move, move.ports, "RUNNING")
    info = supervisor.info(move.app, move.number) if processes.ALONE in move.ports.values() else {}
    for name, one in sorted(info.items()):
        if "standby" in one:
            move.told.append(f"{name.removeprefix(f'{move.app}.v{move.number}.')} is in standby ({one['standby']})")


def _have_ended(app: str, release: int, names: Iterable[str]) -> bool:
    """Tell whether nothing runs any more of some processes of a release, such as ``beat.1``."""
    states = {name: one["state"] for name, one in supervisor.info(app, release).items()}
    return not any(
        states.get(processes.program(app, release, name)) in UP or scopes.pids(app, release, name) for name in names
    )


def contract(move: Move) -> None:
    """Ask the web processes what the build's OpenAPI documents say that they answer, once they have started."""
    if any(name.partition(".")[0] == routes.WEB for name in _waiting(move)):
        return
    # Where the app is held, the build that serves is not the declared one.
    sha256 = store.record(move.app, move.number).get("build", "")
    wrong, process = asking.ask(move.host, move.app, move.number, sha256, move.ports, move.asker)
    if wrong:
        raise Refusal(wrong, process)


def switch(move: Move) -> None:
    """Switch nginx to the release's files and processes."""
    published.point(move.app, move.settings, move.number)
    serving.serve(move.host, move.app, move.ports)
    _come_back(move)


def point(move: Move) -> None:
    """Make the release the current one."""
    staging.point(move.app, move.number)
    held = hold.held(move.app)
    if held and held.get("release") != move.number:
        hold.unhold(move.app)


def workers(move: Move) -> None:
    """Send SIGTERM to processes without a port, so that no scheduler runs twice while requests are waited for."""
    app, number = move.app, move.number
    for _, other in processes.releases(app):
        wanted = move.ports if other == number else {}
        configured = processes.configured(app, other)
        leaving = [name for name, port in configured.items() if not port and name not in wanted]
        if leaving:
            supervisor.tell(app, other, leaving)


def drain(move: Move) -> None:
    """Wait for requests in flight, where a process that listens is to be stopped."""
    serving.wait(move, serving.leaving(move), [move.left])


def stop(move: Move) -> None:
    """Stop the processes of other releases, and those that the formation no longer has."""
    started = time.time()
    configured = [processes.configured(*one) for one in processes.releases(move.app)]
    names = {name for ports in configured for name in ports}
    stop_others(move.app, move.number)
    if processes.configured(move.app, move.number) != move.ports:
        supervisor.apply(move.app, move.number, move.ports, store.graces(move.app, move.number))
    if time.time() > started + SOON:
        serving.tell_of(move, ends.killed(move.host, move.app, names, started))


def stop_others(app: str, number: int | None) -> None:
    """Stop all processes of an app but those of one release.

    :param app: the app's name.
    :param number: the release's number; ``None`` where all are to stop.
    """
    others = [other for _, other in processes.releases(app) if other != number]
    own = supervisor.info(app, number) if number is not None else {}
    strays = supervisor.info(app).keys() - own.keys()
    strays |= set(supervisor.strays(app))
    if others or strays or processes.leftovers(app):
        supervisor.remove(app, others)


def prune(move: Move) -> None:
    """Remove releases that are too old for a rollback, and what interrupted runs left behind."""
    if hold.held(move.app).get("until") == "another" and plan.is_same(move.host, move.app, move.number, move.settings):
        hold.unhold(move.app)
    staging.sweep(move.app)
    found = staging.prune(move.app, move.settings["keep_releases"], move.settings["build"]["sha256"])
    move.pruned.update(found.changes)
    move.told.extend(found.told)
    published.publish(move.app, move.settings)


def mend(move: Move) -> None:
    """Restore the files of the current release, and the link to it."""
    staging.mend(move.app, move.number)


# The steps of a new release.
DEPLOY: Steps = {
    "clear": clear,
    "stage": stage,
    "release": release,
    "start": start,
    "health": health,
    "contract": contract,
    "succeed": succeed,
    "switch": switch,
    "running": running,
    "point": point,
    "workers": workers,
    "drain": drain,
    "stop": stop,
    "prune": prune,
}

# The steps that bring the current release to what it should be, scaling among them.
SETTLE: Steps = {"mend": mend} | {
    name: DEPLOY[name]
    for name in ("start", "health", "succeed", "switch", "running", "workers", "drain", "stop", "prune")
}

# The steps after which one release alone runs, however they were interrupted: the new one.
AFTER = ("point", "mark", "workers", "drain", "stop", "prune")

# Also where a process cannot serve: its migrated database may be gone, because the database host is new.
MEND: Steps = {"mend": mend, "release": DEPLOY["release"]} | SETTLE
