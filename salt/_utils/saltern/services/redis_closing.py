"""Redis instances and logins that no app has any more: who still uses them, and how they end. The data stays."""

import contextlib
import datetime
import os
from collections.abc import Collection

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.attachments.users import holders, users
from saltern.host import Host
from saltern.services import redis_connection, redis_instances, redis_users
from saltern.services.base import LOOPBACK
from saltern.services.resource import Resource


def users_of(service: Resource, host: Host, name: str, directory: str, staying: Collection[str]) -> list[str]:
    """List who uses an instance: releases of this host, or else other hosts that are connected to it.

    :param service: Redis.
    :param host: the host.
    :param name: the instance, which nobody attaches.
    :param directory: of the configuration, ``/etc/redis``.
    :param staying: apps of which no release is stopped; see ``saltern.attachments.users.users``.
    """
    port = redis_instances.told(name, directory)["port"]
    others = redis_connection.remote(host, int(port)) if port else []
    return users(host, service, str(port), staying) or [f"{one}, which is connected" for one in others]


def end(host: Host, name: str, directory: str) -> None:
    """Stop an instance for good. Its data stays, with a note of whose it is.

    :param host: the host.
    :param name: the instance.
    :param directory: of the configuration, ``/etc/redis``.
    :raises CommandExecutionError: when it does not stop.
    """
    unit = redis_instances.unit(name)
    if not (host.ask("service.stop", unit) and host.ask("service.disable", unit)):
        raise CommandExecutionError(f"{unit} does not stop; see systemctl status {unit}")
    kept.note("redis", name, redis_instances.told(name, directory).get("app"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(redis_users.path(name))
    # Last, so that the next run completes an interrupted one.
    os.unlink(redis_instances.path(directory, name))


def close(
    service: Resource, host: Host, instances: Collection[str], directory: str, staying: Collection[str]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Plan, or close, the logins of replaced passwords that nobody uses any more.

    :param service: Redis.
    :param host: the host. In a dry run nothing is closed.
    :param instances: those that are attached.
    :param directory: of the configuration, ``/etc/redis``.
    :param staying: apps of which no release is stopped; see ``saltern.attachments.users.users``.
    :return: the changes as a state reports them, and why each login that stays does.
    :raises CommandExecutionError: when an instance does not answer.
    """
    changes: dict[str, dict[str, str]] = {}
    stays: dict[str, list[str]] = {}
    for name, one in sorted(host.pillar[service.kind][service.plural].items()):
        if name not in instances or not one["owner"]:
            continue
        wanted = redis_users.declared(service, host, name)
        there = redis_users.others(host, name, wanted, directory)
        # The file is missing in a dry run, or where its state failed.
        if not there or (redis_users.read(name) is None and not host.is_dry):
            continue
        apps = {login.rpartition("_")[0] for login in wanted}
        reasons = _valid(service, host, name, one["port"], there, apps, staying)
        closing = [login for login in there if not reasons[login]]
        stays |= {login: reasons[login] for login in there if reasons[login]}
        was = {login: "replaced" if login.partition("_")[0] in apps else "lent" for login in closing}
        changes |= {login: {"old": old, "new": "closed to logins"} for login, old in was.items()}
        if closing and not host.is_dry:
            left = {login: user for login, user in there.items() if login not in closing}
            redis_users.write(name, redis_users.written(host, name, one["owner"], wanted, left))
            redis_connection.admit(host, name, one["port"], [], closing)
    return changes, stays


def _valid(
    service: Resource,
    host: Host,
    name: str,
    port: int,
    there: redis_users.Users,
    apps: Collection[str],
    staying: Collection[str],
) -> dict[str, list[str]]:
    """Say of each login that is not declared why it stays valid; an empty list where it does not.

    :param there: the users that are not declared.
    :param apps: those that have a declared login.
    """
    used, now = (holders(host, service, leaving, staying) for leaving in (not host.is_dry, True))
    connected = redis_connection.connected(host, name, port)
    own = {LOOPBACK, "::1", host.address}
    settings = host.pillar[service.kind]
    hours = settings["overlap"] if settings["listen"] else 0
    found, today = {}, datetime.datetime.now(datetime.UTC)
    for login, user in there.items():
        until = datetime.datetime.fromisoformat(user.since) if user.since else today
        # Who borrows no more has no other password to converge to.
        until += datetime.timedelta(hours=hours if login.partition("_")[0] in apps else 0)
        # In a dry run, a release that would be stopped still has its connections.
        ending = own if host.is_dry and login in now and login not in used else set()
        clients = [f"{one}, which is connected" for one in connected.get(login, []) if one not in ending]
        waits = [f"other app hosts until {until.isoformat(timespec='minutes')}"] if until > today else []
        found[login] = used.get(login) or clients or waits
    return found
