"""The RabbitMQ of this host: what it has, against what it should have, and how it is told."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import pwd
import re
import struct
import subprocess
import time
from collections.abc import Iterable
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.services.steps import Run, Step
from saltern.system import files, systemd
from saltern.tls import served as certificates

PORT = 5671
UNIT = "rabbitmq-server"
HOME = "/var/lib/rabbitmq"
COMMAND = "/usr/lib/rabbitmq/bin/rabbitmqctl"
# What the broker takes over is in this file meanwhile: a command line can be read by everybody.
TOLD = "/run/saltern-rabbitmq.json"
# Seconds in which the broker answers a question, and for which its answer counts.
ANSWER, COUNTS = 120, 10

# Whose a vhost is: its description, which an app cannot change.
MARK = "Managed by Saltern for the app {}."
MARKED = re.compile(r"Managed by Saltern for the app ([a-z][a-z0-9-]*)\.")
# Since when the password of a login is replaced: a tag of it, of which only RabbitMQ's web pages would make anything.
REPLACED = re.compile(r"replaced-(\d{8}T\d{6}Z)")
TIME = "%Y%m%dT%H%M%SZ"
ALL = {"configure": ".*", "write": ".*", "read": ".*"}

Definitions = dict[str, list[dict[str, Any]]]


# --- Decisions --------------------------------------------------------------------------------------------------------


def planned(
    name: str,
    app: str,
    login: str,
    secret: str,
    most: int,
    found: Definitions,
    others: set[str],
    handed_over: bool = False,
) -> tuple[dict[str, Any], Definitions]:
    """Work out what is to be changed so that an app has a vhost.

    :param name: the vhost.
    :param app: the app.
    :param login: the login of its password.
    :param secret: its password.
    :param most: how many connections it may have at once.
    :param found: the broker's definitions.
    :param others: the app's logins to other vhosts, as declared.
    :param handed_over: whether an operator has given the vhost to the app.
    :return: the changes as a state reports them, and the definitions that make them.
    :raises CommandExecutionError: where the vhost holds the data of another app.
    """
    changes: dict[str, Any] = {}
    new: Definitions = {"vhosts": [], "users": [], "permissions": [], "parameters": []}
    vhost = next((one for one in found["vhosts"] if one["name"] == name), None)
    owner = marked(found).get(name)
    if owner not in (None, app) and not handed_over:
        raise CommandExecutionError(anothers(name, app, str(owner)))
    if vhost is None or owner != app:
        changes["vhost"] = {"old": vhost and owner, "new": app}
        metadata = (vhost or {}).get("metadata", {}) | {"description": MARK.format(app)}
        new["vhosts"].append({"name": name, "metadata": {"tags": []} | metadata})
    limit = {"component": "vhost-limits", "name": "limits", "vhost": name, "value": {"max-connections": most}}
    if limit not in found["parameters"]:
        changes["connections"] = {"old": "another number", "new": most}
        new["parameters"].append(limit)
    there = {user["name"]: user for user in found["users"]}
    user = there.get(login)
    before = [one for one in logins_of(app, name, found) if one not in (login, *others)]
    right = matches(secret, user["password_hash"]) if user else False
    wanted: dict[str, Any] = {
        "name": login,
        "password_hash": user["password_hash"] if user and right else hashed(secret, os.urandom(4)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": {"max-connections": most},
    }
    if user is None:
        changes["login"] = {"old": before or None, "new": login}
    elif not right:
        changes["password"] = {"old": "another", "new": "the attachment's"}
    elif user != wanted:
        changes["login"] = {"old": "other rights", "new": login}
    if user != wanted:
        new["users"].append(wanted)
    permission = {"user": login, "vhost": name} | ALL
    if permission not in found["permissions"]:
        changes["permissions"] = {"old": None, "new": name}
        new["permissions"].append(permission)
    since = f"replaced-{datetime.datetime.now(datetime.UTC).strftime(TIME)}"
    for one in before:
        if not any(map(REPLACED.fullmatch, there[one]["tags"])):
            changes["replaced"] = {"old": before, "new": login}
            new["users"].append(there[one] | {"tags": [since]})
    return changes, new


def marked(found: Definitions) -> dict[str, str]:
    """Return whose the vhosts of ours are: apps by vhost."""
    marks = {one["name"]: MARKED.fullmatch(one.get("metadata", {}).get("description") or "") for one in found["vhosts"]}
    return {name: mark[1] for name, mark in marks.items() if mark}


def logins_of(app: str, vhost: str, found: Definitions) -> list[str]:
    """Return the logins of an app that may use a vhost, sorted."""
    its = re.compile(rf"{re.escape(app)}_[0-9a-f]{{6}}")
    there = {user["name"] for user in found["users"]}
    allowed = {one["user"] for one in found["permissions"] if one["vhost"] == vhost}
    return sorted(login for login in allowed & there if its.fullmatch(login))


def hashed(secret: str, salt: bytes) -> str:
    """Return by what RabbitMQ knows a password; https://www.rabbitmq.com/docs/passwords.

    :param secret: the password.
    :param salt: four random bytes.
    """
    return base64.b64encode(salt + hashlib.sha256(salt + secret.encode()).digest()).decode()


def matches(secret: str, known: str) -> bool:
    """Tell whether RabbitMQ knows a password by a hash; see ``hashed``."""
    with contextlib.suppress(ValueError):
        return hmac.compare_digest(hashed(secret, base64.b64decode(known)[:4]), known)
    return False


def anothers(name: str, app: str, owner: str) -> str:
    """Say why an app cannot have a vhost: it holds the data of another app."""
    return (
        f"app.{app}.attach: the vhost {name} holds the data of {owner}; expected a name of its own. "
        "Remove that data for good as salt-call app.orphans says, or hand it over: formulas/rabbitmq/README.md"
    )


# --- The broker -------------------------------------------------------------------------------------------------------

_answer: tuple[float, Definitions] | None = None


def ctl(*arguments: str) -> str:
    """Ask the broker, or have it do something, as its own user. No argument is a secret.

    :param arguments: of ``rabbitmqctl``.
    :return: what it says.
    :raises CommandExecutionError: with what it says where it fails.
    """
    try:
        user = pwd.getpwnam("rabbitmq")
        done = subprocess.run(
            [COMMAND, "-q", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWER,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd=HOME,
            # What else that user runs may meddle with it, and root's terminal must not be its.
            start_new_session=True,
            env={"PATH": os.defpath, "HOME": HOME, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, KeyError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"rabbitmqctl {arguments[0]}: {error}") from None
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split("\n\n", 1)[0].split())
        raise CommandExecutionError(f"rabbitmqctl {arguments[0]}: {said or 'failed'}")
    return done.stdout


def definitions() -> Definitions:
    """Return the broker's users, vhosts, permissions and parameters.

    An answer counts for some seconds, since each question starts an Erlang machine.

    :raises CommandExecutionError: when it does not answer.
    """
    global _answer
    if not _answer or time.monotonic() > _answer[0]:
        text = ctl("export_definitions", "-", "--format", "json")
        _answer = time.monotonic() + COUNTS, json.loads(text[text.index("{") :])
    return _answer[1]


def state_of(run: Run) -> Definitions | None:
    """Return the broker's definitions; ``None`` where a dry run cannot ask, since it does not run."""
    if run.host.is_dry and systemd.started(UNIT) is None:
        is_new = not os.path.exists(f"{HOME}/mnesia/rabbit@localhost")
        return {"users": [], "vhosts": [], "permissions": [], "parameters": []} if is_new else None
    return definitions()


