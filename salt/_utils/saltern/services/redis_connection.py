"""Connections to the Redis instances of this host: whom an instance admits, and which certificate it serves."""

import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import OPERATOR, Host
from saltern.services.base import LOOPBACK
from saltern.tls import served

# The digests of a user's passwords, by the user's name.
Users = dict[str, list[str]]


def serves(port: int, path: str) -> bool:
    """Tell whether the certificate that an instance serves is that of a file.

    :param port: the instance's.
    :param path: a file with a key and a certificate in PEM. In a dry run it need not be there yet.
    :raises CommandExecutionError: when the instance does not answer.
    """
    with served.connected("Redis", port) as connection:
        return served.is_of(connection, path)


def read_certificate(host: Host, name: str, port: int, path: str) -> None:
    """Have an instance read its certificate again. Open connections stay open.

    :param host: the host.
    :param name: the instance.
    :param port: its port.
    :param path: the file with its key and certificate.
    :raises CommandExecutionError: with what Redis answers.
    """
    _asked(host, name, port, ["CONFIG", "SET", "tls-cert-file", path, "tls-key-file", path])


def admitted(host: Host, name: str, port: int) -> Users:
    """Return whom an instance admits: the digests of a user's passwords by the user's name.

    :param host: the host.
    :param name: the instance.
    :param port: its port.
    :raises CommandExecutionError: when it does not answer, or does not let the host in.
    """
    (lines,) = _asked(host, name, port, ["ACL", "LIST"])
    return admitted_by(lines)


def admitted_by(lines: Iterable[str]) -> Users:
    """Read whom Redis admits; see ``admitted``. A user who is off is left out.

    :param lines: as ``ACL LIST`` answers them, or as a configuration has them.
    """
    rules = [line.split() for line in lines]
    return {
        words[1]: sorted(word[1:] for word in words[2:] if word.startswith("#"))
        for words in rules
        if words[:1] == ["user"] and "on" in words[2:3]
    }


def admit(host: Host, name: str, port: int, rules: Iterable[Sequence[str]], gone: Collection[str] = ()) -> None:
    """Have an instance admit users as rules say, without a restart. Open connections stay open.

    :param host: the host.
    :param name: the instance.
    :param port: its port.
    :param rules: the words of its ``user`` lines, after the word ``user``.
    :param gone: users that are to go, with their connections.
    :raises CommandExecutionError: with what Redis answers.
    """
    removal = [["ACL", "DELUSER", *gone]] if gone else []
    _asked(host, name, port, *(["ACL", "SETUSER", user, "reset", *words] for user, *words in rules), *removal)


def connected(host: Host, name: str, port: int) -> dict[str | None, list[str]]:
    """List from where clients are connected, by user.

    :param host: the host.
    :param name: the instance.
    :param port: its port.
    :return: addresses, sorted, by user.
    :raises CommandExecutionError: when it does not answer.
    """
    (text,) = _asked(host, name, port, ["CLIENT", "LIST"])
    return clients(text)


def clients(text: str) -> dict[str | None, list[str]]:
    """Read from where clients are connected; see ``connected``.

    :param text: as ``CLIENT LIST`` answers it.
    """
    found: dict[str | None, set[str]] = {}
    for line in text.splitlines():
        client = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found.setdefault(client.get("user"), set()).add(client.get("addr", "").rpartition(":")[0].strip("[]"))
    return {user: sorted(addresses) for user, addresses in found.items()}


def _asked(host: Host, name: str, port: int, *commands: Sequence[str]) -> list[Any]:
    """Send commands as the host's own user, and return the answers."""
    secret, answers = host.own_password(OPERATOR, name), []
    with served.connected("Redis", port) as connection, connection.makefile("rwb") as stream:
        for words in (["AUTH", OPERATOR, secret], *commands):
            stream.write(encoded(words))
            stream.flush()
            try:
                answers.append(answer(stream))
            except ValueError as error:
                raise CommandExecutionError(f"{name}: Redis answers {words[0]} with: {error}") from None
    return answers[1:]


def answer(stream: io.BufferedIOBase) -> Any:
    """Read an answer of Redis; https://redis.io/docs/latest/develop/reference/protocol-spec.

    :param stream: of bytes.
    :return: text, a number, or a list of these.
    :raises ValueError: with what is an error, or no answer.
    """
    line = stream.readline().decode("utf-8", "replace").strip()
    kind, rest = line[:1], line[1:]
    if kind == "+":
        return rest
    if kind == ":":
        return int(rest)
    if kind == "$":
        return stream.read(int(rest) + 2)[:-2].decode("utf-8", "replace") if rest != "-1" else ""
    if kind == "*":
        return [answer(stream) for _ in range(int(rest))]
    raise ValueError(line or "nothing")


def encoded(words: Sequence[str]) -> bytes:
    """Write a command as Redis reads it; https://redis.io/docs/latest/develop/reference/protocol-spec.

    :param words: text.
    """
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def remote(host: Host, port: int) -> list[str]:
    """List the other hosts that are connected to a port of this one.

    :param host: this host.
    :param port: the port.
    :return: addresses, sorted.
    """
    import psutil

    own = {LOOPBACK, "::1", host.address}
    found = psutil.net_connections("tcp")
    at = {one.raddr.ip for one in found if one.status == "ESTABLISHED" and one.laddr.port == port and one.raddr}
    return sorted(at - own)
