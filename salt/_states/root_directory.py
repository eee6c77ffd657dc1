"""Directories that root writes into, and that therefore nobody but root may write into.

Debian gives the directories of some services' configuration to the service's user. A link that this user puts in the
place of a file there would have the next converge write to where it leads: Salt's own states follow links.
"""

import contextlib
import glob
import grp
import os
import pwd
import stat

NOT_FOLLOWED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refusal(Exception):
    """Why root refuses to write there."""


def alone(name, directories, group, mode, files):
    """Close directories to all writers but root, and check that each file that root writes has only one name.

    :param name: what they are, in words.
    :param directories: their paths, each after the one that it is in. A package makes them before this state runs.
    :param group: who may read there, as a group's name.
    :param mode: of the directories, such as ``0750``.
    :param files: patterns of the paths that root writes in them.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"Root alone writes {name}"}
    wanted = ("root", group, int(str(mode), 8))
    try:
        for directory in directories:
            found = _of(directory)
            if found == wanted:
                continue
            if not __opts__["test"]:
                _give(directory, group, wanted[2])
            ret["changes"][directory] = {"old": found and _shown(*found), "new": _shown(*wanted)}
        # Checked last, when nobody else can put anything there any more.
        for pattern in files:
            for path in sorted(glob.glob(pattern)):
                _judge(path)
    except Refusal as refusal:
        return ret | {"result": False, "comment": str(refusal)}
    except (OSError, KeyError) as error:
        return ret | {"result": False, "comment": f"{name}: {error}"}
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{name} would be root's"}
    return ret | {"comment": f"{name} is root's"}


def _of(directory):
    """Return a directory's owner, group and mode; ``None`` where a package has yet to make it, in a dry run."""
    for above in _above(directory):
        try:
            of_above = os.stat(above)
        except FileNotFoundError:
            if __opts__["test"]:
                return None
            raise Refusal(f"{above}: is not there; expected its package to have made it. Install that anew") from None
        if of_above.st_uid or of_above.st_mode & 0o022:
            # In a dry run, the real run would have given it to root by now.
            if __opts__["test"]:
                break
            raise Refusal(
                f"{above}: is {_shown(*_names(of_above))}; expected a directory that root alone may write. "
                f"chown root: {above}; chmod go-w {above}; then converge again"
            )
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        if __opts__["test"]:
            return None
        raise Refusal(f"{directory}: is not there; expected its package to have made it. Install that anew") from None
    if not stat.S_ISDIR(found.st_mode):
        raise _no(directory, found, "a directory")
    return _names(found)


def _above(directory):
    while (directory := os.path.dirname(directory)) != "/":
        yield directory


def _names(found):
    owner, group = str(found.st_uid), str(found.st_gid)
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(found.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return owner, group, stat.S_IMODE(found.st_mode)


def _shown(owner, group, mode):
    return f"{owner}:{group} {mode:04o}"


def _give(directory, group, mode):
    """Give a directory to root, but not another one that somebody has put in its place meanwhile."""
    fd = os.open(directory, NOT_FOLLOWED | os.O_DIRECTORY)
    try:
        os.fchown(fd, 0, grp.getgrnam(group).gr_gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _judge(path):
    """Refuse a file through which root would write elsewhere, or on which a write would wait."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise _no(path, found, "a file")
    if found.st_nlink > 1:
        raise _no(path, found, "a file of no other name", "has another name too (find / -xdev -samefile shows it)")


def _no(path, found, expected, what=None):
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}
    what = what or f"is {kinds.get(stat.S_IFMT(found.st_mode), 'no file')}"
    if stat.S_ISLNK(found.st_mode):
        what += f" to {os.readlink(path)}"
    owner = _names(found)[0]
    return Refusal(
        f"{path}: {what}, of the user {owner}; expected {expected}. Nothing was written. Somebody who ran as that user "
        f"may have put it there: look who, remove {path}, and converge again"
    )
