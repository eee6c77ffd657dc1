"""Copies of the tree's parts, for tests that change them."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What of a pillar is that of whoever runs the tests.
OWN = ("builds", "secrets")


def copy(directory, *parts, own=OWN):
    """Copy parts of the tree.

    :param directory: where to.
    :param parts: such as ``pillar``, of which what is the developer's own is left out.
    :param own: names of that.
    """
    for part in parts:
        names = ("__pycache__", *(own if part == "pillar" else ()))
        shutil.copytree(ROOT / part, directory / part, ignore=shutil.ignore_patterns(*names))
