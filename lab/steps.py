"""Steps: what is done now, and how long each step took."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text


class Step:
    """One step under way."""

    def __init__(self, name: str, console: Console, status=None):
        self.name = name
        self.outcome = ""
        self._console = console
        self._status = status

    def doing(self, what: str) -> None:
        """Show the current action of the step. Only a terminal shows it."""
        if self._status:
            self._status.update(Text.assemble(self.name, (f"  {what}", "dim")))

    def line(self, text: str) -> None:
        """Print a line of a command's output."""
        self._console.print(Text.from_ansi(text), soft_wrap=True, highlight=False)


class Steps:
    """The steps of one run, on standard output: a spinner on a terminal, otherwise plain lines."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the first step."""
        return time.monotonic() - self._started

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show one step: its name when it begins, its outcome and seconds when it ends.

        :param name: what is done, in a few words.
        """
        started = time.monotonic()
        terminal = self.console.is_terminal
        if not terminal:
            self.console.print(f"... {name}", markup=False, soft_wrap=True)
        with self.console.status(Text(name)) if terminal else contextlib.nullcontext() as status:
            step = Step(name, self.console, status)
            try:
                yield step
            except BaseException:
                self._print("failed", "red", step, started)
                raise
        self._print("ok", "green", step, started)

    def _print(self, word: str, style: str, step: Step, started: float) -> None:
        what = f"{step.name}: {step.outcome}" if step.outcome else step.name
        seconds = f"({time.monotonic() - started:.1f} s)"
        self.console.print(Text.assemble((f"{word:>6} ", style), what, " ", (seconds, "dim")), soft_wrap=True)
