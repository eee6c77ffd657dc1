"""Files, written in one way."""

import contextlib
import os


def write(path: str, content: str | bytes, mode: int = 0o644, uid: int = -1, gid: int = -1) -> None:
    """Replace a file: at any moment, and after a power failure too, it is the old one or the new one.

    :param path: the file. Its directory is there.
    :param content: what it shall hold; text is written in UTF-8, with the bytes that Python could not read as text.
    :param mode: its permissions, whatever the umask.
    :param uid: its owner's number; without one, whoever runs this.
    :param gid: its group's number.
    :raises OSError: when it cannot be written; then it is the old one.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    staged = f"{path}.new"
    # Nobody else reads it before it has its own owner and mode.
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            stream.flush()
            os.fsync(descriptor)
        os.rename(staged, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise


def read(path: str) -> str | None:
    """Return the text of a file, ``None`` where there is none or it is no text."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None
