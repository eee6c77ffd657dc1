"""Whether minions are ready for an orchestration, and no other one moves them."""

import contextlib
import fcntl
import os
from collections.abc import Collection
from typing import Any

from saltern.fleet.minions import Asks

# Seconds in which a minion must have the modules.
SYNC = 120


def locked(directory: str, environment: str) -> contextlib.ExitStack | None:
    """Lock an environment for one orchestration.

    The lock is an open file: the kernel closes it when the orchestration ends, also when it is killed.

    :param directory: where the file lies.
    :param environment: the environment's name.
    :return: what holds the lock until it is closed. ``None`` where another orchestration has the lock.
    """
    with contextlib.ExitStack() as stack:
        path = os.path.join(directory, f"saltern-{environment}.lock")
        stream = stack.enter_context(open(path, "w", encoding="ascii"))
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return stack.pop_all()


def unready(asks: Asks, names: Collection[str]) -> str:
    """Bring minions the tree's modules and today's pillar.

    :param asks: asks minions.
    :param names: their ids.
    :return: for which minions that failed, or the mistakes in their pillars. Empty where all are ready.
    :raises CommandExecutionError: when no master runs here.
    """
    synced = asks(names, "saltutil.sync_all", timeout=SYNC)
    wait = {"wait": True, "timeout": SYNC}
    told = asks(names, "saltutil.refresh_pillar", timeout=2 * SYNC, kwarg=wait)
    # A pillar with mistakes has nothing else in it, so this shows no secret.
    mistakes = asks(names, "pillar.get", "_errors", [], kwarg={"unmask": True})
    missing = [name for name in sorted(names) if not isinstance(synced.get(name), dict) or told.get(name) is not True]
    missing += [name for name in sorted(names) if name not in missing and not isinstance(mistakes.get(name), list)]
    if missing:
        return f"{', '.join(missing)}: did not take modules and pillar within {SYNC} s; nothing else was touched"
    lines = [f"{name}: {mistake}" for name in sorted(names) for mistake in mistakes[name]]
    return "\n".join([*lines, "Nothing else was touched"]) if lines else ""


def notes(asks: Asks, names: Collection[str]) -> list[str]:
    """Ask minions what an operator must know of them.

    :param asks: asks minions.
    :param names: their ids.
    :return: a line for each note.
    :raises CommandExecutionError: when no master runs here.
    """
    answers = asks(names, "notes.of_host")
    return [f"{name}: {note}" for name in names for note in noted_by(answers.get(name))]


def noted_by(answer: Any) -> list[str]:
    """Return the notes in a minion's answer. Without the module, or with a mistake in its pillar, a minion has none."""
    return [note for note in answer if isinstance(note, str)] if isinstance(answer, list) else []
