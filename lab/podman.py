"""Calls of podman, and its errors."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from lab import machine


class LabError(Exception):
    """Something that the lab cannot do. The message is one line: what failed, what was expected, what to do."""


def command() -> list[str]:
    """Return podman's command line up to its subcommand, with the runtime that works on this machine."""
    return ["podman", "--runtime", machine.runtime()]


def podman(*arguments: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess:
    """Run podman and return its completed process, output as text.

    :param arguments: the subcommand and its arguments.
    :param check: whether a failure is an error.
    :param input: what it reads from standard input.
    :raises LabError: when it fails and ``check`` holds, or podman is not there.
    """
    try:
        result = subprocess.run([*command(), *arguments], input=input, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError("podman is not installed; run make setup") from None
    if check and result.returncode:
        raise LabError(f"podman {arguments[0]}: {reason(result)}")
    return result


def remove_containers(*names: str) -> None:
    """Remove containers and all that is in them, whatever state they are in.

    :raises LabError: when podman cannot.
    """
    command = ["rm", "--force", "--time", "2", "--volumes", *names]
    # If a container's processes were killed together with podman's own monitor, the first attempt waits in vain for the
    # exit code that the monitor would have written. It only records that the container has ended.
    if podman(*command, check=False).returncode:
        podman(*command, "--ignore")


def exec_command(
    container: str, argv: Sequence[str], env: Mapping[str, str] | None = None, stdin: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Return the command line that runs ``argv`` in a container, and the environment that it needs.

    The values of ``env`` go through podman's own environment, since everybody can read a command line.
    """
    flags = [word for name in env or {} for word in ("--env", name)]
    return [*command(), "exec", *(["-i"] if stdin else []), *flags, container, *argv], {**os.environ, **(env or {})}


def reason(result: subprocess.CompletedProcess) -> str:
    """Return the last line that a failed command said, or its exit code."""
    lines = [line for line in f"{result.stdout or ''}\n{result.stderr or ''}".splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("Error: ") if lines else f"exit code {result.returncode}, no reason given"
