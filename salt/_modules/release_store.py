"""Releases on the disk: what each is, which one is current, whether it is held, and what happened.

Under ``/srv/apps/<app>/``:

- ``releases/<n>/`` with ``release.json`` (what it is), ``env/`` (a file for each variable), ``build`` (a link) and
  ``outcome``: ``serving`` once it has served, ``rolled back`` once it was left for an earlier one, or why it was
  refused. A release without one was interrupted.
- ``current``, a link to one of them, moved by a rename.
- ``hold.json``, where a converge is not to move on.
- ``release.log``, a line of JSON for each move.
"""

import contextlib
import datetime
import grp
import json
import os
import pwd
import shutil

__load__ = [
    "attach",
    "build",
    "current",
    "discard",
    "environ",
    "held",
    "hold",
    "leftovers",
    "log",
    "mark",
    "note",
    "numbers",
    "outcome",
    "point",
    "prune",
    "record",
    "stage",
    "sweep",
    "unhold",
]

ROOT = "/srv/apps"
SERVING = "serving"
ROLLED_BACK = "rolled back"


def _directory(app, number):
    return f"{ROOT}/{app}/releases/{number}"


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def _parsed(path):
    """Return the mapping in a file of JSON, empty where there is none."""
    try:
        found = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(path, data, group=0):
    """Replace a file that root may change and the group may read, so that a power failure leaves the old or the new."""
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)
        os.fchown(stream.fileno(), 0, group)
        os.fchmod(stream.fileno(), 0o640)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


def _group(app):
    return grp.getgrnam(app).gr_gid


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# --- What is there ----------------------------------------------------------------------------------------------------


def numbers(app):
    """List an app's releases on the host.

    :param app: the app's name.
    :return: numbers, sorted.

    CLI Example: none, it serves the module release.
    """
    directory = f"{ROOT}/{app}/releases"
    return sorted(int(name) for name in os.listdir(directory) if name.isdigit()) if os.path.isdir(directory) else []


def current(app):
    """Return the number of the current release, or ``None``.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    try:
        name = os.path.basename(os.readlink(f"{ROOT}/{app}/current"))
    except OSError:
        return None
    return int(name) if name.isdigit() and os.path.isdir(_directory(app, name)) else None


def record(app, number):
    """Return what a release is, empty where that cannot be read.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    return _parsed(f"{_directory(app, number)}/release.json")


def outcome(app, number):
    """Return what became of a release: ``serving``, ``rolled back``, ``refused: …``, or an empty string.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    return (_read(f"{_directory(app, number)}/outcome") or "").strip()


def environ(app, number):
    """Return a release's config as it is on the disk.

    :param app: the app's name.
    :param number: the release's number.
    :return: bytes by variable.

    CLI Example: none, it would print secrets.
    """
    directory, found = f"{_directory(app, number)}/env", {}
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        with open(f"{directory}/{name}", "rb") as stream:
            found[name] = stream.read()
    return found


def build(app, sha256):
    """Return what a build on the host says of itself, empty where it is not there.

    :param app: the app's name.
    :param sha256: the build's digest.

    CLI Example: none, it serves the module release.
    """
    return _parsed(f"{ROOT}/{app}/builds/{sha256[:12]}/build.json")


def leftovers(app):
    """List what interrupted runs left behind.

    :param app: the app's name.
    :return: paths.

    CLI Example: none, it serves the module release.
    """
    found = []
    for directory in (f"{ROOT}/{app}", f"{ROOT}/{app}/builds", f"{ROOT}/{app}/releases"):
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            staged = name.endswith(".new") or (name.startswith(".") and directory != f"{ROOT}/{app}")
            interrupted = directory.endswith("/releases") and name.isdigit() and not outcome(app, int(name))
            if staged or (interrupted and int(name) != current(app)):
                found.append(f"{directory}/{name}")
    return found


# --- Making a release -------------------------------------------------------------------------------------------------


def stage(app, number, sha256, grace, variables, provides, attached):
    """Write a release: it is there whole, or not at all.

    :param app: the app's name.
    :param number: the release's number.
    :param sha256: its build's digest.
    :param grace: seconds between SIGTERM and SIGKILL by process type.
    :param variables: its config, text by variable.
    :param provides: the path of each version of its API, by version.
    :param attached: what each variable of an attachment that is derived leads to; see ``attachment.targets``.

    CLI Example: none, it serves the module release.
    """
    group = _group(app)
    made = build(app, sha256)
    target = _directory(app, number)
    what = {
        "app": app,
        "number": number,
        "build": sha256,
        "version": made["version"],
        "commit": made["commit"],
        "processes": made["processes"],
        "migrations": made.get("migrations"),
        "reversible": made.get("reversible", False),
        "grace": grace,
        "provides": provides,
        "attached": attached,
        "variables": sorted(variables),
        "created": _now(),
    }
    staged = f"{os.path.dirname(target)}/.{number}"
    for directory in (os.path.dirname(target), staged, f"{staged}/env"):
        os.makedirs(directory, exist_ok=True)
        os.chown(directory, 0, group)
        os.chmod(directory, 0o750)
    for name, value in variables.items():
        _write(f"{staged}/env/{name}", value.encode(), group)
    _write(f"{staged}/release.json", (json.dumps(what, indent=2) + "\n").encode(), group)
    os.symlink(f"../../builds/{sha256[:12]}", f"{staged}/build")
    os.rename(staged, target)


def attach(app, number, variables):
    """Give a release that does not run its attachments as they are today: each is its own or today's at any moment.

    :param app: the app's name.
    :param number: the release's number.
    :param variables: text by variable.

    CLI Example: none, it serves the module release.
    """
    had = environ(app, number)
    for name, value in variables.items():
        if had.get(name) != value.encode():
            # Beside it, so that no process ever takes what is half written for a variable.
            staged = f"{_directory(app, number)}/.attached"
            _write(staged, value.encode(), _group(app))
            os.rename(staged, f"{_directory(app, number)}/env/{name}")


def mark(app, number, text):
    """Note what became of a release; see ``outcome``.

    :param app: the app's name.
    :param number: the release's number.
    :param text: the outcome.

    CLI Example: none, it serves the module release.
    """
    if os.path.isdir(_directory(app, number)):
        _write(f"{_directory(app, number)}/outcome", f"{text}\n".encode(), _group(app))


def point(app, number):
    """Make a release the current one.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    mark(app, number, SERVING)
    link = f"{ROOT}/{app}/current"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{link}.new")
    os.symlink(f"releases/{number}", f"{link}.new")
    os.rename(f"{link}.new", link)


