"""The environments: each has a file, ``pillar/environments/<name>.sls``, and is nowhere else listed."""

import contextlib
import os
import re
from collections.abc import Sequence

SUFFIX = ".sls"
# The line by which a file says that its hosts are thrown away. The Makefile and the Vagrantfile look for it as well, so
# that it is a line and nothing that a template may make.
EPHEMERAL = re.compile(r"^ephemeral: *[Tt]rue *(#.*)?$", re.MULTILINE)
KEY = "ephemeral"


def names(pillar_roots: Sequence[str]) -> list[str]:
    """Return the names of all environments, sorted.

    :param pillar_roots: the pillar's directories.
    """
    found: set[str] = set()
    for root in pillar_roots:
        with contextlib.suppress(OSError):
            entries = os.listdir(os.path.join(root, "environments"))
            found |= {entry.removesuffix(SUFFIX) for entry in entries if entry.endswith(SUFFIX)}
    return sorted(name for name in found if re.fullmatch(r"[a-z][a-z0-9_-]*", name))


def is_ephemeral(pillar_roots: Sequence[str], name: str) -> bool:
    """Tell whether the hosts of an environment are thrown away: they see the tree itself, and nothing there is secret.

    :param pillar_roots: the pillar's directories, in the order in which Salt looks into them.
    :param name: an environment.
    """
    for root in pillar_roots:
        path = os.path.join(root, "environments", name + SUFFIX)
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as stream:
            return bool(EPHEMERAL.search(stream.read()))
    return False


def kept(pillar_roots: Sequence[str]) -> list[str]:
    """Return the names of the environments whose hosts stay, sorted: those that have secrets.

    :param pillar_roots: the pillar's directories.
    """
    return [name for name in names(pillar_roots) if not is_ephemeral(pillar_roots, name)]


def mistakes(pillar_roots: Sequence[str], name: str, said: object) -> list[str]:
    """List what is wrong with what pillar files say of being ephemeral.

    :param pillar_roots: the pillar's directories.
    :param name: the host's environment.
    :param said: the value that Salt has read, ``None`` where no file has one.
    :return: a message for each.
    """
    if said is None or (said is True and is_ephemeral(pillar_roots, name)):
        return []
    path = f"pillar/environments/{name}{SUFFIX}"
    return [f"{KEY}: expected the line `{KEY}: True` in {path}, or nothing of it in any pillar file"]
