"""How root deletes what others may have had a hand in."""

import glob
import os
import re
import subprocess
from collections.abc import Iterable

MOUNTS = "/proc/self/mountinfo"


def mounts(text: str | None = None) -> dict[str, str]:
    """Return where something is mounted, and what; see proc_pid_mountinfo(5).

    :param text: of ``/proc/self/mountinfo``.
    :return: the kind of the file system by path.
    """
    if text is None:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
    found = {}
    for line in text.splitlines():
        words = line.split(" ")
        found[re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])] = words[words.index("-") + 1]
    return found


def delete(paths: Iterable[str], uids: Iterable[int] | None = None, inside: bool = False) -> str:
    """Delete what is at paths and below them.

    No link is followed, and nothing that is mounted there is touched: also a directory of the same disk, whose mount no
    comparison of devices tells from the rest. GNU find takes one directory after the other by its descriptor, however
    deep they are.

    :param paths: absolute ones, whose directories are root's or at least nobody's who could move them.
    :param uids: whose files go; everybody's where it is ``None``. A directory in which another's file stays does too.
    :param inside: the paths are directories, mounted or not, and stay themselves.
    :return: an error that find told last, empty where there is none. That a directory is not empty is none.
    """
    paths = [os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in paths]
    paths = [path for path in paths if os.path.lexists(path)]
    if not paths:
        return ""
    below = [place for place in sorted(mounts()) if any(f"{place}/".startswith(f"{path}/") for path in paths)]
    below = [place for place in below if not (inside and place in paths)]
    command = ["find", "-P", *paths, *(["-mindepth", "1"] if inside else []), "-ignore_readdir_race", "-xdev", "-depth"]
    for place in below:
        # -prune does nothing beside -depth: what is mounted is read, and passed over.
        command += ["!", "-path", glob.escape(place), "!", "-path", f"{glob.escape(place)}/*"]
    if uids is not None:
        owners = [word for uid in sorted(uids) for word in ("-o", "-uid", str(uid))]
        command += ["(", *owners[1:], ")"]
    # A directory that is not empty yet holds what stays.
    command += ["(", "!", "-type", "d", "-o", "-empty", ")", "-delete"]
    done = subprocess.run(command, capture_output=True, check=False)
    said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return (said or [f"find ends with {done.returncode}"])[-1] if done.returncode else ""
