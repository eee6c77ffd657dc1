"""What two builds of an app share: the files of the same wheels, with their byte code, are one file on the disk."""

import base64
import contextlib
import csv
import filecmp
import hashlib
import json
import os
import pathlib
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence

from saltern.builds.form import sha256_of
from saltern.builds.manifest import python_version

# What uv makes: files that all may read, and those that all may run.
# How many builds are looked at for what a new one has too: what was deployed last is most like what comes now.
NEWEST = 5
MODES = (stat.S_IFREG | 0o644, stat.S_IFREG | 0o755)


def link_wheels(staged: pathlib.Path, earlier: Sequence[pathlib.Path]) -> bool:
    """Link what the same wheels brought into earlier builds of an app, with its byte code.

    A build has most wheels of the last one, and to install and compile these takes longer than all else of it. The
    files are those that a wheel says that it has, by digest, and no others: an edit by hand is not taken over. Byte
    code says itself by which size and time it belongs to a file, which is the same one. Nothing is linked from another
    app's build: what is in there besides wheels is that app's to choose.

    :param staged: the directory of the build, with an environment that has nothing yet.
    :param earlier: the directories of the app's earlier builds.
    :return: whether there is nothing left to install.
    """
    links: dict[str, pathlib.Path] = {}
    left, python = _wheels(staged), python_version()
    for build in earlier:
        for name in left if _is_for(build, python) else ():
            with contextlib.suppress(OSError, ValueError, csv.Error):
                if is_same(build / "wheelhouse" / name, staged / "wheelhouse" / name):
                    found = _brought(build, name, python)
                    # Of two wheels with the same file, uv says which one counts.
                    if not links.keys() & found:
                        links |= {path: build / ".venv" / path for path in found}
                        left = [other for other in left if other != name]
    return _link_all(links, staged / ".venv") and not left


def is_same(kept: pathlib.Path, wheel: pathlib.Path) -> bool:
    """Tell whether an earlier build has the same wheel: as one file on the disk, or byte for byte.

    :param kept: the earlier build's; it need not be there.
    :param wheel: the other's.
    """
    with contextlib.suppress(OSError):
        return kept.samefile(wheel) or filecmp.cmp(kept, wheel, shallow=False)
    return False


def newest(directory: str, but: str = "") -> list[pathlib.Path]:
    """List the directories of builds that were unpacked last, newest first.

    :param directory: that in which an app's builds are; it need not be there.
    :param but: the name of one that is left out.
    """
    builds = [build for build in pathlib.Path(directory).glob("[!.]*") if build.name != but]
    return sorted(builds, key=_modified, reverse=True)[:NEWEST]


def _modified(path: pathlib.Path) -> float:
    """Return when a directory was modified; 0 where another run has just removed it."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0


def _wheels(staged: pathlib.Path) -> list[str]:
    """List the wheels of a build that its requirements name by digest."""
    pinned = (staged / "requirements.txt").read_text(encoding="utf-8", errors="replace")
    wheels = sorted(path.name for path in (staged / "wheelhouse").glob("*.whl"))
    return [name for name in wheels if f"--hash=sha256:{sha256_of(staged / 'wheelhouse' / name)}" in pinned]


def _is_for(build: pathlib.Path, python: str) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return bool(json.loads((build / "build.json").read_text()).get("python") == python)
    return False


def _brought(build: pathlib.Path, wheel: str, python: str) -> list[str]:
    """Return the files that a wheel brought into a build's virtual environment, and the byte code of them.

    :param build: its directory.
    :param wheel: the name of its file.
    :param python: the build's Python, such as ``3.11``.
    :return: paths relative to the environment.
    :raises ValueError: when one of them is not as it came.
    """
    # The names of most begin with those of the distribution and its version, as the directory's does.
    venv, name = build / ".venv", "-".join(wheel.split("-")[:2])
    if sum(other.startswith(f"{name}-") for other in os.listdir(build / "wheelhouse")) > 1:
        raise ValueError(f"{name}: which of its wheels was installed is not known")
    directory = f"lib/python{python}/site-packages"
    found = [f"{directory}/{name}.dist-info/RECORD"]
    with (venv / found[0]).open(newline="") as stream:
        for file, digest, *_ in csv.reader(stream):
            path = os.path.normpath(f"{directory}/{file}")
            if path == found[0] and not digest:
                continue
            is_inside = path.startswith(("lib/", "bin/"))
            if not is_inside or (venv / path).lstat().st_mode not in MODES or digest != _recorded_digest(venv / path):
                raise ValueError(path)
            found.append(path)
    if (venv / found[0]).lstat().st_mode not in MODES:
        raise ValueError(found[0])
    modules = [pathlib.PurePath(path) for path in found if path.endswith(".py")]
    # Where Salt's own byte code is (sys.pycache_prefix), the build's is not.
    byte_code = [f"{path.parent}/__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc" for path in modules]
    return [*found, *(path for path in byte_code if _mode(venv / path) in MODES)]


def _mode(path: pathlib.Path) -> int | None:
    """Return the mode of a file, or ``None`` where there is none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mode
    return None


def _recorded_digest(path: pathlib.Path) -> str:
    """Return the digest of a file as a wheel's RECORD has it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _link_all(links: Mapping[str, pathlib.Path], venv: pathlib.Path) -> bool:
    """Link files into a virtual environment: all of them, or none.

    :param links: the file to link to, by path in the environment.
    :param venv: the environment's path.
    :return: whether they are there.
    """
    before, made = os.umask(0o022), list[pathlib.Path]()
    directories = sorted({parent for path in links for parent in (venv / path).parents if not parent.exists()})
    try:
        for directory in directories:
            directory.mkdir()
        for path, there in links.items():
            # uv writes into a RECORD as it is; what else is there it replaces by a rename.
            (shutil.copy2 if path.endswith("/RECORD") else os.link)(there, venv / path)
            made.append(venv / path)
    except OSError:
        for file in made:
            file.unlink()
        # uv takes an empty directory for a distribution.
        for directory in reversed(directories):
            with contextlib.suppress(OSError):
                directory.rmdir()
        return False
    finally:
        os.umask(before)
    return True
