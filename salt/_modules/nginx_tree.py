"""nginx's configuration tree: rendered, compared, checked as a candidate, and put live."""

import contextlib
import difflib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

from salt.exceptions import CommandExecutionError

from saltern.system import files

__load__ = ["changes", "is_stale", "old_workers", "peers_at", "peers_drained", "peers_in", "peers_out", "promote"]
__load__ += ["reload", "rendered", "runs", "upstream", "upstream_path"]

# Held by whoever writes which peers are out: a converge, and saltern-peers, which also reads what it writes anew.
# No app has a dot in its name: their releases have locks beside it.
PEERS_LOCK = "/run/saltern/saltern.peers.lock"
# What saltern-peers wrote it has nginx read by itself, at once.
PEERS_SETTLE = 10

# Until its first release an app has no process. nginx answers 502 and starts all the same.
NO_PROCESS = "server 127.0.0.1:1 down;\n"

# Where nginx keeps the bodies of requests, followed by the app; nginx makes it itself.
BODIES = "/var/lib/nginx/body-"

PID_FILE = "/run/nginx.pid"
RELOAD_TIMEOUT = 30
SHUTTING_DOWN = "is shutting down"


def rendered(template, apps):
    """Render the tree that the settings ask for.

    :param template: what renders to all files, each after a line of ``mark`` and its path; a ``salt://`` address.
    :param apps: the apps that have a site.
    :return: text by path in the tree.
    :raises CommandExecutionError: when a template does not render.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    mark = f"# {uuid.uuid4().hex} "
    parts = _render(template, mark=mark, apps=apps).split(mark)[1:]
    tree = {path: f"{text.strip()}\n" for path, _, text in (part.partition("\n") for part in parts)}
    for app, one in sorted(__pillar__["nginx"]["peers"].items()):
        tree[f"peers/{app}.conf"] = peers(one)
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
    the releases, and are only made where there are none. A peer that saltern-peers has taken out stays out.

    :param root: nginx's directory.
    :param wanted: text by path.
    :return: by path, the new text (``None`` where the file goes) and a diff.
    :raises CommandExecutionError: when a drain would leave a site to hosts that are out.

    CLI Example: none, it serves the state ``nginx_tree.current``.
    """
    found = {}
    servers = {path for text in wanted.values() for path in re.findall(r"^ *include (upstreams/.+);", text, re.M)}
    there = {path for name in ("sites", "peers", "tls") for path in _listed(root, name)}
    leaving = {path for path in _listed(root, "upstreams") if path not in servers}
    live = {path: _read(os.path.join(root, path)) for path in {*wanted, *there, *leaving}}
    for path in sorted(live):
        text = wanted.get(path)
        if text is not None and path.startswith("peers/"):
            text = _with_those_out(path, text, live[path])
        if live[path] != text:
            found[path] = {"text": text, "diff": _diff(live[path], text)}
    for path in sorted(servers):
        if _read(os.path.join(root, path)) is None:
            found[path] = {"text": NO_PROCESS, "diff": _diff(None, NO_PROCESS)}
    return found


def _with_those_out(path, text, live):
    """Write which of the peers that are wanted were out."""
    out = peers_out(live or "") & {name for _, name, _, _ in PEER.findall(text)}
    marked = mark(text, out)
    if peers_in(marked) or text == NO_PROCESS:
        return marked
    if " is drained" in text:
        raise CommandExecutionError(
            f"{os.path.basename(path).removesuffix('.conf')}: {', '.join(sorted(out))} would be the last to serve and "
            "out; bring back one of them before another host is drained (journalctl -u saltern-peers)"
        )
    return text


def peers(one):
    """Write the app hosts of a site, all of them in but for those that are drained.

    :param one: the site's entry in the setting ``peers``.
    :return: the text of the file, which saltern-peers reads too.
    """
    lines = [f"# saltern-peers asks each of them whether it is ready: {one['status']} within {one['timeout']} s.\n"]
    for peer in one["servers"]:
        state = " is drained" if peer["drained"] else ""
        lines.append(f"server {peer['address']} down; # {peer['id']}{state}\n")
    return mark("".join(lines), set()) if one["servers"] else NO_PROCESS


# saltern-peers, which has Python's own library alone, has these three as well: formulas/nginx/files/peers.py.
PEER = re.compile(r"^(?:# )?server (\S+) .*; # (\S+)( is drained)?( is out)?$", re.MULTILINE)


def mark(text, out):
    """Write which peers are out.

    The others are no servers at all to nginx, and one that is left alone is never passed over: among several, be they
    down, nginx would answer 502 where an open connection to it was just closed, or after it failed a few times.

    :param text: of the file with a site's peers.
    :param out: the ids of those that are out.
    :return: the text anew.
    """
    left = [name for _, name, drained, _ in PEER.findall(text) if not drained and name not in out]

    def line(match):
        address, name, drained, _ = match.groups()
        rules = "max_fails=0" if left == [name] else "max_fails=2 fail_timeout=2s" if name in left else "down"
        start = "# server" if left and name not in left else "server"
        return f"{start} {address} {rules}; # {name}{drained or ''}{' is out' if name in out else ''}"

    return PEER.sub(line, text)


def peers_out(text):
    """Return the ids of the peers that are out.

    :param text: of the file with a site's peers.

    CLI Example: none, it serves the module drain.
    """
    return {name for _, name, _, is_out in PEER.findall(text) if is_out}


def peers_drained(text):
    """Return the ids of the peers that the inventory drains.

    :param text: of the file with a site's peers.

    CLI Example: none, it serves the module drain.
    """
    return {name for _, name, is_drained, _ in PEER.findall(text) if is_drained}


