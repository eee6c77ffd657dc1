"""Files, written in one way. Programs of a host import this too, which have no Salt."""

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


def write(
    path: str, content: str | bytes, mode: int | None = 0o644, uid: int = -1, gid: int = -1, staged: str | None = None
) -> None:
    """Replace a file: at any moment, and after a power failure too, it is the old one or the new one.

    :param path: the file. Its directory is there.
    :param content: what it shall hold; text is written in UTF-8, with the bytes that Python could not read as text.
    :param mode: its permissions, whatever the umask; with ``None`` what the umask leaves of 0666.
    :param uid: its owner's number; without one, whoever runs this.
    :param gid: its group's number.
    :param staged: where the new one is written, on the same file system, if several may write at once.
    :raises OSError: when it cannot be written; then it is the old one.
    """
    with replacing(path, mode, uid, gid, staged) as stream:
        stream.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(
    path: str, mode: int | None = 0o644, uid: int = -1, gid: int = -1, staged: str | None = None
) -> Iterator[BinaryIO]:
    """Yield a stream to which a file's new content is written; see ``write`` for all else.

    With an error in the block, the file stays the old one.
    """
    staged = staged or f"{path}.new"
    # Nobody else reads it before it has its own owner and mode.
    own = 0o666 if mode is None else 0o600
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, own)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchown(descriptor, uid, gid)
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(staged, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise


def read(path: str, errors: str = "strict") -> str | None:
    """Return the text of a file, ``None`` where there is none or it is no text.

    :param path: the file.
    :param errors: what becomes of bytes that are no UTF-8; ``replace`` to have something else in their place.
    """
    try:
        with open(path, encoding="utf-8", errors=errors) as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None
