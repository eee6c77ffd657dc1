"""What whoever builds is told."""

import sys
import time

from saltern.system import terminal


def say(text: object) -> None:
    """Tell whoever builds. What an app's files and its wheels are called may be anybody's, and commands no terminal.

    :param text: one line.
    """
    print(f"build: {terminal.escaped(str(text))}", file=sys.stderr, flush=True)


def elapsed(since: float) -> str:
    """Return the seconds since a moment of ``time.monotonic``, as ``0.1 s``."""
    return f"{time.monotonic() - since:.1f} s"


def ascii_name(path: str) -> str:
    """Return a path such that it can be printed on one line."""
    return path if path.isprintable() else ascii(path)
