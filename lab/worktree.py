"""Git work trees of tests' own, of which bin/build makes builds."""

import subprocess
from pathlib import Path


def commit(directory: Path) -> None:
    """Make a directory a git work tree whose one commit has all that is in it.

    :param directory: of an app's code.
    """
    for command in ("init -q", "add -A", "-c user.name=A -c user.email=a@example.com commit -qm All"):
        subprocess.run(["git", *command.split()], cwd=directory, check=True)
