"""A run by hand, in the foreground: its lines as they come, and how it ended."""

import subprocess
import sys
import time
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.jobs import names, record, report
from saltern.system import journal, terminal

# Seconds between two looks for new lines.
LOOK = 0.5


def run(host: Host, app: str, job: str) -> tuple[dict[str, Any], int]:
    """Run a job now, on this host, and wait for its end.

    It goes on where whoever waits is interrupted. It takes no scheduled moment.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :return: how it ended, and its exit status; 1 where it has none.
    :raises CommandExecutionError: when there is no such job here, or it did not begin: another run is under way.
    """
    report.declared(host, app, job)
    number = str(time.time_ns() // 1_000_000)
    command = [names.RUNNER, "start", app, job, "hand", number]
    began = time.time()
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            lines = Lines(host, app, job, number, began)
            while process.poll() is None:
                lines.show()
                time.sleep(LOOK)
            host.run(["journalctl", "--sync"])
            lines.show()
    except OSError as error:
        raise CommandExecutionError(f"{names.RUNNER}: {error.strerror}; converge this host first") from None
    known = record.of(app, job, number)
    if known is None or known["status"] == record.SKIPPED or "release" not in known:
        reason = known["reason"] if known else "it did not begin; converge this host first"
        raise CommandExecutionError(f"{app}: {job}: {reason}")
    shown = {
        "status": known["status"],
        "reason": known.get("reason", ""),
        "release": f"v{known['release']}",
        "took": f"{known['ended'] - known['started']:.1f} s",
    }
    code = known.get("exit")
    return dict(terminal.shown(shown)), code if code is not None and code >= 0 else 1


class Lines:
    """The lines of a run, shown on standard error as they come.

    :param host: the host.
    :param app: the app's name.
    :param job: the job's name.
    :param number: the run's.
    :param began: seconds since 1970.
    """

    def __init__(self, host: Host, app: str, job: str, number: str, began: float) -> None:
        self.host, self.stream = host, ""
        self.own = [f"SYSLOG_IDENTIFIER={app}[{job}]", "_UID=0", "_TRANSPORT=stdout"]
        self.mark, self.since = f"^v[0-9]+ {job}.{number} starts", f"@{int(began)}"
        self.options: dict[str, Any] = {"since": self.since}

    def show(self) -> None:
        """Show those that have come since the last time."""
        if not self.stream:
            starts = journal.lines(self.host.run, self.own, grep=self.mark, since=self.since)
            self.stream = starts[0]["_STREAM_ID"] if starts else ""
        entries = journal.lines(self.host.run, [f"_STREAM_ID={self.stream}"], **self.options) if self.stream else []
        for line in journal.texts(entries):
            print(line, file=sys.stderr, flush=True)
        if entries:
            self.options = {"after-cursor": entries[-1]["__CURSOR"]}
