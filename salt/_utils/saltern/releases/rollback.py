"""Going back to an earlier release, and holding an app where it is."""

from salt.exceptions import CommandExecutionError

from saltern.apps import packages
from saltern.attachments import earlier
from saltern.contracts import judge
from saltern.host import Host
from saltern.releases import history, migration, plan, staging, store
from saltern.releases import hold as holds
from saltern.releases.move import Move, locked
from saltern.releases.refusal import shown
from saltern.releases.steps import DEPLOY, Steps
from saltern.releases.take import take


@shown
def rollback(host: Host, app: str, number: int | str | None = None, force: bool = False, declared: bool = False) -> str:
    """Go back to an earlier release, its config included, and hold the app there.

    The Salt function ``release.rollback`` says what the arguments are, what is returned and what is refused.
    """
    settings = plan.declared(host, app)
    with locked(app):
        current = store.current(app)
        if current is None:
            raise CommandExecutionError(f"{app}: no release serves; expected one to go back from")
        if declared and plan.in_force(host, app, current, settings):
            return f"{app}: v{current} serves and is held already"
        if declared and not plan.is_same(host, app, current, settings):
            holds.hold(app, current, None, "unhold")
            history.note(app, "held", current)
            why = f"what is declared does not serve; held until release.unhold {app}"
            return f"{app}: v{current} stays: {why}"
        target = _target(app, current, number)
        _check_whole(host, app, target)
        crossed = migration.crossed(app, current, target)
        if crossed and not force:
            raise CommandExecutionError(
                f"{app}: {crossed}. If v{target} works with what that left, go back with force=True"
            )
        sha256 = store.record(app, target)["build"]
        dropped = judge.dropped(host, app, sha256)
        if dropped and not force:
            raise CommandExecutionError(
                f"{app}: v{target} lacks {'; '.join(dropped)}. If it can do without, go back with force=True"
            )
        attached, missing = earlier.renewed(host, app, target, current)
        if missing and not force:
            raise CommandExecutionError(
                f"{app}: v{target} cannot work: {'; '.join(missing)}. Declare it again and converge, or, if v{target} "
                "can do without, go back with force=True"
            )
        way_out = f". To go back to v{target}, first take the type out of app.{app}, its route too, and converge"
        plan.check_formation(app, settings, sha256, way_out)
        move = Move(host, app, target, plan.formation_ports(app, settings, current, other=True), current, settings)
        held = plan.in_force(host, app, current, settings)
        until = held.get("until", "another")
        wanted = held.get("from", current)

        def attach(_: Move) -> None:
            staging.attach(app, target, attached)

        def hold_it(_: Move) -> None:
            holds.hold(app, target, wanted, until)

        def mark_left(_: Move) -> None:
            staging.mark(app, current, "rolled back" if target < current else "serving")

        back: Steps = {"clear": DEPLOY["clear"], "attach": attach, "start": DEPLOY["start"], "health": DEPLOY["health"]}
        back["succeed"] = DEPLOY["succeed"]
        back |= {"hold": hold_it} | {name: DEPLOY[name] for name in ("switch", "running", "point")}
        back |= {"mark": mark_left} | {name: DEPLOY[name] for name in ("workers", "drain", "stop", "prune")}
        try:
            take(back, move, "rolled back to", {"variables": _between(app, current, target)})
        except CommandExecutionError:
            if store.current(app) == current:
                holds.unhold(app)
                if held:
                    holds.hold(app, current, held["from"], held["until"])
            raise
        # Where the pillar declares this release again already, nothing is held.
        how = "serves and is held" if holds.held(app) else "serves, as is declared"
        pruned = [f"pruned the {kind} {', '.join(names)}" for kind, names in move.pruned.items()]
        return "; ".join([f"{app}: v{target} {how}; v{current} was left", *move.told, *pruned])


def _target(app: str, current: int, number: int | str | None) -> int:
    """Return the release to go back to."""
    served = [n for n in store.numbers(app) if _can_serve(app, n) and n != current]
    if number is None:
        good = [n for n in served if n < current and store.outcome(app, n) == "serving"]
        if not good:
            raise CommandExecutionError(f"{app}: no release before v{current} is there to go back to")
        return good[-1]
    text = str(number).removeprefix("v")
    if not text.isdigit() or int(text) not in served:
        known = ", ".join(f"v{n}" for n in served) or "none"
        raise CommandExecutionError(f"{app}: {number}: no release to go back to; expected one of {known}")
    return int(text)


def _can_serve(app: str, number: int) -> bool:
    build = store.record(app, number).get("build", "")
    is_there = bool(store.build(app, build))
    return is_there and store.outcome(app, number) in ("serving", "rolled back")


def _check_whole(host: Host, app: str, target: int) -> None:
    """Refuse to go back to a release of which something is missing on the host."""
    sha256 = store.record(app, target)["build"]
    found = [f"{path} {what}" for path, what in store.lost(app, target).items()]
    if damage := host.ask("build.damage", app, sha256, deeply=True):
        found.append(f"{store.build_directory(app, sha256)} is damaged: {damage}")
    found += [f"the package {name} is not installed: apt-get install {name}" for name in packages.missing(app, target)]
    if found:
        raise CommandExecutionError(
            f"{app}: v{target} could not be started: {'; '.join(found)}; expected another release, or those put back"
        )


def _between(app: str, old: int, new: int) -> dict[str, list[str]]:
    return plan.compared(store.environ(app, old), store.environ(app, new))


def hold(host: Host, app: str) -> str:
    """Hold an app at its current release, whatever the pillar asks for, until ``release.unhold``.

    :param host: the host.
    :param app: the app's name.
    :return: what was done.
    :raises CommandExecutionError: when no release serves.
    """
    plan.declared(host, app)
    with locked(app):
        current = store.current(app)
        if current is None:
            raise CommandExecutionError(f"{app}: no release serves; expected one to hold")
        holds.hold(app, current, None, "unhold")
        history.note(app, "held", current)
    return f"{app}: v{current} is held until release.unhold {app}"


def unhold(host: Host, app: str) -> str:
    """Let the next converge move an app on again.

    :param host: the host.
    :param app: the app's name.
    :return: what was done.
    """
    plan.declared(host, app)
    with locked(app):
        held = holds.held(app)
        if not held:
            return f"{app}: is not held"
        holds.unhold(app)
        history.note(app, "no longer held", held["release"])
    return f"{app}: v{held['release']} is no longer held; the next converge brings what the pillar asks for"
