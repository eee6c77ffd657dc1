"""The users of a Redis instance: its app, those to whom the instance is lent, and the host itself.

The users are in a file of their own, apart from the configuration, so that a new password needs no restart.
"""

import dataclasses
import datetime
import grp
import hashlib
import os
import re
from typing import Any

from saltern.host import OPERATOR, Host
from saltern.services import redis_connection, redis_instances
from saltern.services.resource import Resource
from saltern.system import files

USERS = "/etc/saltern/redis"

# The rights of an app's users, of those who only read, and of the host's own user.
APPS = "~* &* +@all -@admin +config|get"
READERS = "%R~* +@read +@connection -@admin"
OPERATORS = "~* &* +@all"
REPLACED = re.compile(r"(?m)^# (\S+) was replaced at (\S+)$")


@dataclasses.dataclass(frozen=True)
class User:
    """A user of an instance.

    :param digest: the SHA-256 of the password, by which Redis knows it.
    :param rights: as Redis writes them.
    :param since: since when the password is replaced, where that is noted.
    """

    digest: str
    rights: str
    since: str | None = None


Users = dict[str, User]


def path(name: str) -> str:
    """Return the path of the file of an instance's users."""
    return f"{USERS}/{name}.users"


def read(name: str) -> str | None:
    """Return the text of the file of an instance's users; ``None`` where the file is not there."""
    return files.read(path(name), "replace")


def write(name: str, text: str) -> None:
    """Write the file of an instance's users."""
    os.makedirs(USERS, mode=0o755, exist_ok=True)
    files.write(path(name), text, 0o640, 0, grp.getgrnam("redis").gr_gid)


def digest(password: str) -> str:
    """Return the SHA-256 of a password, in 64 hexadecimal digits."""
    return hashlib.sha256(password.encode()).hexdigest()


def declared(service: Resource, host: Host, name: str) -> Users:
    """Return the users of an instance's app and of those to whom the instance is lent, by login. The app comes first.

    :param service: Redis.
    :param host: the host.
    :param name: the instance.
    :raises CommandExecutionError: when the host has no key.
    """
    lent = {
        one.login: User(digest(one.password), READERS if one.access == "read" else APPS)
        for one in host.lent(service, name)
    }
    return {host.login(service, name): User(digest(host.password(service, name)), APPS)} | lent


def others(host: Host, name: str, wanted: Users, directory: str) -> Users:
    """Return the users of apps that are not declared: their password was replaced, or they borrow no more.

    :param host: the host.
    :param name: the instance.
    :param wanted: the declared users.
    :param directory: of the configuration, ``/etc/redis``.
    """
    text = read(name)
    if text is None:
        # Earlier versions had the app's user in the configuration.
        text = files.read(redis_instances.path(directory, name)) or ""
    since = dict(REPLACED.findall(text))
    found = redis_connection.admitted_by(text.splitlines())
    owner = host.pillar["redis"]["instances"][name]["owner"]
    of_apps = re.compile(rf"{re.escape(owner)}|[a-z][a-z0-9-]*_[0-9a-f]{{6}}")
    reading = {line.split()[1] for line in text.splitlines() if line.startswith("user ") and line.endswith(READERS)}
    return {
        login: User(digests[0], READERS if login in reading else APPS, since.get(login))
        for login, digests in sorted(found.items())
        if of_apps.fullmatch(login) and login not in wanted and len(digests) == 1
    }


def written(host: Host, name: str, app: str, wanted: Users, left: Users) -> str:
    """Return the text of the file of an instance's users.

    :param host: the host.
    :param name: the instance.
    :param app: the app that attaches it.
    :param wanted: the declared users, the app's first.
    :param left: the other ones that stay valid, each with the time since when it is replaced.
    """
    operator = digest(host.own_password(OPERATOR, name))
    lines = [
        f"# Who may log in to the instance {name}, which belongs to the app {app}. "
        f"{redis_instances.MANAGED} (formula redis).",
        # Nobody logs in as this user. But at a start Redis runs its append-only file as this user, and without rights
        # it would drop all that was written between MULTI and EXEC.
        "user default off resetpass ~* &* +@all",
        *(f"user {login} on #{user.digest} {user.rights}" for login, user in wanted.items()),
        "# The host itself, which tells it of a new certificate and of other users.",
        f"user {OPERATOR} on #{operator} {OPERATORS}",
    ]
    for login, user in sorted(left.items()):
        lines += [f"# {login} was replaced at {user.since}", f"user {login} on #{user.digest} {user.rights}"]
    return "\n".join(lines) + "\n"


def plan(service: Resource, host: Host, name: str, app: str, directory: str) -> tuple[dict[str, Any], str]:
    """Compare the file of an instance's users with what is declared.

    :param service: Redis.
    :param host: the host.
    :param name: the instance.
    :param app: the app that attaches it.
    :param directory: of the configuration, ``/etc/redis``.
    :return: the changes as a state reports them, and the text that the file is to have.
    :raises CommandExecutionError: when the host has no key.
    """
    wanted = declared(service, host, name)
    there = others(host, name, wanted, directory)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    left = {login: dataclasses.replace(user, since=user.since or now) for login, user in there.items()}
    text = written(host, name, app, wanted, left)
    before = read(name)
    if before == text:
        return {}, text
    known = redis_connection.admitted_by((before or "").splitlines())
    had = {*there, *(login for login in wanted if login in known)}
    return {name: {"old": sorted(had) or None, "new": sorted({*there, *wanted})}}, text
