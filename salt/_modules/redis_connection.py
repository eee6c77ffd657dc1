"""Connections to the Redis instances of this host: what they serve, and to whom."""

import contextlib
import os
import socket
import ssl

from salt.exceptions import CommandExecutionError

__load__ = ["read_certificate", "remote", "serves"]

LOOPBACK = "127.0.0.1"
TIMEOUT = 5


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
    with _connected(port) as connection:
        return os.path.exists(path) and connection.getpeercert(binary_form=True) == _read(path)


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
    secret = __salt__["attachment.operator_password"](name)
    with _connected(port) as connection, connection.makefile("rwb") as stream:
        for words in (["AUTH", "operator", secret], ["CONFIG", "SET", "tls-cert-file", path, "tls-key-file", path]):
            stream.write(encoded(words))
            stream.flush()
            answer = stream.readline().decode("utf-8", "replace").strip()
            if answer != "+OK":
                raise CommandExecutionError(f"{name}: Redis answers {words[0]} with: {answer or 'nothing'}")


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


@contextlib.contextmanager
def _connected(port):
    # Which certificate it serves is the question: it may have expired, or be of an authority that nobody trusts.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((LOOPBACK, port), TIMEOUT) as plain, context.wrap_socket(plain) as connection:
            yield connection
    except OSError as error:
        raise CommandExecutionError(f"Redis at port {port} does not answer: {error.strerror or error}") from None


def _read(path):
    with open(path, encoding="ascii") as stream:
        _, mark, certificate = stream.read().partition(ssl.PEM_HEADER)
    return ssl.PEM_cert_to_DER_cert(f"{mark}{certificate.partition(ssl.PEM_FOOTER)[0]}{ssl.PEM_FOOTER}")
