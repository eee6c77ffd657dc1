"""nginx's configuration tree: rendered, compared, checked as a candidate, and put live."""

import contextlib
import difflib
import os
import re
import shutil
import socket
import tempfile
import time

from salt.exceptions import CommandExecutionError

__load__ = ["changes", "drain", "is_stale", "promote", "reload", "rendered", "runs", "upstream", "upstream_path"]

# Until its first release an app has no process. nginx answers 502 and starts all the same.
NO_PROCESS = "server 127.0.0.1:1 down;\n"

PID_FILE = "/run/nginx.pid"
RELOAD_TIMEOUT = 30
SHUTTING_DOWN = "is shutting down"


def rendered(main, site, apps):
    """Render the tree that the settings ask for.

    :param main: template of ``nginx.conf``, a ``salt://`` address.
    :param site: template of a site.
    :param apps: the apps that have a site.
    :return: text by path in the tree.
    :raises CommandExecutionError: when a template does not render.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    tree = {"nginx.conf": _render(main)}
    for app in apps:
        tree[f"sites/{app}.conf"] = _render(site, app=app)
    return tree


def _render(source, **context):
    with tempfile.TemporaryDirectory() as directory:
        path = __salt__["cp.get_template"](source, os.path.join(directory, "rendered"), template="jinja", **context)
        if not path:
            raise CommandExecutionError(f"{source}: does not render")
        with open(path, encoding="utf-8") as stream:
            return stream.read()


def changes(root, wanted):
    """Compare the live tree with the one that is wanted.

    Sites that are not wanted go, with their upstreams and what is said of their certificates. Other upstreams belong to
    the releases, and are only made where there are none.

    :param root: nginx's directory.
    :param wanted: text by path.
    :return: by path, the new text (``None`` where the file goes) and a diff.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    found = {}
    servers = {path: path.replace("sites/", "upstreams/", 1) for path in wanted if path.startswith("sites/")}
    leaving = {path for path in _listed(root, "upstreams") if path not in servers.values()}
    leaving |= {*_listed(root, "sites"), *_listed(root, "tls")}
    live = {path: _read(os.path.join(root, path)) for path in {*wanted, *leaving}}
    for path in sorted(live):
        if live[path] != wanted.get(path):
            found[path] = {"text": wanted.get(path), "diff": _diff(live[path], wanted.get(path))}
    for path in sorted(servers.values()):
        if _read(os.path.join(root, path)) is None:
            found[path] = {"text": NO_PROCESS, "diff": _diff(None, NO_PROCESS)}
    return found


def upstream_path(app):
    """Return where an app's upstream servers stand in the tree.

    :param app: the app's name.

    CLI Example: none, it serves the module release.
    """
    return f"upstreams/{app}.conf"


def upstream(ports):
    """Write the servers of an upstream.

    A process that takes no connection is passed over, for this request alone: supervisor has it back in a second.

    :param ports: the ports of its web processes.
    :return: the text of the file.

    CLI Example: none, it serves the module release.
    """
    return "".join(f"server 127.0.0.1:{port} max_fails=0;\n" for port in sorted(ports)) or NO_PROCESS


def _listed(root, name):
    directory = os.path.join(root, name)
    return [f"{name}/{entry}" for entry in os.listdir(directory)] if os.path.isdir(directory) else []


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _diff(old, new):
    lines = difflib.unified_diff(
        (old or "").splitlines(), (new or "").splitlines(), "live", "candidate", lineterm="", n=2
    )
    # A file that was damaged by hand may hold anything; the diff goes to people.
    return "\n".join(lines).encode("utf-8", "replace").decode()


def promote(root, texts):
    """Put changed files live and reload nginx, but for those that nginx refuses.

    :param root: nginx's directory.
    :param texts: text by path, ``None`` for a file that goes.
    :return: what nginx said, by path of each refused file. Empty when all went live.
    :raises CommandExecutionError: when the tree is refused for something that is no site's doing.

    CLI Example: none, it serves states.
    """
    refused = {}
    if check(root, texts):
        # A site goes with what is said of its certificate.
        sites = {
            path: {each: texts[each] for each in (path, path.replace("sites/", "tls/", 1)) if each in texts}
            for path in sorted(texts)
            if path.startswith("sites/") and texts[path] is not None
        }
        apart = {each for parts in sites.values() for each in parts}
        base = {path: text for path, text in texts.items() if path not in apart}
        reason = check(root, base)
        if reason:
            raise CommandExecutionError(f"nginx refuses the configuration; the live one stays: {reason}")
        accepted = base
        for path, parts in sites.items():
            reason = check(root, accepted | parts)
            if reason:
                refused[path] = reason
            else:
                accepted = accepted | parts
        texts = accepted
    before = {path: _read(os.path.join(root, path)) for path in texts}
    _write(root, texts)
    try:
        if texts:
            reload()
    except CommandExecutionError:
        # With a tree that it does not take nginx would not start again, for any app. It may yet take it: it is told.
        _write(root, before)
        __salt__["cmd.run_all"](["systemctl", "reload", "nginx"], python_shell=False, ignore_retcode=True)
        raise
    return refused


