"""The log of a process: a stream into the journal."""

import _socket as socket
import os
import sys

LOG_INFO = 6
SEND_BUFFER = 8 << 20
JOURNAL = "/run/systemd/journal/stdout"


def say(scope, text):
    """Write one line to the log of a process. An app names its programs, so their names must not add lines."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    os.write(scope.log, f"v{scope.number} {scope.process} {shown}\n".encode())


def journal(scope):
    """Make standard output and error a stream into the journal."""
    descriptor = stream(scope)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def stream(scope):
    """Open a stream into the journal, as sd_journal_stream_fd(3) does, and return its descriptor.

    The stream names the scope, so that the lines of a process are known also after the process has ended.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.connect(JOURNAL)
        opened.shutdown(socket.SHUT_RD)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        opened.sendall(f"{scope.app}[{scope.name}]\n{scope.unit}\n{LOG_INFO}\n0\n0\n0\n0\n".encode())
    except OSError as error:
        sys.exit(f"{scope.app}[{scope.name}]: the journal does not answer: {error.strerror}")
    return opened.detach()
