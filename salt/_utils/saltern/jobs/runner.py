"""The runner of jobs: it decides whether a run is due, starts the app's process, bounds it, and notes how it ended."""

import contextlib
import fcntl
import json
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from saltern import leases
from saltern.jobs import ended, names, record, schedule
from saltern.jobs.ended import Said
from saltern.leases import Lease, Unreachable
from saltern.system import files, journal, masking, terminal

# Seconds for which an answer about who is alone is asked for, again and again.
PATIENCE = 300
# Seconds between two looks at a host that is drained, at etcd that does not answer, and at who is to be replaced.
POLL = 5.0
# Seconds that a runner waits for another one of the same job that decides right now.
DECIDES = 3.0
# Seconds that a lease lasts, between two renewals, and before its end in which a run is ended.
TTL = 60
RENEWAL = 10.0
RESERVE = 25.0
# Seconds after the grace in which the launcher has killed what is left.
BACKSTOP = 15
# Seconds between two looks at a run under way.
LOOK = 1.0
# How many lines of a failed run are kept, and how many characters of each.
LINES = 15
WIDTH = 500


class Failed(Exception):
    """Why a run cannot begin."""


class Runner:
    """One run of a job, from the decision to its end.

    :param app: the app's name.
    :param job: the job's name.
    :param number: the run's.
    :param by: ``clock`` or ``hand``.
    :param said: what is declared of the job, as a converge has written it.
    """

    def __init__(self, app: str, job: str, number: str, by: str, said: Mapping[str, Any]) -> None:
        self.app, self.job, self.number, self.by, self.said = app, job, number, by, said
        self.is_stopped = False
        self.lease: Lease | None = None
        self.run: record.Run = {
            "run": number,
            "by": by,
            "host": said["host"],
            "started": time.time(),
            "status": record.RUNNING,
        }

    def go(self) -> None:
        """Run the job, where it is due and may run."""
        try:
            if self.by == "clock" and not self._is_taken():
                return
            self._begin()
        except (Unreachable, Failed) as error:
            self._end(record.FAILED, str(error))
        finally:
            if self.lease:
                with contextlib.suppress(Unreachable):
                    self.lease.give_back()

    # --- The decision -------------------------------------------------------------------------------------------------

    def _is_taken(self) -> bool:
        """Take the moment that is due, and tell whether there was one: of all hosts exactly one takes it."""
        with self._alone() as is_alone:
            if not is_alone:
                return False
            deadline = time.monotonic() + PATIENCE
            while not self.is_stopped:
                try:
                    taken = self._taken()
                    if taken is not None:
                        return taken
                    deadline = time.monotonic() + PATIENCE
                except Unreachable as error:
                    if time.monotonic() > deadline:
                        raise Unreachable(f"it did not run: {error}") from None
                self._pause(POLL)
        return False

    def _taken(self) -> bool | None:
        """Try once; ``None`` while this host is drained, and no other host has taken the moment."""
        own = leases.opened(self.app)
        suspended = own.read(names.suspended(self.job))
        if suspended and suspended.value:
            return False
        while True:
            kept = own.read(names.moment(self.job))
            known = record.mapping(kept.value if kept else None)
            if known.get("run") == self.number:
                return True
            if kept and not schedule.due(self.said["calendar"], known.get("at", 0.0), time.time()):
                return False
            if self._is_drained():
                return None
            taken = {"at": time.time(), "run": self.number, "host": self.said["host"]}
            try:
                if own.advance(names.moment(self.job), kept.value if kept else None, json.dumps(taken)):
                    return True
            except Unreachable:
                # It may have been written: the next look tells.
                self._pause(POLL)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Let one runner of this host decide. Another one that waits for long, on a drained host, decides for all."""
        os.makedirs(names.RUNTIME, mode=0o700, exist_ok=True)
        with open(f"{names.RUNTIME}/{self.app}.{self.job}.lock", "w", encoding="ascii") as stream:
            deadline = time.monotonic() + DECIDES
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        yield False
                        return
                    time.sleep(0.05)
            yield True

    def _is_drained(self) -> bool:
        return leases.is_drained()

    # --- The run ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.by == "hand" and self._is_drained():
            raise Failed("this host is drained; run it on another one")
        if self.said["overlap"] != "allow":
            reason = self._wait_for_turn()
            if reason:
                self._end(record.SKIPPED, reason)
                return
            self._clear()
        self.run["started"] = time.time()
        number, release = self._release()
        self.run |= {"release": number, "build": release["build"][:12], "process": self.said["process"]}
        record.note(self.app, self.job, self.run)
        kind = self.said["process"]
        command = ["setpriv", "--pdeathsig", "TERM", "--", names.LAUNCHER, self.app, str(number)]
        command.append(f"{kind}.{self.job}.{self.number}")
        environ = {"PATH": os.defpath}
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environ, start_new_session=True
        ) as child:
            status, reason = self._attended(child)
        if status:
            self._end(status, reason)
        elif child.returncode:
            self._end(record.FAILED, ended.how(child.returncode), child.returncode)
        else:
            self._end(record.SUCCEEDED, "", 0)

    def _release(self) -> tuple[int, Said]:
        """Return the release that serves, and what it is."""
        try:
            number = int(os.path.basename(os.readlink(f"{ended.APPS}/{self.app}/current")))
        except (OSError, ValueError):
            raise Failed(f"no release of {self.app} serves; converge first") from None
        release = record.mapping(files.read(f"{ended.APPS}/{self.app}/releases/{number}/release.json"))
        if self.said["process"] not in release.get("processes", {}):
            raise Failed(f"v{number} has no process type {self.said['process']}; converge")
        return number, release

    def _wait_for_turn(self) -> str:
        """Take the lease of the job's runs; return why that is not to be, empty where it is taken."""
        deadline = time.monotonic() + PATIENCE
        is_asked = False
        holder = "another one"
        while not self.is_stopped:
            try:
                own = leases.opened(self.app)
                self.lease = own.take(names.lease(self.job), TTL, json.dumps(self.run))
                if self.lease:
                    return ""
                entry = own.read(names.lease(self.job))
                held = record.mapping(entry.value if entry else None)
                holder = f"the run of {record.moment(held['started'])} on {held['host']}" if held else holder
                if self.said["overlap"] == "forbid":
                    return f"{holder} is still under way"
                if held and not is_asked:
                    before = own.read(names.replaced(self.job))
                    is_asked = own.advance(names.replaced(self.job), before.value if before else None, held["run"])
                    deadline = time.monotonic() + self.said["grace"] + TTL + BACKSTOP
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                return f"{holder} has not ended"
            self._pause(LOOK)
        return "the host shuts down"

    def _clear(self) -> None:
        """End what a runner that was killed has left of earlier runs on this host."""
        for one in record.runs(self.app, self.job):
            if one["status"] == record.RUNNING and one["run"] != self.number:
                ended.abandoned(self.app, self.job, one["run"])

    def _attended(self, child: subprocess.Popen[bytes]) -> tuple[str, str]:
        """Wait until the process has ended; end it where its time is over, it is replaced, or its lease is lost.

        :return: the run's status and the reason, where this runner has ended it; empty texts otherwise.
        """
        began = time.monotonic()
        renewed = time.monotonic()
        descriptor = os.pidfd_open(child.pid)
        try:
            while not select.select([descriptor], [], [], LOOK)[0]:
                if self.is_stopped:
                    return self._ended(child, record.FAILED, "ended: it was stopped, or the host shuts down")
                if time.monotonic() > began + self.said["timeout"]:
                    where = f"app.{self.app}.jobs.{self.job}.timeout"
                    return self._ended(child, record.FAILED, f"not done after {self.said['timeout']} s ({where})")
                if self.lease and time.monotonic() > renewed + RENEWAL:
                    renewed = time.monotonic()
                    if (until := self._bound(self.lease)) is not None:
                        reason = "ended: this host cannot tell any more that it alone runs it"
                        return self._ended(child, record.FAILED, reason, until)
                if self.lease and self.said["overlap"] == "replace" and self._is_replaced():
                    return self._ended(child, record.REPLACED, "ended for another run in its place")
        finally:
            os.close(descriptor)
        child.wait()
        return "", ""

    def _bound(self, lease: Lease) -> float | None:
        """Renew the lease; return until when the run must have ended, ``None`` where it may go on."""
        try:
            # One that is lost another host may have by now.
            return None if lease.renew() else leases.now()
        except Unreachable:
            return lease.deadline if leases.now() >= lease.deadline - RESERVE else None

    def _is_replaced(self) -> bool:
        with contextlib.suppress(Unreachable):
            entry = leases.opened(self.app).read(names.replaced(self.job))
            return bool(entry and entry.value == self.number)
        return False

    def _ended(
        self, child: subprocess.Popen[bytes], status: str, reason: str, until: float | None = None
    ) -> tuple[str, str]:
        """End the process: SIGTERM, its grace, SIGKILL for all that is left of it.

        :param until: when it must have ended, on the clock of leases.
        """
        child.terminate()
        seconds = self.said["grace"] + BACKSTOP
        if until is not None:
            seconds = min(seconds, max(until - leases.now() - 2, 0))
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            ended.kill(self._scope())
            child.wait()
        return status, reason

    def _scope(self) -> str:
        return names.scope(self.app, self.said["process"], self.job, self.number, self.run.get("release", 0))

    # --- The end ------------------------------------------------------------------------------------------------------

    def _end(self, status: str, reason: str, code: int | None = None) -> None:
        """Note how the run ended, on this host and for all hosts, and tell it in the app's log."""
        self.run |= {"ended": time.time(), "status": status, "reason": reason}
        if code is not None:
            self.run["exit"] = code
        if status == record.FAILED and "release" in self.run:
            self.run["lines"] = self._lines()
        ended.noted(self.app, self.job, self.run)

    def _lines(self) -> list[str]:
        """Return what the run has logged last, without values of the app's config."""
        ended.run(["journalctl", "--sync"])
        own = [f"SYSLOG_IDENTIFIER={self.app}[{self.job}]", "_UID=0", "_TRANSPORT=stdout"]
        mark, since = f"^v[0-9]+ {self.job}.{self.number} starts", f"@{int(self.run['started'])}"
        starts = journal.lines(ended.run, own, since=since, grep=mark)
        if not starts:
            return []
        found = journal.lines(ended.run, [f"_STREAM_ID={starts[0]['_STREAM_ID']}"], raw=True, since=since, lines=LINES)
        text = masking.masked("\n".join(journal.texts(found)), ended.config(self.app, self.run["release"]))
        return [terminal.escaped(line)[:WIDTH] for line in text.splitlines()][-LINES:]

    def _pause(self, seconds: float) -> None:
        """Wait, but not on when the runner is to end."""
        deadline = time.monotonic() + seconds
        while not self.is_stopped and time.monotonic() < deadline:
            time.sleep(min(0.2, seconds))


