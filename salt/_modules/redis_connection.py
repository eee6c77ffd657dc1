"""Connections to the Redis instances of this host: what they serve, and to whom."""

from salt.exceptions import CommandExecutionError

from saltern.tls import served

__load__ = ["admit", "admitted", "admitted_by", "connected", "read_certificate", "remote", "serves"]

LOOPBACK = "127.0.0.1"


def serves(port, path):
    """Tell whether the certificate that an instance serves is that of a file.

    :param port: the instance's.
    :param path: a file with a key and a certificate in PEM.
    :return: a boolean; in a dry run the file may be yet to be written.
    :raises CommandExecutionError: when the instance does not answer.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.serves 8199 /etc/ssl/saltern/redis.pem
    """
    with served.connected("Redis", port) as connection:
        return served.is_of(connection, path)


def read_certificate(name, port, path):
    """Have an instance read its certificate again; connections that are open stay so.

    :param name: the instance.
    :param port: its port.
    :param path: the file with its key and certificate.
    :raises CommandExecutionError: with what Redis answers.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.read_certificate tickets 8199 /etc/ssl/saltern/redis.pem
    """
    _asked(name, port, ["CONFIG", "SET", "tls-cert-file", path, "tls-key-file", path])


def admitted(name, port):
    """Return whom an instance admits: the digests of a user's passwords by the user's name.

    :param name: the instance.
    :param port: its port.
    :raises CommandExecutionError: when it does not answer, or does not let the host in.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.admitted tickets 8199
    """
    (lines,) = _asked(name, port, ["ACL", "LIST"])
    return admitted_by(lines)


def admitted_by(lines):
    """Read whom Redis admits; see ``admitted``. One whose user is off is not.

    :param lines: as ``ACL LIST`` answers them, or as a configuration has them.

    CLI Example: none, it serves the states of ``redis_instance``.
    """
    rules = [line.split() for line in lines]
    return {
        words[1]: sorted(word[1:] for word in words[2:] if word.startswith("#"))
        for words in rules
        if words[:1] == ["user"] and "on" in words[2:3]
    }


def admit(name, port, rules, gone=()):
    """Have an instance admit users as rules say, without a restart. Connections that are open stay so.

    :param name: the instance.
    :param port: its port.
    :param rules: the words of its ``user`` lines, after the word ``user``.
    :param gone: users that are to go, with their connections.
    :raises CommandExecutionError: with what Redis answers.

    CLI Example: none, it serves the state ``redis_instance.admitted``.
    """
    removal = [["ACL", "DELUSER", *gone]] if gone else []
    _asked(name, port, *(["ACL", "SETUSER", user, "reset", *words] for user, *words in rules), *removal)


def connected(name, port):
    """List from where clients are connected, by user.

    :param name: the instance.
    :param port: its port.
    :return: addresses, sorted, by user.
    :raises CommandExecutionError: when it does not answer.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.connected tickets 8199
    """
    (text,) = _asked(name, port, ["CLIENT", "LIST"])
    return clients(text)


def clients(text):
    """Read from where clients are connected; see ``connected``.

    :param text: as ``CLIENT LIST`` answers it.
    """
    found = {}
    for line in text.splitlines():
        client = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found.setdefault(client.get("user"), set()).add(client.get("addr", "").rpartition(":")[0].strip("[]"))
    return {user: sorted(addresses) for user, addresses in found.items()}


def _asked(name, port, *commands):
    """Send commands as the host's own user, and return the answers."""
    secret, answers = __salt__["attachment.operator_password"](name), []
    with served.connected("Redis", port) as connection, connection.makefile("rwb") as stream:
        for words in (["AUTH", "operator", secret], *commands):
            stream.write(encoded(words))
            stream.flush()
            try:
                answers.append(answer(stream))
            except ValueError as error:
                raise CommandExecutionError(f"{name}: Redis answers {words[0]} with: {error}") from None
    return answers[1:]


def answer(stream):
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


def encoded(words):
    """Write a command as Redis reads it; https://redis.io/docs/latest/develop/reference/protocol-spec.

    :param words: text.
    :return: bytes.
    """
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def remote(port):
    """List the other hosts that are connected to a port of this one.

    :param port: the port.
    :return: addresses, sorted.

    CLI Example:

    .. code-block:: bash

        salt-call redis_connection.remote 8199
    """
    import psutil

    own = {LOOPBACK, "::1", __pillar__["hosts"][__opts__["id"]]["address"]}
    found = psutil.net_connections("tcp")
    at = {one.raddr.ip for one in found if one.status == "ESTABLISHED" and one.laddr.port == port and one.raddr}
    return sorted(at - own)
