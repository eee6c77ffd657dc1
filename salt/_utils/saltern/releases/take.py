"""Taking the steps of a move, and taking them back."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.releases import ends, history, report, serving, staging, store
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal
from saltern.releases.steps import AFTER, Steps, resume, serve_left, stop_others
from saltern.web import in_flight, workers


def take(steps: Steps, move: Move, event: str | None = None, details: Mapping[str, Any] | None = None) -> None:
    """Take the steps of a move, in order; take back what was begun where one cannot be taken.

    :param steps: by name.
    :param move: to a release.
    :param event: what the app's log is to say of it, where all were taken; nothing where it is not given.
    :param details: more of that.
    :raises CommandExecutionError: with the step, the reason, what its process logged last, and what was told of it.
    """
    started = time.time()
    for name, step in steps.items():
        try:
            step(move)
        except (Refusal, CommandExecutionError, OSError) as error:
            reason = report.message(move, name, error, started)
            _take_back(move, reason)
            raise CommandExecutionError("\n".join([reason, *move.told])) from error
        except BaseException as error:
            _interrupted(steps, name, move, error, started)
            if event and store.current(move.app) == move.number:
                _note(move, event, details)
            raise
    if event:
        _note(move, event, details)


def _note(move: Move, event: str, details: Mapping[str, Any] | None) -> None:
    history.note(move.app, event, move.number, left=move.left, **(details or {}))


def _interrupted(steps: Steps, name: str, move: Move, error: BaseException, started: float) -> None:
    """Leave only the serving release running when a signal or an error of Saltern's ends the run.

    :param steps: of the move.
    :param name: of the step that was under way.
    :param error: what the signal's handler raised, or the mistake.
    :param started: when the move began, in seconds since 1970.
    """
    if store.current(move.app) != move.number:
        reason = report.message(move, name, Refusal(f"the run was ended by {ends.ended_by(error)}"), started)
        _take_back(move, reason, is_patient=False)
    elif name in AFTER:
        cut = in_flight.drain(workers.old, serving.leaving(move), move.app, 0, 0)
        serving.tell_of(
            move, serving.cut_off(cut, dict.fromkeys(cut, f"when the run was ended by {ends.ended_by(error)}"))
        )
        # Nobody waits for requests any more.
        for after in list(steps)[list(steps).index(name) :]:
            with contextlib.suppress(Refusal, CommandExecutionError, OSError):
                steps[after](move) if after != "drain" else None


def _take_back(move: Move, reason: str, is_patient: bool = True) -> None:
    """Take back a release that did not come to serve, and note why.

    :param move: to it.
    :param reason: for people.
    :param is_patient: whether to wait for requests that it has taken already.
    """
    app, left = move.app, move.left
    if store.current(app) == move.number:
        return
    with contextlib.suppress(CommandExecutionError, OSError):
        if left is not None:
            serve_left(move)
            # Between the switch and the link it may have been sent requests.
            limits = move.settings["in_flight"] if is_patient else {"requests": 0, "streams": 0}
            servers, what = serving.servers_of(app, [move.number]), f"{app}: v{move.number}"
            cut = in_flight.drain(workers.old, servers, app, limits["requests"], limits["streams"], what)
            serving.tell_of(move, serving.cut_off(cut, dict.fromkeys(cut, "when it was taken back")), move.number)
        stop_others(app, left)
        # Its processes that must be alone were ended for the release that is taken back.
        resume(move)
    with contextlib.suppress(OSError):
        if store.outcome(app, move.number) == "":
            staging.mark(app, move.number, f"refused: {reason.splitlines()[0]}")
            history.note(app, "refused", move.number, left=left, reason=reason.splitlines()[0])
        staging.sweep(app)
        staging.prune(app, move.settings["keep_releases"], move.settings["build"]["sha256"])