def import_(new: Definitions) -> None:
    """Have the broker take over definitions.

    :raises CommandExecutionError: with what it says.
    """
    global _answer
    _answer = None
    if not any(new.values()):
        return
    user = pwd.getpwnam("rabbitmq")
    try:
        files.write(TOLD, json.dumps(new), 0o400, user.pw_uid, user.pw_gid)
        ctl("import_definitions", TOLD, "--format", "json")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(TOLD)


def close(gone: Iterable[tuple[str, str]], found: Definitions) -> None:
    """Close vhosts to logins. A login that may use no other vhost goes, and its connections with it.

    :param gone: pairs of login and vhost.
    :param found: the broker's definitions.
    """
    global _answer
    _answer = None
    gone = set(gone)
    left = {one["user"] for one in found["permissions"] if (one["user"], one["vhost"]) not in gone}
    for login, vhost in sorted(gone):
        if login in left:
            ctl("clear_permissions", "-p", vhost, login)
    for login in sorted({login for login, _ in gone} - left):
        ctl("delete_user", login)


def clients() -> dict[tuple[str, str], set[str]]:
    """Return from where clients are connected: addresses by login and vhost."""
    text = ctl("list_connections", "--formatter", "json", "user", "vhost", "peer_host")
    found: dict[tuple[str, str], set[str]] = {}
    for one in json.loads(text[text.index("[") :]):
        found.setdefault((one["user"], one["vhost"]), set()).add(address_of(one["peer_host"]))
    return found


def address_of(peer: str | list[int]) -> str:
    """Write an address as it is known elsewhere: RabbitMQ lists the numbers of those that it has no name for."""
    if isinstance(peer, str):
        return peer
    return str(ipaddress.ip_address(bytes(peer) if len(peer) == 4 else struct.pack("!8H", *peer)))


def size(vhost: str) -> int:
    """Return the bytes of the messages in a vhost."""
    text = ctl("list_queues", "-p", vhost, "--formatter", "json", "message_bytes")
    return sum(int(one["message_bytes"] or 0) for one in json.loads(text[text.index("[") :]))


def guest(run: Run, name: str) -> Step:
    """Have no user whose password everybody knows. A broker that was there before has one."""
    found = state_of(run)
    if not found or name not in {user["name"] for user in found["users"]}:
        return Step(f"There is no user {name}")
    return Step(
        f"{name} is no user",
        {name: {"old": "a user", "new": None}},
        lambda: close([(name, "")], found | {"permissions": []}),
    )


def served(run: Run, name: str) -> Step:
    """Have the broker serve the certificate that is on the disk, without a restart.

    :param name: the file of its key and certificate.
    """
    if run.changed(UNIT) or systemd.started(UNIT) is None:
        return Step(f"{UNIT} reads its certificate at its start")
    if not (run.host.is_dry and run.changed(name)) and os.path.exists(name):
        with certificates.connected("RabbitMQ", PORT) as connection:
            if certificates.is_of(connection, name):
                return Step(f"{UNIT} serves its certificate")
    changes = {UNIT: {"old": "another certificate", "new": "served"}}
    return Step(f"{UNIT} serves its certificate", changes, forget)


def forget() -> None:
    """Have the broker read its certificate again: Erlang keeps what it has read of such files."""
    ctl("eval", "ssl:clear_pem_cache().")
