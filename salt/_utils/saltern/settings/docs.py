"""The command ``bin/settings-docs``: docs/reference, and the schemas that editors read."""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from saltern import environments, inventory
from saltern.settings import editors
from saltern.settings.messages import expected
from saltern.settings.schema import INVENTORY_KEY, Schema, read_schemas

DESCRIPTION = "Write what follows from the formulas' settings.yaml: docs/reference, and the schemas that editors read."

WIDTH = 118
# What the file of an environment may say besides the formulas' settings.
EPHEMERAL = {
    "description": "Whether its hosts are thrown away: they see the tree itself, and no value of theirs is secret.",
    "type": "boolean",
    "varies": True,
}
WRITTEN = "<!-- Written by `make docs` from {}; change that. -->\n\n"
INDEX = """\
# Settings

A page for each formula says what it makes, what can be set, and what it refuses:

{pages}

## Where a setting stands

- What **varies** may differ between environments. It stands in `pillar/environments`, `pillar/builds` and
  `pillar/secrets`.
- All else stands in `pillar/common.sls`.
- `pillar/hosts.yaml` is the inventory.
- `ephemeral: True` in the file of an environment says that its hosts are thrown away, as those of dev are. They see the
  tree itself, and no value of theirs is a secret. Where these pages say dev, they mean each such environment.

A setting that **must be given** must be there when the files of a host are taken together. A setting that is not given
has its default. A **secret** is encrypted outside dev: [Set and rotate a secret](../how-to/secrets.md).

`<name>` in a path stands for a name of yours, such as an app's. [Complete settings in an
editor](../how-to/editor.md) tells how your editor knows all this.
"""


def index_page(schemas: Mapping[str, Schema]) -> str:
    """Write docs/reference/index.md.

    :param schemas: a mapping of formula to schema, and of ``hosts`` to the inventory's.
    :return: its text.
    """
    pages = "\n".join(
        _wrapped(f"- [{name}]({name}.md): {schema['description']}", "  ") for name, schema in schemas.items()
    )
    return WRITTEN.format("the formulas' settings.yaml") + INDEX.format(pages=pages)


def formula_page(name: str, schema: Schema, readme: str = "") -> str:
    """Write a formula's page of docs/reference: its README, an example and its settings.

    :param name: the formula's name, or ``hosts``, which has no README.
    :param schema: its schema.
    :param readme: the text of its README.
    :return: the page's text.
    """
    written = WRITTEN.format(
        "the settings.yaml and the README.md of the formula" if readme else "salt/roles/settings.yaml"
    )
    head = SETTINGS_SECTION.sub("", _as_in_reference(readme)) if readme else f"# {name}\n\n{schema['description']}\n"
    keys = f"Each key of `{name}` is {schema['x-expected']}.\n\n" if "patternProperties" in schema else ""
    examples = "".join(f"```yaml\n{_yaml({name: example})}```\n\n" for example in schema.get("examples", []))
    example = f"## Example\n\n{examples}" if examples else ""
    settings_ = "\n".join(_settings(schema, name))
    return f"{written}{head.rstrip()}\n\n{example}## Settings\n\n{keys}{settings_}"


# A README says in one sentence where the settings are; on this page they are below.
SETTINGS_SECTION = re.compile(r"(?ms)^## Settings\n.*?(?=^## |\Z)")


def _as_in_reference(readme: str) -> str:
    """Return a README with its links as they are from docs/reference."""
    readme = re.sub(r"\]\(\.\./\.\./docs/reference/", "](", readme)
    readme = re.sub(r"\]\(\.\./\.\./docs/", "](../", readme)
    return re.sub(r"\]\(\.\./([a-z]+)/README\.md", r"](\1.md", readme)


def _settings(schema: Schema, path: str, varies: bool = False) -> Iterator[str]:
    """Yield the text about each setting below a schema.

    :param schema: the schema of a mapping.
    :param path: what the settings' names start with.
    :param varies: whether an environment may set all that is below it.
    """
    named = schema.get("properties", {}).items()
    free = (("<name>", part) for part in schema.get("patternProperties", {}).values())
    for name, part in (*named, *free):
        here = f"{path}.{name}"
        may = varies or part.get("varies", False)
        facts = [f"Type: {_kind(part)}"]
        if name in schema.get("required", []):
            facts.append("Must be given")
        if "default" in part:
            facts.append(f"Default: `{_inline(part['default'])}`")
        if may:
            facts.append("Varies: an environment may set it")
        if part.get("secret"):
            facts.append("A secret")
        about = [_wrapped(part["description"]), "\n".join(_wrapped(f"- {fact}", "  ") for fact in facts)]
        yield f"### `{here}`\n\n" + "\n\n".join(about) + "\n" + _examples(part, name)
        yield from _settings(part, here, may)


