"""What the README and the pages of docs/ tell their reader to type."""

import os
import re

from lab.tree import copy_tree
from lab.worktree import commit
from tests.hosts.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(*pages):
    """Return the blocks of code of pages: a list of language and text.

    :param pages: paths below the tree.
    """
    text = "".join((ROOT / page).read_text() for page in pages)
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line for language, text in blocks(*PAGES) if language == "sh" for line in text.splitlines()]


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
