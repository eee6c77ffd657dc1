"""What whoever builds is told."""

import time

from saltern import commands


def say(text: object) -> None:
    """Tell whoever builds; see ``commands.say``.

    :param text: one line.
    """
    commands.say("build", text)


def elapsed(since: float) -> str:
    """Return the seconds since a moment of ``time.monotonic``, as ``0.1 s``."""
    return f"{time.monotonic() - since:.1f} s"


def ascii_name(path: str) -> str:
    """Return a path such that it can be printed on one line."""
    return path if path.isprintable() else ascii(path)
