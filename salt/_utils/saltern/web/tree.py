"""nginx's configuration as one tree: rendered, compared, checked as a candidate, and put live."""

import contextlib
import difflib
import fcntl
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from salt.exceptions import CommandExecutionError

from saltern.services.base import Ask
from saltern.system import files
from saltern.tls import https
from saltern.web import http3, peers, routes, workers

ROOT = "/etc/nginx"

# Held by whoever writes which peers are out: a converge, and saltern-peers, which also reads what it writes anew.
# No app has a dot in its name: their releases have locks beside it.
PEERS_LOCK = "/run/saltern/saltern.peers.lock"

# Where nginx keeps the bodies of requests, followed by the app; nginx makes it itself.
BODIES = "/var/lib/nginx/body-"

# The files of the tree: text by path, ``None`` for a file that goes.
Texts = Mapping[str, str | None]


def rendered(ask: Ask, settings: Mapping[str, Any], template: str, apps: Sequence[str], cache: str) -> dict[str, str]:
    """Render the tree that the settings ask for.

    Salt would compile these templates, the longest ones, in each run. Jinja itself keeps what it has compiled.

    :param ask: calls a function of Salt.
    :param settings: the formula's, complete.
    :param template: what renders to all files, each after a line of ``mark`` and its path; a ``salt://`` address.
    :param apps: the apps that have a site.
    :param cache: the directory in which Salt keeps what it can make anew.
    :return: text by path in the tree.
    :raises CommandExecutionError: when a template does not render, or the host's nginx has not what is asked for.
    """
    mark = f"# {uuid.uuid4().hex} "
    debian = ask("settings.debian")
    http3.judge(settings, debian)
    context = {"nginx": settings, "http2": debian["http2"], "hsts": https.hsts(settings["tls"])}
    context["http3"] = http3.SOCKET if http3.is_served(settings) else ""
    try:
        text = _environment(ask, cache).get_template(template).render(mark=mark, apps=apps, **context)
    except jinja2.TemplateSyntaxError as error:
        raise CommandExecutionError(
            f"{template}: does not render: {error} (line {error.lineno} of {error.name})"
        ) from None
    except jinja2.TemplateError as error:
        raise CommandExecutionError(f"{template}: does not render: {error}") from None
    parts = text.split(mark)[1:]
    tree = {path: f"{text.strip()}\n" for path, _, text in (part.partition("\n") for part in parts)}
    for app, site in sorted(settings["peers"].items()):
        tree[f"peers/{app}.conf"] = peers.written(site)
    return tree


def _environment(ask: Ask, cache: str) -> jinja2.Environment:
    """Return a Jinja environment that loads by ``salt://`` address."""

    def load(address: str) -> tuple[str, str, None]:
        path = ask("cp.cache_file", address)
        if not path:
            raise jinja2.TemplateNotFound(address)
        return pathlib.Path(path).read_text(encoding="utf-8"), path, None

    compiled = os.path.join(cache, "saltern")
    os.makedirs(compiled, mode=0o700, exist_ok=True)
    # Jinja keeps a compiled template by its text, and by the versions of Python and Jinja.
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        undefined=jinja2.StrictUndefined,
        bytecode_cache=jinja2.FileSystemBytecodeCache(compiled),
    )