def _examples(part: Schema, name: str) -> str:
    """Write the examples of a setting: in its list of facts where all of them fit into a line."""
    examples = part.get("examples", [])
    line = _wrapped(f"- For example: {' or '.join(f'`{_inline(value)}`' for value in examples)}", "  ")
    if not examples:
        return ""
    if "\\n" not in json.dumps(examples) and line.count("\n") < 2:
        return f"{line}\n"
    key = "shop" if name == "<name>" else name
    return "".join(f"\n```yaml\n{_yaml({key: value})}```\n" for value in examples)


def _inline(value: Any) -> str:
    """Write a value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()


def _yaml(value: Any) -> str:
    """Write a mapping as YAML, with what is short in one line and text of several lines as such."""
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=None, width=100, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as it is."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _wrapped(text: str, indent: str = "") -> str:
    """Break text into lines."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _kind(schema: Schema) -> str:
    """Say what a schema accepts, in the words of the messages."""
    words = expected({word: part for word, part in schema.items() if word != "description"})
    if "x-short" in schema:
        words += f", or its `{schema['x-short']}` alone"
    if "patternProperties" in schema:
        words += f", each key {schema['x-expected']}"
    if "items" in schema:
        words += f", each {_kind(schema['items'])}"
    return words.removeprefix("expected ")


def documents(tree: Path) -> dict[str, str]:
    """Return all that is written: a mapping of path below the tree to text.

    :param tree: the directory of the tree.
    """
    schemas = read_schemas([str(tree / "salt"), str(tree / "formulas")])
    formulas = {name: schema for name, schema in schemas.items() if name != INVENTORY_KEY}
    hosts = schemas[INVENTORY_KEY]
    # A site's own environments are in no file of the product's.
    for row in hosts["patternProperties"].values():
        row["properties"]["roles"]["items"]["enum"] = inventory.roles([str(tree / "salt")])
    pillar = {"type": "object", "additionalProperties": False, "properties": formulas}
    declared = pillar | {"properties": formulas | {environments.KEY: EPHEMERAL}}
    return {
        "docs/reference/index.md": index_page(dict(sorted(schemas.items()))),
        **{f"docs/reference/{name}.md": _page(tree, name, schema) for name, schema in schemas.items()},
        "zensical.toml": site_pages((tree / "zensical.toml").read_text(encoding="utf-8"), sorted(schemas)),
        "docs/hosts.schema.json": editors.file(hosts["description"], editors.standard(hosts, whole=True)),
        "docs/pillar.schema.json": editors.file(
            "What every environment shares: pillar/common.sls.", editors.standard(pillar, whole=False)
        ),
        "docs/environment.schema.json": editors.file(
            "What varies: the files in pillar/environments, pillar/builds and pillar/secrets.",
            editors.standard(editors.varying(declared) or {}, whole=False),
        ),
    }


def site_pages(site: str, names: Sequence[str]) -> str:
    """Return the site's configuration with the pages of the reference in its navigation.

    :param site: the text of zensical.toml.
    :param names: the formulas' names.
    """
    begin, _, rest = site.partition("        # Written by `make docs`.\n")
    _, end, rest = rest.partition("        # The end of what `make docs` writes.\n")
    pages = "".join(f'        {{ "{name}" = "reference/{name}.md" }},\n' for name in names)
    return f"{begin}        # Written by `make docs`.\n{pages}{end}{rest}"


def _page(tree: Path, name: str, schema: Schema) -> str:
    readme = tree / "formulas" / name / "README.md"
    return formula_page(name, schema, readme.read_text(encoding="utf-8") if readme.exists() else "")


def main(arguments: Sequence[str], root: str) -> int:
    """Run the command line.

    :param arguments: what follows the command's name.
    :param root: the directory of the tree.
    :return: an exit code: 0, or 1 when --check found a file that is stale.
    """
    parser = argparse.ArgumentParser(prog="settings-docs", description=DESCRIPTION)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    options = parser.parse_args(arguments)
    tree = Path(root)
    written = documents(tree)
    stale: dict[str, str | None] = {name: text for name, text in written.items() if not _holds(tree / name, text)}
    pages = (path.relative_to(tree).as_posix() for path in sorted((tree / "docs/reference").glob("*.md")))
    stale |= {name: None for name in pages if name not in written}
    for name, text in stale.items():
        if options.check:
            print(f"{name}: not what the formulas' settings.yaml and README.md say; run make docs", file=sys.stderr)
        elif text is None:
            (tree / name).unlink()
            print(f"{name}: removed")
        else:
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).write_text(text, encoding="utf-8")
            print(f"{name}: written")
    return 1 if stale and options.check else 0


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text
