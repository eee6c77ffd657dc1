"""Contracts: the versions of its API that an app provides, an OpenAPI document of each in its build, and who uses them.

A build that takes away what another app of the environment uses is refused before it is on the host (``judge``). The
processes of a new release are asked what its documents say that they answer, before nginx sends them anything
(``ask``).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

from salt.exceptions import CommandExecutionError

from saltern.attachments import parts
from saltern.attachments.derived import attached as declared
from saltern.contracts import compare, openapi
from saltern.releases import process, store
from saltern.system import terminal

__load__ = ["ask", "begin", "dropped", "judge", "path", "text_of"]

ROOT = "/srv/apps"
COMMAND = "/usr/local/lib/saltern/contract"
LOOPBACK = "127.0.0.1"

# Seconds in which the command starts, on a host that has much else to do.
START = 60
# Bytes of what the command may print.
MAX_ANSWER = 65536

# Bytes of an OpenAPI document, four for each of the characters that it may have.
MAX_DOCUMENT = 8_000_000
# Bytes of memory, of those that it names too, and characters of what it says is wrong.
MEMORY = 1 << 30
LONGEST = 300

# So many of a document's breaks are told.
TOLD = 3


def path(version):
    """Return where the document of a version lies in a build.

    :param version: such as ``v1``.

    CLI Example: none, it serves the module build.
    """
    return f"openapi/{version}.yaml"


# --- What a build would do to others ----------------------------------------------------------------------------------


def judge(app, sha256, build, read=None):
    """Refuse a build without a document that it must have, or that takes away what somebody uses.

    :param app: the app's name.
    :param sha256: the build's digest.
    :param build: what the build says of itself.
    :param read: a function that returns the text of a version's document; of a build on the host it is not needed.
    :raises CommandExecutionError: with a line for each mistake.

    CLI Example: none, it serves the modules build and release.
    """
    one = __pillar__["app"][app]
    read = read or (lambda version: _text(app, sha256, version))
    current = store.current(app)
    record = store.record(app, current) if current is not None else {}
    live = store.build(app, record.get("build", "")) if record else {}
    before, after = live.get("contracts") or {}, build.get("contracts") or {}
    uses = attached(__pillar__["app"], app)
    is_new = record.get("build") != sha256
    if is_new:
        for version, found in _running(app, one, record.get("provides") or {}).items():
            known = {(who.partition(" ")[0], variable) for who, variable in uses.get(version, [])}
            others = [use for use in found if (use[0].partition(" ")[0], use[1]) not in known]
            uses.setdefault(version, []).extend(others)

    def breaks(version):
        if not is_new:
            return []
        old, new = _text(app, record["build"], version), read(version)
        return [] if old == new else judged_by(compare.broken, version, old, new)

    def names(version):
        return judged_by(openapi.described, version, read(version))

    def judged_by(function, version, *documents):
        try:
            return function(*documents)
        except ValueError as error:
            raise CommandExecutionError(f"app.{app}.build: {path(version)}: {error}; build it again") from error

    found = mistakes(app, one["provides"], sha256, uses, before, after, breaks)
    provided = {version: its["path"] for version, its in one["provides"].items()}
    if not found and (is_new or record.get("provides") != provided):
        found = _misplaced(app, one["provides"], names)
    if found:
        raise CommandExecutionError("\n".join(found))


def attached(apps, provider):
    """List who attaches an app as a service: app and variable, by version.

    :param apps: the settings of all apps of the environment.
    :param provider: the app's name.
    """
    found = {}
    for app, variable, target in declared(apps, "service"):
        if target["service"] == provider:
            found.setdefault(target["version"], []).append((app, variable))
    return found


def mistakes(app, provides, sha256, uses, before, after, breaks):
    """List why a build cannot be taken.

    :param app: the app's name.
    :param provides: the versions that are declared.
    :param sha256: the build's digest.
    :param uses: who uses a version, and as which variable. A release that still runs, as ``tickets v3``.
    :param before: the versions that the build of the serving release has a document of.
    :param after: those that this one has.
    :param breaks: a function that says what the new document of a version takes away.
    :return: a message for each.
    """
    found = []
    for version in sorted(provides.keys() | uses.keys()):
        users = uses.get(version, [])
        reasons = breaks(version) if users and version in before and version in after else []
        if version not in after and (version not in before or not users):
            if version in provides:
                found.append(
                    f"app.{app}.provides.{version}: build {sha256[:12]} has no {path(version)}; expected the OpenAPI "
                    "document of that version in the app's tree, and a build that bin/build made of it"
                )
            continue
        if version in after and not reasons:
            continue
        verb, kept = ("breaks", "keeps it and adds another version") if reasons else ("drops", "keeps it")
        more = f" and {len(reasons) - TOLD} more" if reasons[TOLD:] else ""
        what = f": {'; '.join(reasons[:TOLD])}{more}" if reasons else ""
        for who, variable in users:
            runs = " " in who
            use = f"{who} {'still has' if runs else 'attaches'} as {variable}"
            end = f"{kept} until that release is gone" if runs else f"{kept}, or detach it first"
            found.append(f"app.{app}.build: {verb} {version}, which {use}{what}; expected a build that {end}")
    return found


def _misplaced(app, provides, operations):
    """List the versions whose URL leads to nothing that their document describes."""
    return [
        f"app.{app}.provides.{version}.path: nothing of {path(version)} is below it; expected what its paths start with"
        for version, one in sorted(provides.items())
        if not any(name.partition(" ")[2].startswith(f"{one['path']}/") for name in operations(version))
    ]


def _text(app, sha256, version):
    return text_of(app, f"{ROOT}/{app}/builds/{sha256[:12]}", version)


def text_of(app, directory, version):
    """Return the text of a version's document, as it lies in a build.

    :param app: the app's name.
    :param directory: the build's.
    :param version: such as ``v1``.
    :raises CommandExecutionError: when it cannot be read.

    CLI Example: none, it serves the module build.
    """
    try:
        with open(f"{directory}/{path(version)}", "rb") as stream:
            # More than this openapi.parse refuses.
            return stream.read(MAX_DOCUMENT + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandExecutionError(
            f"app.{app}.build: {path(version)}: cannot be read ({type(error).__name__}); expected a file in UTF-8; "
            "build it again"
        ) from error


def _running(app, one, provided):
    """List the releases of other apps on this host that have a version in their config, by version."""
    # The path of a version that is no longer declared, the serving release still knows.
    paths = provided | {version: its["path"] for version, its in one["provides"].items()}
    own = (LOOPBACK, __pillar__["hosts"][__opts__["id"]]["address"])
    found = {}
    for other, number in process.releases():
        if other == app or _has_left(app, other, number):
            continue
        attached = store.record(other, number).get("attached") or {}
        for variable, value in sorted(parts.urls(store.environ(other, number), attached)):
            with contextlib.suppress(ValueError):
                where = urlsplit(value)
                if where.hostname in own and where.port == one["port"]:
                    versions = [version for version, its in paths.items() if where.path.rstrip("/") == its]
                    for version in versions:
                        found.setdefault(version, []).append((f"{other} v{number}", variable))
    return found


def _has_left(app, other, number):
    """Tell in a dry run whether another app's release would be gone when it is this one's turn."""
    if not __opts__["test"] or other not in __pillar__["app"]:
        return __opts__["test"]
    # The apps have their turns by name.
    with contextlib.suppress(CommandExecutionError):
        return other < app and __salt__["release.plan"](other)["number"] != number
    return False


def dropped(app, sha256):
    """List the versions that are attached and that a build on the host has no document of.

    :param app: the app's name.
    :param sha256: the build's digest.
    :return: for each, which it is and who attaches it.

    CLI Example: none, it serves the module release.
    """
    known = store.build(app, sha256).get("contracts")
    uses = attached(__pillar__["app"], app) if known is not None else {}
    # Of one from before there were contracts nothing is known.
    known = known or {}
    return [
        f"{version}, which {who} attaches as {variable}"
        for version in sorted(uses.keys() - known.keys())
        for who, variable in uses[version]
    ]


# --- What a release answers -------------------------------------------------------------------------------------------


def begin(app, ahead=False):
    """Start the command that asks, before there is anything to ask: to import what it needs takes it a second.

    :param app: the app's name.
    :param ahead: leave it for the next call of this run.
    :return: an ``Asker``, to be closed; ``None`` where the app provides nothing.

    CLI Example: none, it serves the module release.
    """
    if not __pillar__["app"][app]["provides"]:
        return None
    asker = __context__.pop(f"saltern_asker_{app}", None)
    if asker and not asker.is_current:
        asker.close()
        asker = None
    asker = asker or Asker(app)
    if ahead:
        __context__[f"saltern_asker_{app}"] = asker
    return asker


def ask(app, number, sha256, ports, asker=None):
    """Ask a release's web processes what its documents say that they answer.

    Only what reads is called, and what a document says is safe (``x-safe: true``). The documents are dealt out to the
    processes in turn.

    :param app: the app's name.
    :param number: the release's number.
    :param sha256: its build's digest.
    :param ports: port, or ``None``, by process.
    :param asker: what ``begin`` returned, if it was called.
    :return: what is wrong, in a sentence, and of which process; or two times ``None``.
    :raises CommandExecutionError: when it cannot be asked.

    CLI Example: none, it serves the module release.
    """
    one = __pillar__["app"][app]
    versions = _versions(app, sha256)
    webs = sorted(process for process, port in ports.items() if port)
    if not versions or not webs:
        return None, None
    processes = {version: webs[index % len(webs)] for index, version in enumerate(versions)}
    question = {
        "app": app,
        "release": number,
        "documents": {version: _tried(app, version, _text(app, sha256, version)) for version in versions},
        "origins": {version: f"http://{LOOPBACK}:{ports[process]}" for version, process in processes.items()},
        "host": f"{LOOPBACK}:{one['port']}",
        "timeout": one["health"]["timeout"],
        "seconds": one["contract"]["timeout"],
    }
    with contextlib.closing(asker or Asker(app)) as asking:
        answer = asking.answer(question)
    _tell(app, lines(question, answer))
    wrong = answer["wrong"]
    if wrong is None:
        return None, None
    version = wrong["version"]
    return f"{path(version)}: {wrong['call']}: expected {wrong['expected']}; came {wrong['came']}", processes[version]


def _tried(app, version, text):
    try:
        return openapi.part(text)
    except ValueError as error:
        raise CommandExecutionError(f"app.{app}.build: {path(version)}: {error}; build it again") from error


def _versions(app, sha256):
    """Return the versions that an app provides and a build has documents of."""
    known = store.build(app, sha256).get("contracts") or {}
    return sorted(__pillar__["app"][app]["provides"].keys() & known.keys())


class Asker:
    """The command that asks, as the app's user; it waits for its question.

    The app's own processes may meddle with it: what it prints is taken for no more than text.

    :param app: the app's name.
    """

    def __init__(self, app):
        self.app = app
        self.output, self.errors = os.memfd_create("output"), os.memfd_create("errors")
        environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        streams = {"stdin": subprocess.PIPE, "stdout": self.output, "stderr": self.errors}
        self.script = _identity(COMMAND)
        try:
            # In a session of its own: the app's processes may meddle with it, and root's terminal must not be its.
            self.process = subprocess.Popen(_command(app), cwd="/", env=environ, start_new_session=True, **streams)
        except OSError as error:
            os.close(self.output)
            os.close(self.errors)
            raise CommandExecutionError(f"{COMMAND}: does not start: {error}") from error

    @property
    def is_current(self):
        """Whether it runs, and the command is still the one that it was started from."""
        return self.process.poll() is None and self.script == _identity(COMMAND)

    def answer(self, question):
        """Ask it, and return its answer; see ``judged``.

        :param question: a mapping; see formulas/app/files/contract.py.
        :raises CommandExecutionError: when it answers nothing that can be understood, or not in time.
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

    def close(self):
        """End it, whether it was asked or not."""
        if self.output < 0:
            return
        self.process.kill()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        for fd in self.output, self.errors:
            os.close(fd)
        self.output = -1


