"""The certificate that a service of this host serves."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

from salt.exceptions import CommandExecutionError

from saltern.system import files

LOOPBACK = "127.0.0.1"
# Seconds in which a service answers.
TIMEOUT = 5


@contextlib.contextmanager
def connected(what: str, port: int) -> Iterator[ssl.SSLSocket]:
    """Connect to a service by TLS, whichever certificate it serves.

    The certificate is not verified: it may have expired, or be of an authority that nobody trusts any more.

    :param what: the service, for the message.
    :param port: its port of the loopback.
    :raises CommandExecutionError: when it does not answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((LOOPBACK, port), TIMEOUT) as plain, context.wrap_socket(plain) as connection:
            yield connection
    except OSError as error:
        raise CommandExecutionError(f"{what} at port {port} does not answer: {error.strerror or error}") from None


def is_of(connection: ssl.SSLSocket, path: str) -> bool:
    """Tell whether a connection shows the certificate of a file.

    :param connection: to the service.
    :param path: the file, in PEM, its key before its certificates. In a dry run the file may be yet to be written.
    """
    _, mark, rest = (files.read(path) or "").partition(ssl.PEM_HEADER)
    own = ssl.PEM_cert_to_DER_cert(f"{mark}{rest.partition(ssl.PEM_FOOTER)[0]}{ssl.PEM_FOOTER}") if mark else b""
    return connection.getpeercert(binary_form=True) == own