def changes(root: str, wanted: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Compare the live tree with the one that is wanted.

    Sites that are not wanted go, with their upstreams and what is said of their certificates and maintenance. Other
    upstreams belong to the releases, and are only made where there are none. A peer that saltern-peers has taken out
    stays out.

    :param root: nginx's directory.
    :param wanted: text by path.
    :return: by path, the new text (``None`` where the file goes) and a diff.
    :raises CommandExecutionError: when a drain would leave a site to hosts that are out.
    """
    found: dict[str, dict[str, Any]] = {}
    servers = {path for text in wanted.values() for path in re.findall(r"^ *include (upstreams/.+);", text, re.M)}
    there = {path for name in ("sites", "peers", "tls", "maintenance", "http3") for path in _listed(root, name)}
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
            found[path] = {"text": peers.NO_PROCESS, "diff": _diff(None, peers.NO_PROCESS)}
    return found


def _with_those_out(path: str, text: str, live: str | None) -> str:
    """Write which of the peers that are wanted were out."""
    out = peers.out(live or "") & {name for _, name in peers.at(text)}
    marked = peers.mark(text, out)
    if peers.serving(marked) or text == peers.NO_PROCESS:
        return marked
    if " is drained" in text:
        raise CommandExecutionError(
            f"{os.path.basename(path).removesuffix('.conf')}: {', '.join(sorted(out))} would be the last to serve and "
            "out; bring back one of them before another host is drained (journalctl -u saltern-peers)"
        )
    return text


def upstream_path(app: str, kind: str = routes.WEB) -> str:
    """Return where the upstream servers of an app's process type stand in the tree.

    :param app: the app's name, which has no dot.
    :param kind: the process type.
    """
    return f"upstreams/{app}.conf" if kind == routes.WEB else f"upstreams/{app}.{kind}.conf"


def upstream(ports: Iterable[int]) -> str:
    """Write the servers of an upstream.

    A process that takes no connection is passed over, for this request alone: supervisor has it back in a second.

    :param ports: the ports of its processes.
    :return: the text of the file.
    """
    return "".join(f"server 127.0.0.1:{port} max_fails=0;\n" for port in sorted(ports)) or peers.NO_PROCESS


def _listed(root: str, name: str) -> list[str]:
    directory = os.path.join(root, name)
    return [f"{name}/{entry}" for entry in os.listdir(directory)] if os.path.isdir(directory) else []


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _diff(old: str | None, new: str | None) -> str:
    lines = difflib.unified_diff(
        (old or "").splitlines(), (new or "").splitlines(), "live", "candidate", lineterm="", n=2
    )
    # A file that was damaged by hand may hold anything; the diff goes to people.
    return "\n".join(lines).encode("utf-8", "replace").decode()


def promote(root: str, texts: Texts) -> dict[str, str]:
    """Put changed files live and reload nginx, but for those that nginx refuses.

    :param root: nginx's directory.
    :param texts: text by path, ``None`` for a file that goes.
    :return: what nginx said, by path of each refused file. Empty when all went live.
    :raises CommandExecutionError: when the tree is refused for something that is no site's doing.
    """
    refused: dict[str, str] = {}
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
        accepted = dict(base)
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
            workers.reload()
    except CommandExecutionError:
        # With a tree that it does not take nginx would not start again, for any app. It may yet take it: it is told.
        _write(root, before)
        workers.tell()
        raise
    for path in (path for path, text in texts.items() if text is None and path.startswith("sites/")):
        # Of a body that an old worker is still receiving there is no name in it.
        with contextlib.suppress(OSError):
            os.rmdir(BODIES + os.path.basename(path).removesuffix(".conf"))
    return refused


def _write(root: str, texts: Texts) -> None:
    with _peers_kept() if any(path.startswith("peers/") for path in texts) else contextlib.nullcontext():
        for path, text in sorted(texts.items()):
            _replace(os.path.join(root, path), text)


@contextlib.contextmanager
def _peers_kept() -> Iterator[None]:
    """Keep saltern-peers from writing meanwhile what it has read before. What it then reads is put right by it."""
    os.makedirs(os.path.dirname(PEERS_LOCK), mode=0o700, exist_ok=True)
    with open(PEERS_LOCK, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def check(root: str, texts: Texts) -> str:
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
        has_http3 = os.path.exists(os.path.join(candidate, http3.CONFIG))
        reason = _refused(candidate, "nginx.conf") or (_refused(candidate, http3.CONFIG) if has_http3 else "")
    return reason or _taken(root, texts)


def _refused(candidate: str, path: str) -> str:
    """Ask nginx about one configuration of a candidate."""
    try:
        done = subprocess.run(
            ["nginx", "-t", "-q", "-c", os.path.join(candidate, path)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise CommandExecutionError(f"nginx -t: {error.strerror}; expected the package nginx") from error
    return reason_of(done.stderr, candidate) if done.returncode else ""


def _taken(root: str, texts: Texts) -> str:
    """Say which address of a candidate somebody else listens on; ``nginx -t`` does not look."""
    live = [_read(os.path.join(root, path)) for path in ("nginx.conf", *_listed(root, "sites"))]
    own = {where for text in live for where in _listens(text)}
    for path in sorted(texts):
        for address, port in _listens(texts[path]):
            if (address, port) not in own and not _is_free(address, int(port)):
                another = " or give the app another port" if path.startswith("sites/") else ""
                return f"{address}:{port} is taken by another process; stop that (ss -ltnp){another}"
    return ""


def _listens(text: str | None) -> list[tuple[str, str]]:
    return re.findall(r"^\s*listen ([\d.]+):(\d+)\b", text or "", re.MULTILINE)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def reason_of(output: str, candidate: str) -> str:
    """Take the reason out of what ``nginx -t`` prints.

    :param output: its standard error.
    :param candidate: the directory that it checked, which no longer exists.
    :return: the first line that says what is wrong, without the directory.
    """
    lines = [line for line in output.splitlines() if re.search(r"\[(emerg|alert|crit|error)\]", line)]
    line = (lines or output.splitlines() or ["nginx gave no reason"])[0]
    return re.sub(r"^.*?\[\w+\] (\d+#\d+: )?", "", line).replace(f"{candidate}/", "")


def _replace(path: str, text: str | None) -> None:
    """Write a file so that it is the old one or the new one at any moment; without a text, remove it."""
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    files.write(path, text)
