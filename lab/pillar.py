"""Edits of the pillar of hosts under test, as an operator would make them: each setting in its file."""

import copy
import re
import shutil
from pathlib import Path

import yaml

FORMULAS = Path(__file__).parents[1] / "formulas"


class Pillar:
    """The pillar of a tree that a test may edit, and a copy of what was in it before.

    :param tree: the tree of the hosts.
    """

    def __init__(self, tree: Path):
        self.directory = tree / "pillar"
        self.backup = tree / "pillar.before"
        shutil.copytree(self.directory, self.backup)

    def merge(self, **settings) -> None:
        """Lay settings over the declared ones; see ``declare``."""
        declare(self.directory, "dev", settings)

    def restore(self) -> None:
        """Put everything back."""
        shutil.rmtree(self.directory)
        self.backup.rename(self.directory)
        shutil.copytree(self.directory, self.backup)

    def close(self) -> None:
        """Put everything back, and remove the copy."""
        shutil.rmtree(self.directory)
        self.backup.rename(self.directory)


class Dumper(yaml.SafeDumper):
    """Escapes what YAML reads as line breaks: PyYAML writes them as they are, and a reader would fold them."""

    def represent_str(self, data):
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


Dumper.add_representer(str, Dumper.represent_str)


def declare(directory: Path, environment: str, settings: dict) -> None:
    """Lay settings over those of a pillar: settings that vary in the environment's file, all others in the common one.

    :param directory: the pillar's root.
    :param environment: such as ``dev``.
    :param settings: a mapping by formula; ``None`` takes a key away.
    """
    schemas = {path.parent.name: yaml.safe_load(path.read_text()) for path in FORMULAS.glob("*/settings.yaml")}
    schema = {"properties": schemas}
    for name, varies in (("common.sls", False), (f"environments/{environment}.sls", True)):
        path = directory / name
        now = overlaid(yaml.safe_load(path.read_text()), placed(schema, settings, varies))
        # Values that look like Jinja must not be rendered.
        path.write_text("#!yaml\n" + yaml.dump(now, Dumper=Dumper, allow_unicode=True))

    # The build of an app that is taken away goes too.
    gone = [app for app, one in settings.get("app", {}).items() if one is None]
    path = directory / f"builds/{environment}.sls"
    if gone and path.exists():
        builds = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(overlaid(builds, {"app": dict.fromkeys(gone)})))


def placed(schema: dict, value: dict, varies: bool) -> dict:
    """Return the settings of a value that vary, or those that do not. A key to be taken away is in both.

    Keys that the schema does not know do not vary.
    """
    kept = {}
    for key, item in value.items():
        patterns = schema.get("patternProperties", {}).items()
        by_pattern = (part for pattern, part in patterns if re.search(pattern, str(key)))
        part = schema.get("properties", {}).get(key) or next(by_pattern, {})
        if part.get("varies"):
            if varies:
                kept[key] = item
        elif item is None or item == {} or not isinstance(item, dict):
            if item is None or not varies:
                kept[key] = item
        elif below := placed(part, item, varies):
            kept[key] = below
    return kept


def overlaid(below, above):
    """Return a mapping with another laid over it, at every depth."""
    if not isinstance(above, dict):
        return copy.deepcopy(above)
    below = below if isinstance(below, dict) else {}
    merged = {key: value for key, value in below.items() if key not in above}
    for key, value in above.items():
        if value is not None:
            merged[key] = overlaid(below.get(key), value)
    return merged
