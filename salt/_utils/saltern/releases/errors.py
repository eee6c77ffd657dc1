"""Which lines of a log tell of an error of the release."""

import contextlib
import json
import re
from collections.abc import Sequence

# Levels of log lines, in the words of Python's logging and of most servers. The first such word counts: later words may
# come from a client.
LEVEL = re.compile(
    r"\b(DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b|\[(debug|info|notice|warn|warning|error|critical)\]"
)
GRAVE = {"error", "critical", "fatal"}
TRACEBACK = "Traceback (most recent call last):"
CHAINED = re.compile(r"(During handling of the above|The above) exception\b.*:$")
ACCESS = re.compile(r"\"[A-Z]+ \S+ HTTP/\d")

# Errors that a client causes, and that a release handles well: a malformed or an aborted request. Of Django, Werkzeug,
# Starlette, and of sockets.
CLIENTS = re.compile(
    r"^([\w.]+\.)?(Disallowed\w+|Suspicious\w+|InvalidSessionKey|RequestDataTooBig|TooMany(Fields|Files)Sent"
    r"|UnreadablePostError|MultiPart\w*(Error|Exception)|InputStreamExhausted|BadRequest\w*|ClientDisconnect(ed)?"
    r"|RequestAborted|RequestEntityTooLarge|BrokenPipeError|ConnectionResetError)(:|$)"
)
CLIENTS_LINE = re.compile(r"\bdjango\.security\.|\bInvalid HTTP_HOST header\b")


def errors_in(lines: Sequence[str]) -> list[str]:
    """Return the lines that tell of an error of the release.

    :param lines: of a log. A line of an access log shows a request, and no error. Errors that a client causes do not
        count: a wrong host, an aborted request.
    """
    found: list[str] = []
    index = 0
    while index < len(lines):
        if lines[index].startswith(TRACEBACK):
            end, reason = _traceback_end(lines, index)
            if not CLIENTS.search(reason):
                found.append(lines[index])
            elif index and found and found[-1] is lines[index - 1]:
                # The line before the traceback, which belongs to it.
                found.pop()
            index = end
            continue
        if _is_grave(lines[index]) and not ACCESS.search(lines[index]) and not CLIENTS_LINE.search(lines[index]):
            found.append(lines[index])
        index += 1
    return found


def _is_grave(line: str) -> bool:
    """Tell whether a line is one of an error, by the level that it names itself."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            levels = [str(said[key]).lower() for key in ("level", "levelname", "severity") if key in said]
            if levels:
                return levels[0] in GRAVE
    level = LEVEL.search(line)
    return level is not None and (level[1] or level[2]).lower() in GRAVE


def _traceback_end(lines: Sequence[str], index: int) -> tuple[int, str]:
    """Return where a traceback ends, with those that it is chained to, and the line of its last exception."""
    while True:
        index += 1
        while index < len(lines) and (lines[index].startswith(" ") or not lines[index]):
            index += 1
        reason = lines[index] if index < len(lines) else ""
        index += 1
        after = [line for line in lines[index : index + 4] if line]
        if len(after) < 2 or not CHAINED.match(after[0]) or not after[1].startswith(TRACEBACK):
            return index, reason
        while not lines[index].startswith(TRACEBACK):
            index += 1