def start(app: str, job: str, by: str = "clock", number: str = "") -> None:
    """Become systemd-run, which starts a runner in a unit of its own: the timer's unit is free at once.

    :param app: the app's name.
    :param job: the job's name.
    :param by: ``clock`` or ``hand``: whoever runs it by hand waits for its end.
    :param number: the run's.
    """
    said = record.mapping(files.read(names.declared(app, job)))
    if not said:
        sys.exit(f"{app}: no job {job} is declared on this host")
    number = number or str(time.time_ns() // 1_000_000)
    command = ["systemd-run", "--quiet", "--collect", f"--unit={names.run_unit(app, job, number)}"]
    command += ["--wait" if by == "hand" else "--no-block", f"--description=A run of the job {job} of {app}"]
    command += ["-p", "KillMode=mixed", "-p", f"TimeoutStopSec={said['grace'] + 4 * BACKSTOP}"]
    # systemd runs this at the runner's end, also where somebody has killed it.
    abandon = f'[ "$SERVICE_RESULT" = success ] || exec {names.RUNNER} abandoned {app} {job} {number}'
    command += ["-p", f"ExecStopPost=/bin/sh -c '{abandon}'"]
    command += ["-p", f"After={' '.join(['network-online.target', *said['after']])}"]
    os.execvp(command[0], [*command, "--", names.RUNNER, "run", app, job, number, by])


def main(word: str, app: str, job: str, *more: str) -> None:
    """Do what the runner is told.

    :param word: ``start``, ``run``, ``abandoned`` or ``known``.
    :param app: the app's name.
    :param job: the job's name.
    """
    os.umask(0o022)
    if word == "start":
        start(app, job, *more)
    elif word == "known":
        try:
            print(json.dumps(ended.known_of(app, job)))
        except Unreachable as error:
            sys.exit(str(error))
    elif word == "abandoned":
        ended.abandoned(app, job, *more)
    else:
        number, by = more
        said = record.mapping(files.read(names.declared(app, job)))
        with contextlib.suppress(KeyError):
            pwd.getpwnam(app)
            if said:
                _run(Runner(app, job, number, by, said))


def _run(runner: Runner) -> None:
    def stop(*_: Any) -> None:
        runner.is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    runner.go()
