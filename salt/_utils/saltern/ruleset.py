"""The firewall's rules on a host: which are live, and how others take their place.

Rules come into force in two steps. ``load`` makes them live, after it has set a timer that puts those before back.
``confirm`` stops the timer and writes the file that is loaded at boot. A run that ends in between, or a host that does,
is back with the rules that it had.
"""

import contextlib
import difflib
import hashlib
import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import MutableMapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import firewall
from saltern.firewall import TABLE
from saltern.host import Host
from saltern.services import candidates
from saltern.system import files, systemd

UNIT = "saltern-firewall"

# What is loaded and not yet confirmed, and what was live before it. Gone after a reboot, as what was loaded is.
PENDING = "/run/saltern-firewall"
CANDIDATE, PREVIOUS = f"{PENDING}/candidate.nft", f"{PENDING}/previous.nft"

# A digest of rules and of nft's listing of them, from the run that found the two equal. nft is not asked again.
KNOWN = "/run/saltern-firewall.known"

# What a set of the table has in it: of no matter to what is declared.
ELEMENTS = re.compile(r"^\t\telements = \{.*?\}\n", re.DOTALL | re.MULTILINE)

# The confirmation is the next state, and comes within a second. A host under load may be slower.
ROLLBACK_UNIT = f"{UNIT}-rollback"
ROLLBACK_SECONDS = 30
ROLLBACK = (
    f"nft -f {PREVIOUS} && rm -r {PENDING} && echo the rules were loaded and not confirmed: those before are back >&2"
)


def plan(host: Host, path: str, source: str) -> dict[str, Any]:
    """Compare the rules that are live, and the file that is loaded at boot, with what is declared.

    :param host: the host.
    :param path: the file.
    :param source: the template of the rules, a ``salt://`` address.
    :return: the ``text`` of the rules, and the ``changes``.
    :raises CommandExecutionError: when nft refuses the rules, or when they would shut out who is connected by ssh.
    """
    text = candidates.rendered(host, source)
    changes: dict[str, Any] = {}
    if (old := files.read(path, "surrogateescape")) != text:
        changes[path] = _diff(old, text)
    if shutil.which("nft"):
        there = _live()
        declared = _declared(text, there)
    else:
        # In a dry run, nft may be yet to come. What the unit has loaded is live without it.
        is_loaded = not changes and systemd.started(UNIT)
        there, declared = text if is_loaded else "", text
    if there != declared:
        changes[TABLE] = _diff(there, declared)
    if os.path.exists(PENDING):
        changes["confirmed"] = {"old": False, "new": True}
    if changes:
        settings = host.settings("firewall")
        if refused := firewall.shut_out(settings["openings"], settings["ssh_port"], *_of_sshd(settings["ssh_port"])):
            raise CommandExecutionError("\n".join(refused))
    return {"text": text, "changes": changes}


def load(text: str, context: MutableMapping[str, Any]) -> None:
    """Make rules live, until they are confirmed or a timer puts those back that were live before.

    :param text: a script of nft.
    :param context: keeps for ``confirm`` that this run has loaded rules; ``__context__``.
    :raises CommandExecutionError: when they cannot be, or the timer cannot be set. Nothing has changed then.
    """
    os.makedirs(PENDING, mode=0o700, exist_ok=True)
    # Of a run that was ended before it confirmed, what was there before it counts.
    if not os.path.exists(PREVIOUS):
        previous = f"{TABLE}\ndelete {TABLE}\n{_live()}"
        _listed(previous)
        files.write(PREVIOUS, previous)
    files.write(CANDIDATE, text)
    _run("systemctl", "stop", f"{ROLLBACK_UNIT}.timer", check=False)
    command = ["systemd-run", "--quiet", "--collect", f"--unit={ROLLBACK_UNIT}", f"--on-active={ROLLBACK_SECONDS}"]
    _run(*command, "--timer-property=AccuracySec=1s", "sh", "-c", ROLLBACK)
    context[PENDING] = True
    try:
        _run("nft", "-f", "-", stdin=text + firewall.before(_connections()))
    except CommandExecutionError:
        _end_rollback()
        shutil.rmtree(PENDING)
        raise


