"""What a release declares for its processes: lines, graces, environment."""

import _json
import os
import sys

# Seconds that supervisor waits where no grace is declared.
DEFAULT_GRACE = 30
# PostgreSQL's own port, which a pool is before.
DIRECT = b"5432"


def environment(directory, release, app, port):
    """Return the environment of a process, as bytes.

    :param directory: the release's directory.
    :param release: its record.
    :param app: the app's name.
    :param port: the port to listen on, or ``None``.
    """
    variables = {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1", b"TMPDIR": f"/srv/apps/{app}/tmp".encode()}
    config = os.path.join(directory, "env").encode()
    for name in os.listdir(config):
        with open(os.path.join(config, name), "rb") as stream:
            variables[name] = stream.read()
    own = {"HOME": f"/srv/apps/{app}/home", "USER": app, "LOGNAME": app, "SHELL": "/bin/sh"}
    own["PATH"] = f"{build_of(release, app)}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    if port:
        own["PORT"] = port
    return variables | {name.encode(): value.encode() for name, value in own.items()}


def past_pools(variables, release):
    """Lead attachments past PgBouncer to PostgreSQL itself, where a session has all that PostgreSQL has.

    :param variables: the environment of a process, as bytes, which is changed.
    :param release: its record.
    """
    for name, target in (release.get("attached") or {}).items():
        if "pool" not in target:
            continue
        if target.get("as") == "parts":
            port = (name if name == "PG" else f"{name}_").encode() + b"PORT"
            variables |= {port: DIRECT} if port in variables else {}
        elif (value := variables.get(name.encode())) is not None:
            # The password is quoted: neither it nor the login has any of these characters.
            head, at, rest = value.partition(b"@")
            place, slash, path = rest.partition(b"/")
            host = place.rpartition(b":")[0]
            variables[name.encode()] = head + at + host + b":" + DIRECT + slash + path if host else value


def build_of(release, app):
    return f"/srv/apps/{app}/builds/{release['build'][:12]}"


def serving(app, number, what):
    """Return the directory and the record of a release, for a one-off command.

    :param what: the command, such as ``run``, for the message of an app that no release serves.
    """
    directory = f"/srv/apps/{app}/releases/{number}"
    release = record(app, number)
    if not release:
        sys.exit(f"{app}-{what}: no release of {app} serves; converge first")
    return directory, release


class Plain:
    """JSON as the module ``json`` reads it. Its import would take longer than the rest of a start."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def record(app, number):
    """Return what a release is, empty where it cannot be read."""
    try:
        with open(f"/srv/apps/{app}/releases/{number}/release.json", encoding="utf-8") as stream:
            text = stream.read().strip()
        found, end = _json.make_scanner(Plain)(text, 0)
    # Python 3.11 raises SystemError for text that is cut off, unless json.decoder is imported.
    except (OSError, ValueError, StopIteration, SystemError):
        return {}
    return found if end == len(text) and isinstance(found, dict) else {}