def discard(app, number):
    """Remove a release.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    shutil.rmtree(_directory(app, number))


def sweep(app):
    """Remove what interrupted runs left behind.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    for path in leftovers(app):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def prune(app, keep, declared):
    """Keep the last releases that served, as many of those that did not, and the builds that they have.

    :param app: the app's name.
    :param keep: how many that served, the current one among them.
    :param declared: the digest of the build that the pillar asks for, which stays too.

    CLI Example: none, it serves the module release.
    """
    now = current(app)
    others = [number for number in numbers(app) if number != now]
    # What the pillar still asks for while an earlier release is held must stay to be compared with.
    kept = {held(app).get("from")}
    served = [number for number in others if outcome(app, number) in (SERVING, ROLLED_BACK)]
    refused = [number for number in others if number not in served]
    for number in {*served[: 1 - keep], *refused[:-keep]} - kept:
        discard(app, number)
    builds = {record(app, number).get("build", "")[:12] for number in numbers(app)} | {declared[:12]}
    directory = f"{ROOT}/{app}/builds"
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        if name not in builds:
            shutil.rmtree(f"{directory}/{name}", ignore_errors=True)


# --- Holding and telling ----------------------------------------------------------------------------------------------


def held(app):
    """Return what is held: ``release``, ``from``, ``until``, ``time`` and ``who``. Empty where nothing is.

    A hold is of the release that it names. Once another one is current it is void.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    return _parsed(f"{ROOT}/{app}/hold.json")


def hold(app, number, left, until):
    """Hold an app at a release.

    :param app: the app's name.
    :param number: the release that is to stay.
    :param left: the release that the pillar still asks for, or ``None``.
    :param until: ``another``, when the pillar asks for something else; or ``unhold``.

    CLI Example: none, it serves the module release.
    """
    what = {"release": number, "from": left, "until": until, "time": _now(), "who": _who()}
    _write(f"{ROOT}/{app}/hold.json", (json.dumps(what) + "\n").encode())


def unhold(app):
    """Hold an app no longer.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{ROOT}/{app}/hold.json")


def note(app, event, number, **details):
    """Add a line to an app's log.

    :param app: the app's name.
    :param event: what happened, such as ``serves``.
    :param number: the release that it happened to.
    :param details: what else there is to say. Never a variable's value.

    CLI Example: none, it serves the module release.
    """
    line = {"time": _now(), "who": _who(), "event": event, "release": number} | details
    descriptor = os.open(f"{ROOT}/{app}/release.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    with open(descriptor, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def log(app):
    """Return an app's log.

    :param app: the app's name.
    :return: a mapping for each line, oldest first.

    CLI Example: none, it serves the module release.
    """
    found = []
    for line in (_read(f"{ROOT}/{app}/release.log") or "").splitlines():
        # A power failure may have cut the last line.
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def _who():
    """Return the name of the person who runs this: before sudo, of the login session, or root."""
    if os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    login = (_read("/proc/self/loginuid") or "").strip()
    with contextlib.suppress(ValueError, KeyError):
        return pwd.getpwuid(int(login)).pw_name
    return "root"
