"""What the commands on an operator's machine share: how they read their command line, what they say, how they end."""

import argparse
import signal
import sys
from collections.abc import Callable

from saltern.refusal import Refusal
from saltern.system import terminal


def parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of a command's line, without options yet. None can be abbreviated.

    :param name: the command.
    :param description: what it does, in a sentence.
    :param epilog: the rest of its help, printed as it is.
    """
    return argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def say(name: str, text: object) -> None:
    """Tell the operator, on standard error. Each line begins with the command, and none commands the terminal.

    :param name: the command.
    :param text: a line, or several.
    """
    for line in terminal.escaped(str(text)).split("\n"):
        print(f"{name}: {line}", file=sys.stderr, flush=True)


def run(name: str, work: Callable[[], object], cure: str, interrupted: str = "", place: str = "a file") -> int:
    """Do a command's work. Where it cannot be done, say why in one line.

    :param name: the command.
    :param work: does it. A ``Refusal`` or an ``OSError`` that it raises is told without a traceback.
    :param cure: what the operator is to do about an ``OSError``.
    :param interrupted: what is told after Ctrl-C, or after Ctrl-D at a prompt. Empty where nothing is.
    :param place: what an ``OSError`` without a file's name is about.
    :return: an exit code: 0, 1 where the work was refused, 130 where it was interrupted.
    """
    # SIGTERM becomes an exception, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        work()
    except Refusal as refusal:
        say(name, refusal)
        return 1
    except OSError as error:
        say(name, f"{error.filename or place}: {error.strerror or error}; {cure}")
        return 1
    except (KeyboardInterrupt, EOFError):
        if interrupted:
            say(name, interrupted)
        return 128 + signal.SIGINT
    return 0
