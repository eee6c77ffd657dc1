"""Which state of a converge is under way, on the terminal of whoever waits for it.

Salt says so in its log, which it does not show; and its report comes at the end. A line of standard error tells it
while the state runs, and is gone when the next one begins. Where standard error is no terminal nothing is written.
"""

import logging
import os
import re
import sys
import time

__virtualname__ = "saltern_progress"

# salt.state logs for each state that it begins, with its name, and with its function once its requisites are met.
BEGINS, EXECUTES, ENDS = "Running state [%s]", "Executing state %s.%s for [%s]", "Completed state [%s]"
# Characters that move the cursor or are not seen.
UNSEEN = re.compile("[^ -~\u00a1-\u167f]")


def __virtual__():
    return __virtualname__


def setup_handlers():
    """Return the handler, or ``False`` where nobody waits at a terminal."""
    is_waited_for = os.path.basename(sys.argv[0]) == "salt-call" and sys.stderr.isatty()
    if not is_waited_for or os.environ.get("TERM", "dumb") == "dumb":
        return False
    logger = logging.getLogger("salt.state")
    # The console and the file have levels of their own.
    logger.setLevel(logging.INFO)
    return Progress(sys.stderr)


class Progress(logging.Handler):
    """What writes the line.

    :param stream: the terminal.
    """

    def __init__(self, stream):
        super().__init__(logging.INFO)
        self.stream, self.number, self.started = stream, 0, time.monotonic()

    def emit(self, record):
        """Write the line of a state that begins, or clear it where one has ended."""
        if record.name != "salt.state":
            return
        text = str(record.msg)
        self.number += text.startswith(BEGINS)
        if text.startswith((BEGINS, EXECUTES)) and record.args:
            *function, name = record.args[:3] if text.startswith(EXECUTES) else record.args[:1]
            seconds = time.monotonic() - self.started
            self.write(line(self.number, seconds, ".".join(function), name, columns(self.stream)))
        elif text.startswith(ENDS):
            self.write("")

    def write(self, text):
        """Have the terminal show one line in the place of the one before."""
        try:
            self.stream.write(f"\r\x1b[K{text}")
            self.stream.flush()
        except (OSError, ValueError):
            # The terminal is gone. The converge goes on.
            self.handle = lambda record: None


def line(number, seconds, function, name, width):
    """Say which state is under way.

    :param number: how many have begun.
    :param seconds: since the run began.
    :param function: the state's, empty where that is not yet known.
    :param name: the state's.
    :param width: the terminal's, in characters: a line that is longer would stay.
    """
    words = UNSEEN.sub("?", f"{function} {name}".strip())
    text = f"{seconds:4.0f} s  state {number}: {words}"
    return text[: max(width - 1, 0)]


def columns(stream):
    """Return how many characters fit into a line of a terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
