"""The users of sites and their passwords: a file for each app, which nginx reads at each request that asks for one.

A password is hashed by libcrypt, as nginx itself does it. A line whose hash is that of the password stays: a converge
changes nothing that is right.
"""

import ctypes
import grp
import hmac
import os
import secrets
from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.system import files

ROOT = "/etc/nginx/users"
# nginx's workers have this group.
GROUP = "www-data"
MODE, DIRECTORY_MODE = 0o640, 0o750

# yescrypt at its lowest cost, some 1.5 ms: a worker of nginx hashes at each request, and serves nobody else meanwhile.
SETTING = "$y$j75$"
# Bytes of randomness of a salt, in hexadecimal digits, which its alphabet has.
SALT = 8

Users = Mapping[str, str]


def declared(pillar: Mapping[str, Any]) -> dict[str, Users]:
    """Return the users and passwords of the sites that a host serves, by app.

    :param pillar: of the host.
    """
    found = {app: pillar["app"][app]["site"]["access"]["users"] for app in sorted(pillar["nginx"]["sites"])}
    return {app: users for app, users in found.items() if users}


def path(root: str, app: str) -> str:
    """Return the file of an app's users.

    :param root: the directory.
    :param app: the app's name.
    """
    return f"{root}/{app}"


def text(there: str | None, users: Users) -> str:
    """Write the users of an app, sorted by name.

    :param there: what the file says, ``None`` where there is none.
    :param users: passwords by name.
    """
    known = dict(line.split(":", 1) for line in (there or "").splitlines() if ":" in line)
    return "".join(f"{name}:{_line(known.get(name, ''), users[name])}\n" for name in sorted(users))


def is_right(root: str, app: str, users: Users) -> bool:
    """Tell whether the file of an app's users is as declared.

    :param root: the directory.
    :param app: the app's name.
    :param users: passwords by name.
    """
    there = files.read(path(root, app))
    if there is None or there != text(there, users):
        return False
    return _owned(path(root, app), MODE) and _owned(root, DIRECTORY_MODE)


def write(root: str, app: str, users: Users) -> None:
    """Write the users of an app.

    :param root: the directory.
    :param app: the app's name.
    :param users: passwords by name.
    :raises CommandExecutionError: when the file cannot be written.
    """
    try:
        group = grp.getgrnam(GROUP).gr_gid
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.chown(root, 0, group)
        os.chmod(root, DIRECTORY_MODE)
        files.write(path(root, app), text(files.read(path(root, app)), users), MODE, 0, group)
    except KeyError:
        raise CommandExecutionError(f"{root}: there is no group {GROUP}; expected the package nginx") from None
    except OSError as error:
        raise CommandExecutionError(f"{path(root, app)}: {error.strerror}") from None


def unused(root: str, pillar: Mapping[str, Any]) -> list[str]:
    """List the files of apps whose sites ask for no password any more.

    :param root: the directory.
    :param pillar: of the host.
    :return: paths, sorted.
    """
    there = os.listdir(root) if os.path.isdir(root) else []
    return [path(root, name) for name in sorted({*there} - declared(pillar).keys())]


def _line(known: str, password: str) -> str:
    """Return a password's hash: the one that is known, if it is of this password."""
    if known.startswith(SETTING) and hmac.compare_digest(_hashed(password, known), known):
        return known
    return _hashed(password, f"{SETTING}{secrets.token_hex(SALT)}")


def _hashed(password: str, setting: str) -> str:
    """Hash a password as crypt(3) does.

    :param setting: the method and the salt, or a whole hash, which begins with both.
    """
    # Python has had no module for it since 3.13.
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.argtypes, crypt.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.c_char_p
    found: bytes | None = crypt(password.encode(), setting.encode())
    if not found or found.startswith(b"*"):
        # Such as a line that somebody has damaged.
        return "*"
    return found.decode("ascii")


def _owned(where: str, mode: int) -> bool:
    try:
        status = os.stat(where)
        return (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, grp.getgrnam(GROUP).gr_gid, mode)
    except (OSError, KeyError):
        return False
