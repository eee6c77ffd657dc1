"""How large files are."""

import contextlib
import os


def size_of(path: str) -> int:
    """Return the bytes of a file, or of a directory and all that is below it.

    Where a link leads does not count, nor what has gone meanwhile or is nested too deep to name.

    :param path: it need not be there.
    """
    found, queue = os.lstat(path).st_size if os.path.lexists(path) else 0, [path]
    while queue:
        with contextlib.suppress(OSError), os.scandir(queue.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                else:
                    found += entry.stat(follow_symlinks=False).st_size
    return found


def parsed(text: str) -> int:
    """Return the bytes of a size as the pillar says it.

    :param text: such as ``10g``, in k, m, g or t: powers of 1024.
    """
    return int(text[:-1]) << 10 * ("kmgt".index(text[-1]) + 1)


def megabytes(count: float) -> str:
    """Write a number of bytes as people read it.

    :param count: bytes.
    :return: such as ``7.5 MB``.
    """
    return f"{count / 1_000_000:.1f} MB"
