"""Calling a new release as its documents describe, by a command that runs as the app's user."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.contracts import openapi
from saltern.contracts.judge import path, text
from saltern.host import Host
from saltern.releases import store
from saltern.releases.process import Ports
from saltern.services.base import LOOPBACK
from saltern.system import terminal

COMMAND = "/usr/local/lib/saltern/contract"
# Seconds in which the command starts, on a host that has much else to do.
START = 60
# Bytes of what the command may print.
MAX_ANSWER = 65536
# Bytes of memory that the command may take, and characters of each text that it reports.
MEMORY = 1 << 30
LONGEST = 300


def begin(host: Host, app: str, context: MutableMapping[str, Any], ahead: bool = False) -> "Asker | None":
    """Start the command early: its imports take a second.

    :param host: the host.
    :param app: the app's name.
    :param context: what the modules of this run share; ``__context__``.
    :param ahead: leave the command for the next call of this run.
    :return: an ``Asker``, to be closed; ``None`` where the app provides nothing.
    """
    if not host.pillar["app"][app]["provides"]:
        return None
    asker: Asker | None = context.pop(f"saltern_asker_{app}", None)
    if asker and not asker.is_current:
        asker.close()
        asker = None
    asker = asker or Asker(app)
    if ahead:
        context[f"saltern_asker_{app}"] = asker
    return asker


def ask(
    host: Host, app: str, number: int, sha256: str, ports: Ports, asker: "Asker | None" = None
) -> tuple[str | None, str | None]:
    """Ask a release's web processes what its documents say that they answer.

    Only what reads is called, and what a document says is safe (``x-safe: true``). The documents are dealt out to the
    processes in turn.

    :param host: the host.
    :param app: the app's name.
    :param number: the release's number.
    :param sha256: its build's digest.
    :param ports: port, or ``None``, by process.
    :param asker: what ``begin`` returned, if it was called.
    :return: what is wrong, in a sentence, and of which process; or two times ``None``.
    :raises CommandExecutionError: when it cannot be asked.
    """
    settings = host.pillar["app"][app]
    versions = _versions(settings["provides"], app, sha256)
    webs = sorted(process for process, port in ports.items() if port and process.startswith("web."))
    if not versions or not webs:
        return None, None
    processes = {version: webs[index % len(webs)] for index, version in enumerate(versions)}
    question = {
        "app": app,
        "release": number,
        "documents": {version: _tried(app, version, text(app, sha256, version)) for version in versions},
        "origins": {version: f"http://{LOOPBACK}:{ports[process]}" for version, process in processes.items()},
        "host": f"{LOOPBACK}:{settings['port']}",
        "timeout": settings["health"]["timeout"],
        "seconds": settings["contract"]["timeout"],
    }
    with contextlib.closing(asker or Asker(app)) as asking:
        answer = asking.answer(question)
    _tell(app, lines(question, answer))
    wrong = answer["wrong"]
    if wrong is None:
        return None, None
    version = wrong["version"]
    return f"{path(version)}: {wrong['call']}: expected {wrong['expected']}; came {wrong['came']}", processes[version]


def _tried(app: str, version: str, document: str) -> Any:
    try:
        return openapi.part(document)
    except ValueError as error:
        raise CommandExecutionError(f"app.{app}.build: {path(version)}: {error}; build it again") from error


def _versions(provides: Collection[str], app: str, sha256: str) -> list[str]:
    """Return the versions that an app provides and a build has documents of."""
    known = store.build(app, sha256).get("contracts") or {}
    return sorted(set(provides) & known.keys())


class Asker:
    """The command, run as the app's user. It waits for its question.

    The app's own processes may control the command, so what it prints counts as text, and no more.

    :param app: the app's name.
    """

    def __init__(self, app: str):
        self.app = app
        self.output, self.errors = os.memfd_create("output"), os.memfd_create("errors")
        environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        self.script = _identity(COMMAND)
        try:
            # In a session of its own: the app's processes may control the command, so it must not have root's terminal.
            self.process = subprocess.Popen(
                _command(app),
                cwd="/",
                env=environ,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=self.output,
                stderr=self.errors,
            )
        except OSError as error:
            os.close(self.output)
            os.close(self.errors)
            raise CommandExecutionError(f"{COMMAND}: does not start: {error}") from error

    @property
    def is_current(self) -> bool:
        """Whether the command runs, and its file is still the one that it was started from."""
        return self.process.poll() is None and self.script == _identity(COMMAND)

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Put the question, and return the answer; see ``judged``.

        :param question: a mapping; see formulas/app/files/contract.py.
        :raises CommandExecutionError: when the answer cannot be understood, or does not come in time.
        """
        limit = question["seconds"] + START
        try:
            self.process.communicate(json.dumps(question).encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            raise CommandExecutionError(
                f"{COMMAND}: no answer after {limit} s; expected one. An app's answer without an end holds it too"
            ) from None
        printed, said = _printed(self.output), _printed(self.errors)
        if self.process.returncode == -signal.SIGKILL:
            raise CommandExecutionError(
                f"{COMMAND}: it was killed; expected that app.{self.app}.limits.memory leaves it room: it takes some "
                "100 MB beside the app's processes"
            )
        try:
            return judged(json.loads(printed), question["documents"])
        except (ValueError, RecursionError):
            said = (said.strip().splitlines() or ["nothing"])[-1]
            cure = "; run bootstrap.sh again" if "schemathesis" in said or not os.path.exists(COMMAND) else ""
            raise CommandExecutionError(f"{COMMAND}: it said: {said}{cure}") from None

    def close(self) -> None:
        """End the command, whether it was asked or not."""
        if self.output < 0:
            return
        self.process.kill()
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process.wait()
        for fd in self.output, self.errors:
            os.close(fd)
        self.output = -1


def _command(app: str) -> list[str]:
    # Below the app's slice, so that its limits apply: the processes of its user may control the command.
    # systemd takes a dash in a slice's name for the end of its parent's name.
    name = "app-" + app.replace("-", "\\x2d")
    unit = f"--unit={name}-contract-{os.getpid()}.{time.time_ns()}.scope"
    command = ["systemd-run", "--quiet", "--collect", "--scope", unit, f"--slice={name}.slice"]
    command += [f"--description={app}: what asks a release", "--"]
    # At the app's limit of memory the kernel ends the command, and no process that serves.
    command += ["choom", "--adjust", "1000", "--"]
    # An app's answer may have no end, and is kept until it is whole.
    command += ["prlimit", f"--fsize={MAX_ANSWER}", f"--as={MEMORY}", "--core=0"]
    command += ["setpriv", "--reuid", app, "--regid", app, "--clear-groups", "--no-new-privs"]
    # The interpreter by the path that its byte code is for: by another path, the user would compile all modules again.
    # A minion's job may outlast its interpreter, where bootstrap.sh has just brought another one.
    return [
        *command,
        "--pdeathsig",
        "TERM",
        *([sys.executable, "-I"] if os.path.exists(sys.executable) else []),
        COMMAND,
    ]


def _identity(file: str) -> tuple[int, int] | None:
    """Return what differs when a file is replaced; ``None`` where there is no file."""
    with contextlib.suppress(OSError):
        found = os.stat(file)
        return found.st_ino, found.st_mtime_ns
    return None


def _printed(fd: int) -> str:
    return os.pread(fd, MAX_ANSWER, 0).decode(errors="replace")


def judged(answer: Any, versions: Collection[str]) -> dict[str, Any]:
    """Return what may be told of an answer of the command.

    :param answer: what it printed, parsed.
    :param versions: the versions that the command was asked about.
    :return: the number of ``calls`` by version, whether all were made (``end``), and what is ``wrong`` or ``None``.
    :raises ValueError: when that is no answer.
    """
    if not isinstance(answer, dict) or "wrong" not in answer:
        raise ValueError("no answer")
    calls, wrong = answer.get("calls"), answer["wrong"]
    calls = (
        {version: count for version, count in calls.items() if type(count) is int} if isinstance(calls, dict) else {}
    )
    if calls.keys() - set(versions):
        raise ValueError("of another version")
    found: dict[str, Any] = {"calls": calls, "end": answer.get("end") is not False, "wrong": None}
    if wrong is None:
        return found
    words = ("version", "call", "expected", "came")
    if not isinstance(wrong, dict) or not all(isinstance(wrong.get(word), str) for word in words):
        raise ValueError("no answer")
    if wrong["version"] not in versions:
        raise ValueError("of another version")
    return found | {"wrong": {word: _shown(wrong[word]) for word in words}}


def _shown(words: str) -> str:
    """Return text for one line. An app may have made it, to control a terminal."""
    shown = terminal.escaped(words[:LONGEST]).replace("\n", "\\n")
    return shown if len(words) <= LONGEST else f"{shown}..."


def lines(question: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that tell people the result.

    :param question: the question; see formulas/app/files/contract.py.
    :param answer: as ``judged`` gives it.
    """
    wrong = answer["wrong"]
    for version, calls in answer["calls"].items():
        name = f"v{question['release']} {path(version)}"
        if wrong and wrong["version"] == version:
            yield f"{name}: {wrong['call']}: expected {wrong['expected']}; came {wrong['came']}"
        else:
            yield f"{name}: {calls} calls, answered as it says"
    if not answer["end"]:
        yield f"v{question['release']}: what is left was not called: {question['seconds']} s are over"


def _tell(app: str, said: Iterator[str]) -> None:
    """Write lines to the journal as APP[contract]. Root writes them, because the app's user may use that name too."""
    written = "".join(f"{line}\n" for line in said)
    subprocess.run(["systemd-cat", "-t", f"{app}[contract]"], input=written.encode(), check=False)