def _write(root, texts):
    for path, text in sorted(texts.items()):
        _replace(os.path.join(root, path), text)


def check(root, texts):
    """Ask nginx about a candidate: a copy of the live tree with some files replaced.

    :param root: nginx's directory.
    :param texts: text by path, ``None`` for a file that goes.
    :return: the reason to refuse it, or an empty string.
    """
    with tempfile.TemporaryDirectory(prefix="nginx-candidate-") as candidate:
        shutil.copytree(root, candidate, symlinks=True, dirs_exist_ok=True)
        for path, text in texts.items():
            _replace(os.path.join(candidate, path), text)
        done = __salt__["cmd.run_all"](
            ["nginx", "-t", "-q", "-c", os.path.join(candidate, "nginx.conf")], python_shell=False, ignore_retcode=True
        )
    return _taken(root, texts) if done["retcode"] == 0 else reason_of(done["stderr"], candidate)


def _taken(root, texts):
    """Say which address of a candidate somebody else listens on; ``nginx -t`` does not look."""
    own = {port for path in _listed(root, "sites") for port in _listens(_read(os.path.join(root, path)))}
    for text in map(texts.get, sorted(texts)):
        for port in _listens(text):
            if port not in own and not _is_free(port):
                return (
                    f"127.0.0.1:{port} is taken by another process; stop that (ss -ltnp) or give the app another port"
                )
    return ""


def _listens(text):
    return [int(port) for port in re.findall(r"^\s*listen 127\.0\.0\.1:(\d+)", text or "", re.MULTILINE)]


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def reason_of(output, candidate):
    """Take the reason out of what ``nginx -t`` prints.

    :param output: its standard error.
    :param candidate: the directory that it checked, which no longer exists.
    :return: the first line that says what is wrong, without the directory.
    """
    lines = [line for line in output.splitlines() if re.search(r"\[(emerg|alert|crit|error)\]", line)]
    line = (lines or output.splitlines() or ["nginx gave no reason"])[0]
    return re.sub(r"^.*?\[\w+\] (\d+#\d+: )?", "", line).replace(f"{candidate}/", "")


def _replace(path, text):
    """Write a file so that it is the old one or the new one at any moment; without a text, remove it."""
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(f"{path}.new", 0o644)
    os.rename(f"{path}.new", path)


def reload():
    """Reload nginx, and come back when the new configuration serves.

    :raises CommandExecutionError: when it goes on with the old one.

    CLI Example: none, it serves states.
    """
    old = _workers()
    if not old:
        return
    done = __salt__["cmd.run_all"](["systemctl", "reload", "nginx"], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"nginx does not reload: {done['stderr']}")
    # The reload is asynchronous: new workers serve as soon as they are there, and the old ones take no more connections
    # as soon as their title says so. What passes ``nginx -t`` can still fail here, on a port that is taken.
    deadline = time.monotonic() + RELOAD_TIMEOUT
    while time.monotonic() < deadline:
        now = _workers()
        if now.keys() - old.keys() and all(SHUTTING_DOWN in now.get(pid, SHUTTING_DOWN) for pid in old):
            return
        time.sleep(0.02)
    raise CommandExecutionError(
        f"nginx did not take the new configuration within {RELOAD_TIMEOUT} s and goes on with the old one; "
        "/var/log/nginx/error.log says why"
    )


def runs():
    """Tell whether nginx runs.

    CLI Example: none, it serves states.
    """
    return bool(_workers())


def drain(timeout):
    """Wait until the workers from before the last reload have answered what they had accepted.

    :param timeout: seconds to wait at most; a WebSocket may stay open for hours.

    CLI Example: none, it serves the module release.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and any(SHUTTING_DOWN in title for title in _workers().values()):
        time.sleep(0.05)


def is_stale(root, paths):
    """Tell whether nginx serves without what is in files: a run was interrupted after it wrote them.

    :param root: nginx's directory.
    :param paths: of files in the tree.
    :return: a boolean.

    CLI Example: none, it serves states.
    """
    started = []
    for pid in _workers():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            started.append(_started(pid))
    files = [os.path.join(root, path) for path in paths]
    times = [os.stat(path).st_mtime for path in files if os.path.exists(path)]
    return bool(started) and any(max(started) < changed <= time.time() for changed in times)


def _started(pid):
    """Return when a process started, in seconds since 1970, to two ticks of the kernel and never too early.

    psutil adds the ticks to the time of boot, which the kernel gives in whole seconds; see proc_pid_stat(5).
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        ticks = int(stream.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="ascii") as stream:
        age = float(stream.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age + 0.02


def _workers():
    """Return the titles of nginx's worker processes by PID. Empty where nginx does not run."""
    import psutil

    found = {}
    try:
        with open(PID_FILE, encoding="ascii") as stream:
            children = psutil.Process(int(stream.read())).children()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return found
    for child in children:
        try:
            found[child.pid] = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return {pid: title for pid, title in found.items() if title.startswith("nginx: worker")}
