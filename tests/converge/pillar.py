"""Editing the pillar of the hosts under test."""

import copy
import shutil
from pathlib import Path

import yaml


class Pillar:
    """The pillar of a tree that a test may edit, and what was in it before.

    :param tree: the tree of the hosts.
    """

    def __init__(self, tree: Path):
        self.directory = tree / "pillar"
        self.backup = tree / "pillar.before"
        shutil.copytree(self.directory, self.backup)

    def merge(self, **settings) -> None:
        """Lay settings over those of the environment; ``None`` takes a key away.

        :param settings: a mapping by formula.
        """
        path = self.directory / "environments/dev.sls"
        now = overlaid(yaml.safe_load(path.read_text()), settings)
        # Values that look like Jinja stay what they are.
        path.write_text("#!yaml\n" + yaml.safe_dump(now, allow_unicode=True))

    def restore(self) -> None:
        """Put everything back."""
        shutil.rmtree(self.directory)
        self.backup.rename(self.directory)
        shutil.copytree(self.directory, self.backup)

    def close(self) -> None:
        """Put everything back, for good."""
        shutil.rmtree(self.directory)
        self.backup.rename(self.directory)


def overlaid(below, above):
    """Return a mapping with another laid over it, at every depth."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return copy.deepcopy(above)
    merged = {key: value for key, value in below.items() if key not in above}
    for key, value in above.items():
        if value is not None:
            merged[key] = overlaid(below.get(key), value)
    return merged
