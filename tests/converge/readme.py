"""What the README tells its reader to type."""

import os
import re

from tests.lab.lab import copy_tree
from tests.worktree import commit

from .conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


def clone(directory, *subnet):
    """Make a clone of the tree, as its reader has one.

    :param directory: where it shall be.
    :param subnet: a part of the inventory's addresses, and what to put in its place: the developer's own lab may be up
        beside the clone's.
    """
    copy_tree(ROOT, directory)
    commit(directory)
    hosts = directory / "pillar/hosts.yaml"
    hosts.write_text(hosts.read_text().replace(*subnet))
    return directory


def environ(lab):
    """Return the environment of a reader, whose make is no part of another one that runs the tests.

    :param lab: the name of the reader's lab.
    """
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return own | {"SALTERN_LAB": lab}