def peers_at(text):
    """Return the address and the id of each peer.

    :param text: of the file with a site's peers.

    CLI Example: none, it serves the module drain.
    """
    return [(address, name) for address, name, _, _ in PEER.findall(text)]


def peers_in(text):
    """Return the ids of the peers that get requests.

    :param text: of the file with a site's peers.

    CLI Example: none, it serves the module drain.
    """
    return {name for _, name, drained, is_out in PEER.findall(text) if not drained and not is_out}


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
        _tell()
        raise
    for path in (path for path, text in texts.items() if text is None and path.startswith("sites/")):
        # Of a body that an old worker is still receiving there is no name in it.
        with contextlib.suppress(OSError):
            os.rmdir(BODIES + os.path.basename(path).removesuffix(".conf"))
    return refused


def _write(root, texts):
    with _peers_kept() if any(path.startswith("peers/") for path in texts) else contextlib.nullcontext():
        for path, text in sorted(texts.items()):
            _replace(os.path.join(root, path), text)


@contextlib.contextmanager
def _peers_kept():
    """Keep saltern-peers from writing meanwhile what it has read before. What it then reads is put right by it."""
    os.makedirs(os.path.dirname(PEERS_LOCK), mode=0o700, exist_ok=True)
    with open(PEERS_LOCK, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def check(root, texts):
    """Ask nginx about a candidate: a copy of the live tree with some files replaced.

    :param root: nginx's directory.
    :param texts: text by path, ``None`` for a file that goes.
    :return: the reason to refuse it, or an empty string.
    """
    with tempfile.TemporaryDirectory(prefix="nginx-candidate-") as candidate:
        # What is just being written, by saltern-peers too, is no part of it, and may be gone in a moment.
        unfinished = shutil.ignore_patterns("*.new")
        shutil.copytree(root, candidate, symlinks=True, dirs_exist_ok=True, ignore=unfinished)
        for path, text in texts.items():
            _replace(os.path.join(candidate, path), text)
        command = ["nginx", "-t", "-q", "-c", os.path.join(candidate, "nginx.conf")]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
        except OSError as error:
            raise CommandExecutionError(f"nginx -t: {error.strerror}; expected the package nginx") from error
    return reason_of(done.stderr, candidate) if done.returncode else _taken(root, texts)


def _taken(root, texts):
    """Say which address of a candidate somebody else listens on; ``nginx -t`` does not look."""
    live = [_read(os.path.join(root, path)) for path in ("nginx.conf", *_listed(root, "sites"))]
    own = {where for text in live for where in _listens(text)}
    for path in sorted(texts):
        for address, port in _listens(texts[path]):
            if (address, port) not in own and not _is_free(address, int(port)):
                another = " or give the app another port" if path.startswith("sites/") else ""
                return f"{address}:{port} is taken by another process; stop that (ss -ltnp){another}"
    return ""


def _listens(text):
    return re.findall(r"^\s*listen ([\d.]+):(\d+)\b", text or "", re.MULTILINE)


def _is_free(address, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
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
    files.write(path, text)


def reload():
    """Reload nginx, and come back when the new configuration serves.

    :raises CommandExecutionError: when it goes on with the old one.

    CLI Example: none, it serves states.
    """
    old = _workers()
    if not old:
        return
    _tell()
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


def _tell():
    """Have nginx read its configuration. What ``systemctl reload nginx`` does, without reading it once more before."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(_master(), signal.SIGHUP)


def runs():
    """Tell whether nginx runs.

    CLI Example: none, it serves states.
    """
    return bool(_workers())


def old_workers():
    """Return the PIDs of the workers from before a reload, which answer what they had accepted.

    CLI Example: none, it serves ``saltern.web.in_flight``.
    """
    return [pid for pid, title in _workers().items() if SHUTTING_DOWN in title]


def is_stale(root, paths, settle=PEERS_SETTLE):
    """Tell whether nginx serves without what is in files: a run was interrupted after it wrote them.

    :param root: nginx's directory.
    :param paths: of files in the tree.
    :param settle: seconds in which saltern-peers is left to have nginx read what it wrote itself.
    :return: a boolean.

    CLI Example: none, it serves states and the module drain.
    """
    started = []
    for pid in _workers():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            started.append(_started(pid))
    now = time.time()
    for path in paths:
        until = now - settle if path.startswith("peers/") else now
        with contextlib.suppress(FileNotFoundError):
            if started and max(started) < os.stat(os.path.join(root, path)).st_mtime <= until:
                return True
    return False


def _started(pid):
    """Return when a process started, in seconds since 1970, to two ticks of the kernel and never too early.

    psutil adds the ticks to the time of boot, which the kernel gives in whole seconds; see proc_pid_stat(5).
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        ticks = int(stream.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="ascii") as stream:
        age = float(stream.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age + 0.02


def _master():
    """Return the PID of nginx's master process.

    :raises ProcessLookupError: when nginx does not run.
    """
    try:
        with open(PID_FILE, encoding="ascii") as stream:
            return int(stream.read())
    except (FileNotFoundError, ValueError):
        raise ProcessLookupError("nginx does not run") from None


def _workers():
    """Return the titles of nginx's worker processes by PID. Empty where nginx does not run."""
    import psutil

    found = {}
    try:
        children = psutil.Process(_master()).children()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return found
    for child in children:
        try:
            found[child.pid] = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return {pid: title for pid, title in found.items() if title.startswith("nginx: worker")}
