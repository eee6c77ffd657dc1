"""A damaged build, put right under the feet of the processes that run in its directories."""

import os
import stat

from saltern.builds.description import DESCRIPTION, blank
from saltern.system import deletion


def replace(target: str, staged: str) -> None:
    """Have a damaged build as another that was unpacked beside it.

    Processes run in its directories: those stay, and what is in them is replaced by renames.

    :param target: the directory that is damaged.
    :param staged: the one that is whole, which is used up.
    """
    if not _is_directory(target):
        os.unlink(target)
        os.rename(staged, target)
        return
    # A run that is interrupted leaves no manifest that fits, and the next one begins again.
    for one in (staged, target):
        if os.path.isdir(os.path.dirname(f"{one}/{DESCRIPTION}")):
            blank(f"{one}/{DESCRIPTION}")
    _fill(target, staged)


def _fill(target: str, staged: str) -> None:
    """Have in a directory what is in another one, by renames, and nothing else."""
    status = os.stat(staged)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in sorted({*os.listdir(staged), *os.listdir(target)}):
        new, old = f"{staged}/{name}", f"{target}/{name}"
        if _is_directory(new) and _is_directory(old):
            _fill(old, new)
            continue
        if os.path.lexists(old) and (_is_directory(old) or not os.path.lexists(new) or _is_directory(new)):
            _remove(old)
        if os.path.lexists(new):
            os.rename(new, old)


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _remove(path: str) -> None:
    if _is_directory(path):
        # What an operator has mounted there stays.
        deletion.delete([path])
    else:
        os.unlink(path)
