"""Copies of the tree's parts, for tests that change them."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The parts of a pillar that belong to whoever runs the tests: a copy leaves them out.
OWN = ("builds", "secrets")


def copy(directory, *parts, own=OWN):
    """Copy parts of the tree.

    :param directory: the directory to copy to.
    :param parts: files and directories of the tree, such as ``pillar``.
    :param own: names below ``pillar`` that are the developer's own and are left out.
    """
    for part in parts:
        names = ("__pycache__", *(own if part == "pillar" else ()))
        shutil.copytree(ROOT / part, directory / part, ignore=shutil.ignore_patterns(*names))
