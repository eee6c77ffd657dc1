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
import stat

from salt.exceptions import CommandExecutionError

from saltern.system import deletion

__load__ = [
    "attach",
    "build",
    "created",
    "current",
    "discard",
    "environ",
    "held",
    "hold",
    "leftovers",
    "log",
    "lost",
    "mark",
    "mend",
    "misplaced",
    "next_number",
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
# What stands in the place of `current` and is no link is kept here until the app is removed.
FOUND = "current.found"
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


def next_number(app):
    """Return the number of an app's next release: none that was ever a release's on this host, as far as can be seen.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    told = [line["release"] for line in log(app) if isinstance(line["release"], int)]
    return max([0, *numbers(app), *_configured(app), *told]) + 1


def current(app):
    """Return the number of the release that serves, or ``None``.

    ``current`` says which one. Where that link is broken or was moved by hand, supervisor still runs the processes of
    the release that serves, whatever has become of its directory; and where it runs none, it is the last that served.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    linked, configured = _linked(app), _configured(app)
    if linked is not None and (linked in configured or not configured):
        return linked if linked in configured or os.path.isdir(_directory(app, linked)) else _last(app, numbers(app))
    # One without an outcome was interrupted before it served, unless all of it is gone.
    served = [n for n in configured if outcome(app, n) == SERVING or not os.path.isdir(_directory(app, n))]
    if served:
        return max(served)
    is_there = linked is not None and os.path.isdir(_directory(app, linked))
    return linked if is_there else _last(app, numbers(app))


def _linked(app):
    """Return the number of the release that ``current`` names, whether it is there or not; or ``None``."""
    try:
        name = os.path.basename(os.readlink(f"{ROOT}/{app}/current"))
    except OSError:
        return None
    return int(name) if name.isdigit() else None


def _last(app, candidates):
    return max((number for number in candidates if outcome(app, number) == SERVING), default=None)


def _configured(app):
    """Return the releases whose processes supervisor is told to run, or runs where nothing tells it any more."""
    if found := [number for _, number in __salt__["process.releases"](app)]:
        return found
    with contextlib.suppress(CommandExecutionError):
        return sorted({int(name.split(".")[1].removeprefix("v")) for name in __salt__["process.info"](app)})
    return []


def misplaced(app, number):
    """List what of the release that serves is not where it was, or not for the app to read, and can be put right there.

    :param app: the app's name.
    :param number: the release's number.
    :return: by path, what it is (``old``) and what it should be (``new``).

    CLI Example: none, it serves the module release.
    """
    found, directory = {}, _directory(app, number)
    for path, wanted in ((f"{ROOT}/{app}/current", f"releases/{number}"), (f"{directory}/build", _target(app, number))):
        if wanted and _link(path) != wanted and os.path.isdir(directory):
            found[path] = {"old": _link(path), "new": wanted}
    try:
        group = _group(app)
    except KeyError:
        # A dry run on a host whose user is gone: what is made for it anew is another's until then.
        return found
    directories = [os.path.dirname(directory), directory, f"{directory}/env"]
    files = [f"{directory}/release.json", *(f"{directory}/env/{name}" for name in _names(f"{directory}/env"))]
    for path in [*directories, *files]:
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            kind = stat.S_ISDIR if path in directories else stat.S_ISREG
            wanted, mode = (0, group, 0o750 if path in directories else 0o640), stat.S_IMODE(status.st_mode)
            if kind(status.st_mode) and (status.st_uid, status.st_gid, mode) != wanted:
                old = f"mode {mode:04o} of {status.st_uid}:{status.st_gid}"
                found[path] = {"old": old, "new": f"mode {wanted[2]:04o} of 0:{group}"}
    if os.path.isdir(directory) and outcome(app, number) != SERVING:
        found[f"{directory}/outcome"] = {"old": outcome(app, number) or None, "new": SERVING}
    return found


def _link(path):
    """Say what a link leads to, or what is in its place; ``None`` where there is nothing."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:
        return "a directory" if os.path.isdir(path) else "no link"


def _target(app, number):
    sha256 = record(app, number).get("build")
    return f"../../builds/{sha256[:12]}" if isinstance(sha256, str) else None


def _names(directory):
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def mend(app, number):
    """Put right what ``misplaced`` lists.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    group = _group(app)
    for path, what in misplaced(app, number).items():
        if path == f"{ROOT}/{app}/current":
            point(app, number)
        elif path.endswith("/outcome"):
            mark(app, number, SERVING)
        elif path.endswith("/build"):
            _clear(path)
            os.symlink(what["new"], path)
        else:
            os.chown(path, 0, group)
            os.chmod(path, 0o750 if os.path.isdir(path) else 0o640)


def lost(app, number):
    """List what a release lacks to be started again. What runs goes on without it.

    :param app: the app's name.
    :param number: the release's number.
    :return: by path, what is wrong with it.

    CLI Example: none, it serves the module release.
    """
    directory, what = _directory(app, number), record(app, number)
    if not os.path.isdir(directory):
        return {directory: "is missing"}
    if not isinstance(what.get("processes"), dict) or not isinstance(what.get("build"), str):
        said = "says nothing of a release" if os.path.isfile(f"{directory}/release.json") else "is missing"
        return {f"{directory}/release.json": said}
    if not os.path.isdir(f"{directory}/env"):
        return {f"{directory}/env": "is missing"}
    made = build(app, what["build"])
    if made and made.get("processes") != what["processes"]:
        return {f"{directory}/release.json": "names other processes than its build"}
    names = set(_names(f"{directory}/env"))
    known = set(what["variables"]) if isinstance(what.get("variables"), list) else names
    found = {f"{directory}/env/{name}": "is missing" for name in known - names}
    found |= {f"{directory}/env/{name}": "is no variable of this release" for name in names - known}
    for name in names & known:
        if not stat.S_ISREG(os.lstat(f"{directory}/env/{name}").st_mode):
            found[f"{directory}/env/{name}"] = "is no file"
    return dict(sorted(found.items()))


def record(app, number):
    """Return what a release is, empty where that cannot be read.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    return _parsed(f"{_directory(app, number)}/release.json")


def created(app, number):
    """Return when a release was made, in seconds since 1970, and 0 where that cannot be told.

    What was told of a release of this number before is not of this one: an app that was removed and is declared again
    counts from v1.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the modules drain, journal and release.
    """
    try:
        return datetime.datetime.fromisoformat(record(app, number)["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


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
    for name in _names(directory):
        if stat.S_ISREG(os.lstat(f"{directory}/{name}").st_mode):
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
    _clear(f"{link}.new")
    os.symlink(f"releases/{number}", f"{link}.new")
    if os.path.isdir(link) and not os.path.islink(link):
        # Somebody's, who may have put something there.
        _clear(f"{ROOT}/{app}/{FOUND}")
        os.rename(link, f"{ROOT}/{app}/{FOUND}")
    os.rename(f"{link}.new", link)


def _clear(path):
    """Have nothing at a path."""
    if os.path.isdir(path) and not os.path.islink(path):
        _delete(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _delete(path):
    """Delete what is at a path; what is mounted there stays, and with it the directories that lead to it."""
    if said := deletion.delete([path]):
        raise CommandExecutionError(f"{path}: cannot be removed: {__salt__['journal.escaped'](said)}")


def discard(app, number):
    """Remove a release.

    :param app: the app's name.
    :param number: the release's number.

    CLI Example: none, it serves the module release.
    """
    _delete(_directory(app, number))


def sweep(app):
    """Remove what interrupted runs left behind.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    for path in leftovers(app):
        _clear(path)


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
            deletion.delete([f"{directory}/{name}"])


# --- Holding and telling ----------------------------------------------------------------------------------------------


def held(app):
    """Return what is held: ``release``, ``from``, ``until``, ``time`` and ``who``. Empty where nothing is.

    A hold is of the release that it names. Once another one is current it is void.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    path = f"{ROOT}/{app}/hold.json"
    found = _parsed(path)
    if os.path.lexists(path) and not {"release", "from", "until", "time", "who"} <= found.keys():
        # That it was held is all that is known, and what it was held back from may be bad.
        return {"release": current(app), "from": None, "until": "unhold", "time": "a time", "who": "somebody"}
    return found


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
    _clear(f"{ROOT}/{app}/hold.json")


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
            said = json.loads(line)
            found += [said] if isinstance(said, dict) and {"time", "who", "event", "release"} <= said.keys() else []
    return found


def _who():
    """Return the name of the person who runs this: before sudo, of the login session, or root."""
    if os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    login = (_read("/proc/self/loginuid") or "").strip()
    with contextlib.suppress(ValueError, KeyError):
        return pwd.getpwuid(int(login)).pw_name
    return "root"