def confirm(path: str, context: MutableMapping[str, Any]) -> None:
    """Keep the rules that were loaded: stop the timer, and write the file that is loaded at boot.

    :param path: the file.
    :param context: see ``load``.
    :raises CommandExecutionError: when the rules are no longer live: the timer was faster.
    """
    if not (os.path.exists(PENDING) or context.get(PENDING)):
        return
    _end_rollback()
    text = files.read(CANDIDATE)
    if text is None or _live() != _listed(text):
        raise CommandExecutionError(
            f"the rules were not confirmed within {ROLLBACK_SECONDS} seconds; those before are back"
        )
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    files.write(path, text)
    shutil.rmtree(PENDING)


def _end_rollback() -> None:
    """Stop the timer, and what it has started: whatever that has done is done in one transaction."""
    _run("systemctl", "stop", f"{ROLLBACK_UNIT}.timer", f"{ROLLBACK_UNIT}.service", check=False)


def _live() -> str:
    """Return the table that is live as nft lists it, with nothing in its sets. Empty where there is none."""
    return ELEMENTS.sub("", _run("nft", "--stateless", "list", *TABLE.split(), check=False))


def _listed(text: str) -> str:
    """Return a script's table as nft would list it, once it is loaded: in a network of its own, which has nothing else.

    :raises CommandExecutionError: with what nft says where it refuses the script.
    """
    script = f"nft -f - && {{ nft --stateless list {TABLE} 2>/dev/null || true; }}"
    return _run("unshare", "--net", "sh", "-c", script, stdin=text)


def _declared(text: str, there: str) -> str:
    """Return a script's table as nft would list it. Where an earlier run found that live, nft is not asked again."""
    digest = hashlib.sha256(f"{text}\0{there}".encode(errors="surrogateescape")).hexdigest()
    if there and files.read(KNOWN) == digest:
        return there
    listed = _listed(text)
    if listed == there:
        files.write(KNOWN, digest)
    return listed


def _run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    """Run a command and return what it prints, or nothing where it fails and that is no error."""
    done = subprocess.run(
        command,
        input=stdin or "",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        if not check:
            return ""
        said = (done.stderr or done.stdout or f"exit code {done.returncode}").strip()
        raise CommandExecutionError(f"{command[0]}: {said}")
    return done.stdout


def _connections() -> list[tuple[str, int, int]]:
    """Return the TCP connections that this host has; see ``firewall.before``."""
    import psutil

    there = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
    return [(one.raddr.ip, one.raddr.port, one.laddr.port) for one in there]


def _of_sshd(port: int) -> tuple[set[int], set[tuple[int, str]]]:
    """Return the ports at which sshd listens to the network, and who is connected to it; see ``firewall.shut_out``."""
    import psutil

    found = [one for one in psutil.net_connections("tcp") if one.pid and _is_sshd(one.pid)]
    there = [one for one in found if one.status == psutil.CONN_LISTEN]
    listening = {one.laddr.port for one in there if not ipaddress.ip_address(one.laddr.ip).is_loopback}
    # Ports that it forwards are connections of its own.
    connections = {
        (one.laddr.port, one.raddr.ip)
        for one in found
        if one.status == psutil.CONN_ESTABLISHED and one.laddr.port in listening | {port}
    }
    # This run's own session, whoever serves it: the client's address and port, the host's address and port.
    own = os.environ.get("SSH_CONNECTION", "").split()
    return listening, connections | ({(int(own[3]), own[0])} if len(own) == 4 else set())


def _is_sshd(pid: int) -> bool:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return str(psutil.Process(pid).name()).startswith("sshd")
    return False


def _diff(old: str | None, new: str) -> str:
    lines = difflib.unified_diff((old or "").splitlines(), new.splitlines(), "live", "declared", lineterm="", n=1)
    # A file that was damaged by hand may hold anything; the diff goes to people.
    return "\n".join(lines).encode("utf-8", "replace").decode()