def _command(app):
    # Below the app's slice, whose limits hold for it too: the processes of its user may meddle with it.
    # To systemd a dash in a slice's name is the end of its parent's.
    name = "app-" + app.replace("-", "\\x2d")
    unit = f"--unit={name}-contract-{os.getpid()}.{time.time_ns()}.scope"
    command = ["systemd-run", "--quiet", "--collect", "--scope", unit, f"--slice={name}.slice"]
    command += [f"--description={app}: what asks a release", "--"]
    # Where the app's memory is at its limit the kernel ends this one, and none that serves.
    command += ["choom", "--adjust", "1000", "--"]
    # What it is answered may have no end, and is kept until the answer is whole.
    command += ["prlimit", f"--fsize={MAX_ANSWER}", f"--as={MEMORY}", "--core=0"]
    command += ["setpriv", "--reuid", app, "--regid", app, "--clear-groups", "--no-new-privs"]
    # The interpreter by the path that its byte code was made for: by another, the user would compile all of it anew.
    # A minion's job may outlast its interpreter, where bootstrap.sh has just brought another.
    return [
        *command,
        "--pdeathsig",
        "TERM",
        *([sys.executable, "-I"] if os.path.exists(sys.executable) else []),
        COMMAND,
    ]


def _identity(path):
    """Return what differs when a file is written anew, or ``None`` where there is none."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns
    return None


def _printed(fd):
    return os.pread(fd, MAX_ANSWER, 0).decode(errors="replace")


def judged(answer, versions):
    """Return what of an answer of the command may be told.

    :param answer: what it printed, parsed.
    :param versions: those that it was asked about.
    :return: how many ``calls`` there were by version, whether that was to the ``end``, and what is ``wrong`` or
        ``None``.
    :raises ValueError: when it is no answer.
    """
    if not isinstance(answer, dict) or "wrong" not in answer:
        raise ValueError("no answer")
    calls, wrong = answer.get("calls"), answer["wrong"]
    calls = (
        {version: count for version, count in calls.items() if type(count) is int} if isinstance(calls, dict) else {}
    )
    if calls.keys() - set(versions):
        raise ValueError("of another version")
    found = {"calls": calls, "end": answer.get("end") is not False, "wrong": None}
    if wrong is None:
        return found
    words = ("version", "call", "expected", "came")
    if not isinstance(wrong, dict) or not all(isinstance(wrong.get(word), str) for word in words):
        raise ValueError("no answer")
    if wrong["version"] not in versions:
        raise ValueError("of another version")
    return found | {"wrong": {word: _shown(wrong[word]) for word in words}}


def _shown(text):
    """Return text as it can stand in a line: an app may have made it, to command a terminal."""
    shown = terminal.escaped(text[:LONGEST]).replace("\n", "\\n")
    return shown if len(text) <= LONGEST else f"{shown}..."


def lines(question, answer):
    """Say for people what came of a check.

    :param question: what was asked; see formulas/app/files/contract.py.
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


def _tell(app, said):
    """Write lines to the journal as APP[contract]. Root does, since the app's user may write that name too."""
    text = "".join(f"{line}\n" for line in said)
    subprocess.run(["systemd-cat", "-t", f"{app}[contract]"], input=text.encode(), check=False)
