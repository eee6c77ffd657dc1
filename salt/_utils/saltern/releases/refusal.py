"""What stands in a release's way, told."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from salt.exceptions import CommandExecutionError

from saltern.system import terminal

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


class Refusal(Exception):
    """A step cannot be done. ``process`` names the process whose log says more."""

    def __init__(self, reason: str, process: str | None = None) -> None:
        super().__init__(reason)
        self.process = process


def shown(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Have what a process, a build or a document said not command the terminal of whoever is told.

    :param function: one that raises ``CommandExecutionError``.
    """

    @functools.wraps(function)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except CommandExecutionError as error:
            raise CommandExecutionError(terminal.escaped(str(error))) from error

    return told
