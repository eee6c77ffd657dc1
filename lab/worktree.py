"""Git work trees that tests make for bin/build."""

import subprocess
from pathlib import Path


def commit(directory: Path) -> None:
    """Make a directory a git work tree with one commit of all its files.

    :param directory: the directory of an app's code.
    """
    for command in ("init -q", "add -A", "-c user.name=A -c user.email=a@example.com commit -qm All"):
        subprocess.run(["git", *command.split()], cwd=directory, check=True)
