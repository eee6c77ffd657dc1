"""Releases: a build and a config, numbered and immutable, and the one that serves.

What is declared is compared with what is on the host (``plan``), and what differs is done (``deploy``). Whatever fails
before nginx is switched leaves the serving release as it is; whatever is interrupted is put right by the next converge,
since each step first looks at what is there.

Under ``/srv/apps/<app>/releases/<n>/`` are ``release.json`` (what it is), ``env/`` (a file for each variable),
``build`` (a link) and ``outcome``: ``serving`` once it has served, or why it was refused. A release without one was
interrupted.
"""

import contextlib
import datetime
import fcntl
import grp
import http.client
import json
import os
import shutil
import signal
import subprocess
import time

from salt.exceptions import CommandExecutionError

__load__ = ["deploy", "plan"]

ROOT = "/srv/apps"
NGINX = "/etc/nginx"
SERVING = "serving"
POLL = 0.1
LOG_LINES = 15

# What supervisor says of a process that it does not know.
ABSENT = {"state": "not known to supervisor", "pid": 0, "up": 0, "exit": "not known to supervisor"}

# Shorter values are too likely to be ordinary words of a log line.
SHORTEST_SECRET = 8


class Refusal(Exception):
    """A release does not come to serve: the step that failed, and the reason."""


# --- What is there ----------------------------------------------------------------------------------------------------


def _directory(app, number):
    return f"{ROOT}/{app}/releases/{number}"


def _numbers(app):
    """List an app's releases on the host, sorted."""
    directory = f"{ROOT}/{app}/releases"
    return sorted(int(name) for name in os.listdir(directory) if name.isdigit()) if os.path.isdir(directory) else []


def _current(app):
    """Return the number of the current release, or ``None``."""
    try:
        name = os.path.basename(os.readlink(f"{ROOT}/{app}/current"))
    except OSError:
        return None
    return int(name) if name.isdigit() and os.path.isdir(_directory(app, name)) else None


