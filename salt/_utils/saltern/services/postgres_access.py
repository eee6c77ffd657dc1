"""PostgreSQL's access list, ``pg_hba.conf``: which app it lets in to which database."""

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from saltern.host import Host
from saltern.services import postgres_questions
from saltern.services.resource import Resource
from saltern.system import files
from saltern.system.systemd import Among

Pair = tuple[str, str]

# A line as files/pg_hba.conf.jinja writes it. In earlier versions it begins with host, or names a role without a group.
# The pools come by the Unix socket, without an address.
ACCESS = re.compile(
    r'^(?:host(?:ssl|   )|local  ) "([a-z0-9_]+)"  \+?"([a-z0-9-]+)"  (?:[0-9a-f.:]+/(?:32|128) +)?scram-sha-256$'
)


def admitted(path: str, databases: Mapping[str, Any]) -> list[Pair]:
    """Return which app may connect to which database.

    A database that its app no longer attaches is closed last, by ``postgres_closing.close``. Until then a release with
    the database in its config may run, and goes on where another app is refused.

    :param path: the path of the server's access list, ``pg_hba.conf``.
    :param databases: the settings of the databases that are attached, by name.
    :return: pairs of database and owner, sorted.
    """
    declared = {name: database["owner"] for name, database in databases.items()}
    return sorted(leaving(path, declared) | set(declared.items()))


def leaving(path: str, declared: Mapping[str, str]) -> set[Pair]:
    """Return who may connect without being declared: pairs of database and owner.

    :param path: the path of the access list.
    :param declared: owner by database.
    """
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as stream:
        return {(match[1], match[2]) for match in map(ACCESS.match, stream) if match} - set(declared.items())
    return set()


def forget(path: str, pairs: Collection[Pair]) -> None:
    """Remove pairs of database and owner from an access list, atomically.

    :param path: the path of the access list.
    :param pairs: who may connect no more.
    """
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [(line, ACCESS.match(line)) for line in stream]
        before = os.fstat(stream.fileno())
    text = "".join(line for line, match in lines if not (match and match.groups() in pairs))
    files.write(path, text, before.st_mode & 0o777, before.st_uid, before.st_gid)


def is_read(
    service: Resource, host: Host, version: str | int, cluster: str, certificate: str, among: Among | None = None
) -> bool:
    """Tell whether the server has read its access list and its certificate since they changed.

    :param service: PostgreSQL.
    :param host: the host.
    :param version: PostgreSQL's major version.
    :param cluster: the cluster's name.
    :param certificate: the certificate's path.
    :param among: what the states of the run ask about; see ``postgres_server.answer``.
    :raises CommandExecutionError: when PostgreSQL cannot be asked.
    """
    paths = [f"/etc/postgresql/{version}/{cluster}/pg_hba.conf", certificate]
    changed = max(os.stat(path).st_mtime_ns for path in paths if os.path.exists(path))
    at, _ = postgres_questions.loaded(host, service, among)
    return at > changed // 1000
