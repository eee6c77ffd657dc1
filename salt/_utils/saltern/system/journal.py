"""The journal, and what of it may be believed.

Anybody may write to the journal, under any name and any text. What is believed of a line is what journald itself adds
to it: the user of the process that wrote it (``_UID``), its unit, and the stream that it came by. What it says is shown
without the characters that would command a terminal.
"""

import json
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from saltern.system import terminal

# Where the apps' users have their home; see the state app_user.
ROOT = "/srv/apps/"
# The unit of each process of an app: app-shop-web-1.v3.scope; see the launcher, formulas/app/files/process.py. Of a run
# of a job it has the job and the run: app-shop-clearsessions-nightly.1764454512345.v3.scope
SCOPE = re.compile(
    r"app-(?P<app>[a-z0-9\\]+)-(?P<kind>[a-z0-9_\\]+)-((?P<job>[a-z][a-z0-9_\\]*)\.)?(?P<index>[0-9]+)\.v[0-9]+\.scope"
)
# What a process of an app is called in the journal.
IDENTIFIER = re.compile(r"(?P<app>[a-z][a-z0-9-]*)\[(?P<process>[a-z][a-z0-9_-]*(\.[0-9]+)?)\]")
# What the launcher says first.
STARTS = re.compile(r"v[0-9]+ \S+ starts( |$)")
# What root alone says of an app, under a name like a process's.
ROOTS = ("contract",)
# Fields that no client can write: journald alone gives names that begin with an underscore.
TRUSTED = ("_UID", "_SYSTEMD_UNIT", "_STREAM_ID", "_TRANSPORT", "__CURSOR", "__REALTIME_TIMESTAMP")
FIELDS = ("MESSAGE", "SYSLOG_IDENTIFIER", *TRUSTED)
COMMAND = ("journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={','.join(FIELDS)}")

Entry = dict[str, str]
# An app, and the name of one of its processes.
Process = tuple[str, str]
# Runs a command, and returns what it printed.
Run = Callable[[Sequence[str]], str]