def _record(app, number):
    """Return a release's record, empty where it cannot be read."""
    try:
        with open(f"{_directory(app, number)}/release.json", encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _environ(app, number):
    """Return a release's config as it is on the disk, bytes by name."""
    directory, found = f"{_directory(app, number)}/env", {}
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        with open(f"{directory}/{name}", "rb") as stream:
            found[name] = stream.read()
    return found


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


# --- What is to be done -----------------------------------------------------------------------------------------------


def plan(app):
    """Compare what is declared for an app with what serves.

    :param app: the app's name.
    :return: ``number`` of the release that is to serve, whether it is ``new``, the ``ports`` of its processes and the
        ``changes`` as a state reports them. Without changes there is nothing to do.
    :raises CommandExecutionError: when the formation asks for what the build does not have.

    CLI Example:

    .. code-block:: bash

        salt-call release.plan tickets
    """
    one = __pillar__["app"][app]
    current = _current(app)
    _check_formation(app, one)
    slot = _slot(app, current, one["port"])
    if current is None or not _is_same(app, current, one):
        number = max(_numbers(app), default=0) + 1
        old = None if current is None else f"v{current}"
        return {
            "number": number,
            "new": True,
            "ports": __salt__["process.ports"](one["formation"], one["port"], 0 if current is None else 1 - slot),
            "changes": {"release": {"old": old, "new": f"v{number}"}},
        }
    ports = __salt__["process.ports"](one["formation"], one["port"], slot)
    return {"number": current, "new": False, "ports": ports, "changes": _drift(app, current, ports)}


def _check_formation(app, one):
    """Refuse a formation with a process type that the declared build, where it is on the host, does not have."""
    build = one["build"]["sha256"][:12]
    text = _read(f"{ROOT}/{app}/builds/{build}/build.json")
    types = json.loads(text)["processes"] if text else one["formation"]
    for kind, count in sorted(one["formation"].items()):
        if count and kind not in types:
            known = ", ".join(sorted(types))
            raise CommandExecutionError(
                f"app.{app}.formation.{kind}: the Procfile of build {build} has no such process type; "
                f"expected one of {known}"
            )


def _is_same(app, number, one):
    """Tell whether a release is what is declared."""
    wanted = {name: value.encode() for name, value in __salt__["attachment.environ"](app).items()}
    return _record(app, number).get("build") == one["build"]["sha256"] and _environ(app, number) == wanted


def _slot(app, number, first):
    """Return which of the two slots of ports a release has."""
    used = __salt__["process.configured"](app, number) if number else {}
    web = __salt__["process.ports"]({"web": 1}, first, 1)["web.1"]
    return 1 if any(port and port >= web for port in used.values()) else 0


def _drift(app, number, ports):
    """Compare the current release's processes and servers with what they should be."""
    changes, wanted = {}, {f"{app}.v{number}.{process}" for process in ports}
    found = __salt__["process.info"](app)
    for name in sorted(wanted | found.keys()):
        state = found.get(name, {}).get("state")
        if name not in wanted:
            changes[name] = {"old": state, "new": None}
        elif state != "RUNNING":
            changes[name] = {"old": state, "new": "RUNNING"}
    for process, port in ports.items():
        name = f"{app}.v{number}.{process}"
        reason = _ask(app, port) if port and name not in changes else None
        if reason:
            changes[name] = {"old": reason, "new": "healthy"}
    files = {__salt__["process.path"](app, number): __salt__["process.rendered"](app, number, ports)}
    files |= {f"{NGINX}/{path}": text for path, text in _servers(app, ports).items()}
    for path, text in files.items():
        if _read(path) != text:
            changes[path] = {"old": "as it was", "new": "as declared"}
    for _, other in __salt__["process.releases"](app):
        if other != number:
            changes[__salt__["process.path"](app, other)] = {"old": "as it was", "new": None}
    return changes


def _servers(app, ports):
    """Return the file of nginx's tree that names the web processes, if nginx serves the app here."""
    if app not in __pillar__["nginx"]["fronts"]:
        return {}
    return {__salt__["nginx_tree.upstream_path"](app): __salt__["nginx_tree.upstream"](filter(None, ports.values()))}


# --- Doing it ---------------------------------------------------------------------------------------------------------


def deploy(app):
    """Bring the declared release of an app to serve.

    :param app: the app's name.
    :return: the number of the release that serves.
    :raises CommandExecutionError: when it was refused, with the step, the reason and what its processes logged last.

    CLI Example:

    .. code-block:: bash

        salt-call release.deploy tickets
    """
    with _locked(app):
        wanted = plan(app)
        number, ports = wanted["number"], wanted["ports"]
        started = time.time()
        try:
            if wanted["new"]:
                _release(app, number, ports)
            else:
                _scale(app, number, ports)
        except (Refusal, CommandExecutionError, OSError) as error:
            if wanted["new"]:
                _refuse(app, number, str(error))
            raise CommandExecutionError(_message(app, wanted, error, started)) from error
        return number


@contextlib.contextmanager
def _locked(app):
    """Keep others from moving an app's releases meanwhile. They wait."""
    with open(f"/run/lock/saltern-{app}.lock", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _release(app, number, ports):
    """Stage a release, start it beside the one that serves, and switch to it."""
    current = _current(app)
    _clear(app, current)
    _stage(app, number)
    _run_release_process(app, number)
    __salt__["process.apply"](app, number, ports)
    _wait(app, number, ports, is_new=True)
    _switch(app, ports)
    _point(app, number)
    _settle(app, number, drain=current is not None)


def _scale(app, number, ports):
    """Have exactly the declared processes of the current release running."""
    before = __salt__["process.configured"](app, number)
    __salt__["process.apply"](app, number, before | ports)
    _wait(app, number, ports, is_new=False)
    _switch(app, ports)
    if before.keys() - ports.keys():
        _drain(app)
        __salt__["process.apply"](app, number, ports)
    _settle(app, number, drain=False)


def _clear(app, current):
    """Remove what an interrupted run left behind."""
    others = [number for _, number in __salt__["process.releases"](app) if number != current]
    if others and current is not None:
        # It may have been interrupted between the switch of nginx and that of the link.
        _switch(app, __salt__["process.configured"](app, current))
        _drain(app)
    if others or __salt__["process.info"](app).keys() - __salt__["process.info"](app, current).keys():
        __salt__["process.remove"](app, others)
    directory = f"{ROOT}/{app}/releases"
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        interrupted = name.isdigit() and int(name) != current and not os.path.exists(f"{directory}/{name}/outcome")
        if name.startswith(".") or interrupted:
            shutil.rmtree(f"{directory}/{name}")


def _stage(app, number):
    """Write a release: it is there whole, or not at all."""
    sha256 = __pillar__["app"][app]["build"]["sha256"]
    environ = __salt__["attachment.environ"](app)
    group = grp.getgrnam(app).gr_gid
    build = f"{ROOT}/{app}/builds/{sha256[:12]}"
    made = json.loads(_read(f"{build}/build.json"))
    record = {
        "app": app,
        "number": number,
        "build": sha256,
        "version": made["version"],
        "commit": made["commit"],
        "processes": made["processes"],
        "variables": sorted(environ),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    target = _directory(app, number)
    staged = f"{os.path.dirname(target)}/.{number}"
    for directory in (os.path.dirname(target), staged, f"{staged}/env"):
        os.makedirs(directory, exist_ok=True)
        _give(directory, group, 0o750)
    for name, value in environ.items():
        _write(f"{staged}/env/{name}", value.encode(), group)
    _write(f"{staged}/release.json", (json.dumps(record, indent=2) + "\n").encode(), group)
    os.symlink(os.path.relpath(build, target), f"{staged}/build")
    os.rename(staged, target)


def _give(path, group, mode):
    os.chown(path, 0, group)
    os.chmod(path, mode)


def _write(path, data, group):
    """Write a file that only root may change and the app's group may read, and that a power failure does not empty."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    _give(path, group, 0o640)


def _run_release_process(app, number):
    """Run the process type ``release`` once, if there is one, and wait for its end."""
    if "release" not in _record(app, number)["processes"]:
        return
    timeout = __pillar__["app"][app]["release_timeout"]
    # It ends with the run that started it, so that no migration goes on behind the next one's back.
    user = ["setpriv", "--reuid", app, "--regid", app, "--clear-groups", "--pdeathsig", "TERM"]
    command = [*user, "/usr/local/lib/saltern/process", app, str(number), "release"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Refusal(f"release: not done after {timeout} s (app.{app}.release_timeout)") from None
    if process.returncode:
        raise Refusal(f"release: {_ending(process.returncode)}")


def _ending(returncode):
    return f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"


def _wait(app, number, ports, is_new):
    """Wait until each process of a release is up, and each web process healthy.

    :param is_new: whether a process that ends is a reason to give up. A process of the serving release may
        still be waiting for what it attaches.
    """
    health = __pillar__["app"][app]["health"]
    deadline = time.monotonic() + health["grace"]
    pids, healthy, reasons = {}, set(), {}
    while True:
        info = __salt__["process.info"](app, number)
        reasons.clear()
        for process, port in ports.items():
            one = info.get(f"{app}.v{number}.{process}", ABSENT)
            restarted = pids.get(process, 0) not in (0, one["pid"])
            ended = restarted or one["state"] in ("BACKOFF", "EXITED", "FATAL")
            pids[process] = one["pid"]
            if ended and is_new:
                raise Refusal(f"{process}: ended by itself, {one['exit']}")
            if ended:
                healthy.discard(process)
            if one["state"] != "RUNNING":
                reasons[process] = one["state"]
            elif port is None and one["up"] < (health["settle"] if is_new else 1):
                reasons[process] = "not yet up for long"
            elif port is not None and process not in healthy:
                reason = _ask(app, port)
                if reason:
                    reasons[process] = reason
                else:
                    healthy.add(process)
        if not reasons:
            return
        if time.monotonic() > deadline:
            process, reason = next(iter(reasons.items()))
            raise Refusal(f"{process}: not healthy within {health['grace']} s: {reason}")
        time.sleep(POLL)


def _ask(app, port):
    """Ask a web process for its health; return what is wrong, or ``None``."""
    one = __pillar__["app"][app]
    health = one["health"]
    headers = {"Host": (one["domains"] or ["localhost"])[0], "X-Forwarded-Proto": "https", "User-Agent": "saltern"}
    # Every converge asks: requests alone would take longer to import than all the answers together.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=health["timeout"])
    try:
        connection.request("GET", health["path"], headers=headers)
        status = connection.getresponse().status
    except TimeoutError:
        return f"{health['path']} did not answer within {health['timeout']} s"
    except (OSError, http.client.HTTPException) as error:
        return f"{health['path']} cannot be asked ({type(error).__name__})"
    finally:
        connection.close()
    return None if status == health["status"] else f"{health['path']} answered {status}, not {health['status']}"


def _switch(app, ports):
    """Have nginx send requests to these web processes."""
    texts = {path: text for path, text in _servers(app, ports).items() if _read(f"{NGINX}/{path}") != text}
    if texts:
        __salt__["nginx_tree.promote"](NGINX, texts)


def _drain(app):
    """Let requests in flight end, for as long as a web process would be given for it."""
    __salt__["nginx_tree.drain"](__pillar__["app"][app]["grace"].get("web", 30))


def _point(app, number):
    """Make a release the current one."""
    _write(f"{_directory(app, number)}/outcome", f"{SERVING}\n".encode(), grp.getgrnam(app).gr_gid)
    link = f"{ROOT}/{app}/current"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{link}.new")
    os.symlink(f"releases/{number}", f"{link}.new")
    os.rename(f"{link}.new", link)


def _settle(app, number, drain):
    """Stop what served before, and drop what is too old to go back to."""
    others = [other for _, other in __salt__["process.releases"](app) if other != number]
    strays = __salt__["process.info"](app).keys() - __salt__["process.info"](app, number).keys()
    if drain:
        _drain(app)
    if others or strays:
        __salt__["process.remove"](app, others)
    _prune(app, number)


def _prune(app, current):
    """Keep the last releases that served, as many of those that were refused, and the builds that they have."""
    keep = __pillar__["app"][app]["keep_releases"]
    others = [number for number in _numbers(app) if number != current]
    served = [number for number in others if _read(f"{_directory(app, number)}/outcome") == f"{SERVING}\n"]
    refused = [number for number in others if number not in served]
    for number in {*served[: 1 - keep], *refused[:-keep]}:
        shutil.rmtree(_directory(app, number))
    builds = {_record(app, number).get("build", "")[:12] for number in _numbers(app)}
    builds.add(__pillar__["app"][app]["build"]["sha256"][:12])
    for name in os.listdir(f"{ROOT}/{app}/builds"):
        if name not in builds:
            shutil.rmtree(f"{ROOT}/{app}/builds/{name}", ignore_errors=True)


def _refuse(app, number, reason):
    """Take back a release that did not come to serve, and note why."""
    current = _current(app)
    if number == current:
        return
    with contextlib.suppress(CommandExecutionError):
        _clear_processes(app, number, current)
    if os.path.isdir(_directory(app, number)):
        _write(f"{_directory(app, number)}/outcome", f"refused: {reason}\n".encode(), grp.getgrnam(app).gr_gid)
    _prune(app, current)


def _clear_processes(app, number, current):
    if current is not None:
        _switch(app, __salt__["process.configured"](app, current))
    if (app, number) in __salt__["process.releases"](app):
        __salt__["process.remove"](app, [number])


# --- Saying it --------------------------------------------------------------------------------------------------------


def _message(app, wanted, error, started):
    """Say which step failed, why, what serves, and what the processes logged last."""
    number, current = wanted["number"], _current(app)
    if number == current:
        text = f"v{number} is not as declared: {error}"
    else:
        serving = f"v{current} goes on serving" if current else "no release serves"
        text = f"v{number} was refused: {error}; {serving}"
    process = str(error).partition(":")[0]
    lines = _log(app, process, started) if process == "release" or process in wanted["ports"] else []
    if lines:
        text += f". {app}[{process}] logged last:\n" + "\n".join(f"  {line}" for line in lines)
    return masked(text, __salt__["attachment.environ"](app))


def _log(app, process, started):
    """Return the last lines that a process logged since a time."""
    command = ["journalctl", "-q", "-o", "cat", "-n", str(LOG_LINES), "--since", f"@{int(started)}"]
    command += ["-t", f"{app}[{process}]"]
    return __salt__["cmd.run_stdout"](command, python_shell=False, ignore_retcode=True).splitlines()


def masked(text, environ):
    """Put a variable's name in place of its value.

    :param text: what goes to people.
    :param environ: value by variable.
    :return: the text without values of eight or more characters.
    """
    for name, value in sorted(environ.items(), key=lambda item: -len(item[1])):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"<{name}>")
    return text
