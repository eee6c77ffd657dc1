"""A build's virtual environment: made of its wheels, with no index, by nothing that the build brings."""

import os
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from salt.exceptions import CommandExecutionError

from saltern.builds import links, offline

# Seconds for a command.
COMMAND_LIMIT = 1800

COMPILE = ("prlimit", f"--as={4 << 30}", "/usr/bin/python3", "-IS", "-m", "compileall", "-q")


def make(app: str, staged: str, earlier: Sequence[pathlib.Path]) -> None:
    """Make the virtual environment from the wheelhouse, with no index.

    It is relocatable, since the build is renamed into its place; what an earlier build has too is one file on the disk.
    Root does this, so nothing of the build is run: no source is built, uv asks the environment's Python what it is
    while there is nothing in it, and the byte code is made by the system's Python, which neither looks for modules in
    the build (-I) nor reads the .pth files of its wheels (-S).

    :param app: the app's name.
    :param staged: the build's directory.
    :param earlier: the directories of the app's earlier builds.
    :raises CommandExecutionError: when it cannot be made.
    """
    from uv import find_uv_bin

    uv = find_uv_bin()
    make = [uv, "venv", "-q", "--relocatable", "--no-project", "--python", "/usr/bin/python3", ".venv"]
    look = [uv, "pip", "list", "-q", "--python", ".venv"]
    fill = [uv, "pip", "install", "-q", "--python", ".venv", "--no-index", "--find-links", "wheelhouse", "--no-build"]
    fill += ["--exact", "--require-hashes", "-r", "requirements.txt"]
    # Its cache is none of the build's own files, and on the same file system, so that it can link from it.
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=os.path.dirname(staged)) as cache:
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/root",
            "UV_CACHE_DIR": cache,
            "UV_LINK_MODE": "hardlink",
            **offline.UV,
        }
        _run(app, make, staged, environ)
        # It remembers the answer, and need not ask when there are wheels, whose .pth files Python would run.
        _run(app, look, staged, environ)
        is_whole = links.link_wheels(pathlib.Path(staged), earlier)
        # What is linked it leaves as it is, and says whether that is what the build asks for.
        _run(app, fill, staged, environ)
    # uv's own, and open to everybody.
    os.unlink(f"{staged}/.venv/.lock")
    # What is there and fits its source stays. What cannot be compiled cannot be imported either; that is the app's to
    # say, at its start. With all processors, where there is much of it.
    _run(None, [*COMPILE, "-j", "1" if is_whole else "0", "."], staged, environ)


def _run(app: str | None, command: Sequence[str], staged: str, environ: Mapping[str, str]) -> None:
    """Run a command in the directory of a build; it may fail where no app is named."""
    # The app's user reads what is made here, whatever the umask of the shell that salt-call came from.
    try:
        done = subprocess.run(
            command,
            cwd=staged,
            env=environ,
            umask=0o022,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT,
        )
    except subprocess.TimeoutExpired:
        if not app:
            return
        raise CommandExecutionError(
            f"app.{app}.build: its virtual environment cannot be made within {COMMAND_LIMIT} s"
        ) from None
    if done.returncode and app:
        lines = "; ".join(done.stderr.strip().splitlines()[-4:])
        raise CommandExecutionError(f"app.{app}.build: its virtual environment cannot be made: {lines}")