def parsed(line: str) -> Entry:
    """Read a line of ``journalctl --output=json --all``.

    :param line: text.
    :return: text by field. Empty where it is no entry.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return {name: _text(value) for name, value in entry.items()} if isinstance(entry, dict) else {}


def _text(value: Any) -> str:
    """Return a field's text: journald gives what is not printable as its bytes, and several values as a list."""
    if isinstance(value, list) and value and all(isinstance(byte, int) for byte in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return "\n".join(_text(one) for one in value)
    return value if isinstance(value, str) else ""


def written(entry: Mapping[str, str]) -> float:
    """Return when an entry was written, in seconds since 1970.

    :param entry: as ``parsed`` gives it.
    """
    return int(entry.get("__REALTIME_TIMESTAMP") or 0) / 1_000_000


def texts(entries: Iterable[Mapping[str, str]]) -> list[str]:
    """Return what entries say, by the line.

    :param entries: as ``parsed`` gives them.
    """
    return [line for entry in entries for line in entry.get("MESSAGE", "").split("\n")]


def users(text: str | None = None) -> dict[str, str]:
    """Return which app a user of this host is of.

    :param text: that of another host, as ``getent passwd`` gives it.
    :return: the app's name by UID, as text. Not every app of it need be declared any more.
    """
    if text is None:
        rows = [(user.pw_name, str(user.pw_uid), user.pw_dir) for user in pwd.getpwall()]
    else:
        parts = [line.split(":") for line in text.splitlines()]
        rows = [(part[0], part[2], part[5]) for part in parts if len(part) > 5]
    return {uid: name for name, uid, home in rows if home == f"{ROOT}{name}"}


def scope_of(unit: str) -> Process | None:
    """Return of which process a unit is the scope.

    :param unit: a unit's name.
    :return: app and process, or ``None``.
    """
    found = SCOPE.fullmatch(unit)
    if not found:
        return None
    app, kind = (found[part].replace("\\x2d", "-") for part in ("app", "kind"))
    if found["job"]:
        return app, found["job"].replace("\\x2d", "-")
    return app, kind if found["index"] == "0" else f"{kind}.{found['index']}"


def app_of(
    entry: Mapping[str, str],
    users: Mapping[str, str],
    streams: Mapping[str, Process] | None = None,
    vouched: Collection[str] = (),
) -> dict[str, str | None] | None:
    """Tell which process of an app has written a line, by what journald vouches for.

    A process is known by its unit, or by its stream, which its launcher began as root. Of a launcher from before it was
    root's, the app is known by the user, and the process by what the line says: it may be another one of the same app.

    :param entry: as ``parsed`` gives it.
    :param users: as the function of this name gives them.
    :param streams: app and process by the number of a stream; see ``stream_of``.
    :param vouched: the apps whose launchers are root's, so that the user's word counts for nothing.
    :return: ``app``; ``process``, or ``None`` where nobody vouches for the one that the line names; and ``name``, what
        the line calls itself. ``None`` where neither an app nor its launcher wrote it.
    """
    name, uid = entry.get("SYSLOG_IDENTIFIER", ""), entry.get("_UID", "")
    known = scope_of(entry.get("_SYSTEMD_UNIT", "")) or (streams or {}).get(entry.get("_STREAM_ID", ""))
    claimed = IDENTIFIER.fullmatch(name)
    if known and uid in ("0", *(uid for uid, app in users.items() if app == known[0])):
        return {"app": known[0], "process": known[1], "name": name}
    # A user's id may have been that of an app which was removed. Nobody can write in the unit of another app.
    if uid in users and (not known or known[0] == users[uid]):
        app = users[uid]
        own = claimed if claimed and claimed["app"] == app and app not in vouched else None
        process = own["process"] if own and own["process"] not in ROOTS else None
        return {"app": app, "process": process, "name": name}
    # The launcher, before the process has become its app's user, and what root says of a release.
    if uid == "0" and claimed and claimed["app"] in users.values():
        return {"app": claimed["app"], "process": claimed["process"], "name": name}
    return None


def stream_of(entry: Mapping[str, str], users: Mapping[str, str]) -> Process | None:
    """Tell which process's stream an entry began, where its launcher wrote it as root.

    :param entry: as ``parsed`` gives it.
    :param users: as the function of this name gives them.
    :return: app and process, or ``None``.
    """
    claimed = IDENTIFIER.fullmatch(entry.get("SYSLOG_IDENTIFIER", ""))
    is_launcher = entry.get("_UID") == "0" and entry.get("_STREAM_ID") and STARTS.match(entry.get("MESSAGE", ""))
    if is_launcher and claimed and claimed["app"] in users.values():
        return claimed["app"], claimed["process"]
    return None


def lines(run: Run, matches: Sequence[str], raw: bool = False, **options: object) -> list[Entry]:
    """Read the journal.

    :param run: runs ``journalctl``, whatever its exit code.
    :param matches: a list of those of ``journalctl``, such as ``_UID=0``: what is no trusted field says nothing of who
        wrote a line.
    :param raw: leave the messages as they are: whoever asks looks for something in them, and escapes them then.
    :param options: of ``journalctl``, such as ``since='@1700000000'``, or ``lines=10`` for the last ten.
    :return: the entries, oldest first, as text by field.
    """
    given = [f"--{name}={value}" for name, value in options.items()]
    # Debian 12's journalctl counts from --since on, and looks for --grep among so many lines. From the end it does not.
    given += ["--reverse"] if "lines" in options else []
    output = run([*COMMAND, *given, *matches])
    entries = [entry for line in output.splitlines() if (entry := parsed(line))]
    entries = entries[::-1] if "lines" in options else entries
    return entries if raw else [terminal.shown(entry) for entry in entries]


def stream(run: Run, app: str, release: int, process: str, since: float, created: float) -> str | None:
    """Find the stream by which one process of a release has logged, from its start to its end.

    Each start has a stream of its own into the journal, which journald numbers, and of which the first line is the
    launcher's: ``v<release> <process> starts``. So neither another release's process of the same name is mixed in, nor
    what somebody else says.

    :param run: see ``lines``.
    :param app: the app's name.
    :param release: its release's number.
    :param process: such as ``web.1``.
    :param since: seconds since 1970. Of several starts since then the first counts; where there is none, the last one
        before.
    :param created: seconds since 1970: when the release was made. One of this number may have been another release, of
        an app that was removed meanwhile.
    :return: the stream's number, or ``None`` where the process was never started.
    """
    mark = rf"^v{int(release)} {re.escape(process)} starts( |$)"
    own = [f"SYSLOG_IDENTIFIER={app}[{process}]", "_TRANSPORT=stdout"]
    # Where the launcher writes as root, nobody else can. One from before that wrote as the app's user.
    writers = ["0", *(uid for uid, name in users().items() if name == app)]
    first: dict[str, Any] = {"since": f"@{int(since)}"}
    last: dict[str, Any] = {"lines": 1, "since": f"@{int(created)}"}
    for options in (first, last):
        for uid in writers:
            starts = lines(run, [*own, f"_UID={uid}"], grep=mark, **options)
            if starts and starts[0].get("_STREAM_ID"):
                return starts[0]["_STREAM_ID"]
    return None
