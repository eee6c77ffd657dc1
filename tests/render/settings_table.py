"""The settings table of a formula's README, from its settings.yaml.

    python -m tests.render.settings_table

writes the tables of all formulas; a test holds them in step.
"""

import importlib.util
import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FORMULAS = sorted(path.parent for path in (ROOT / "formulas").glob("*/settings.yaml"))
HEAD = "| setting | type | default | varies | what it is |\n| --- | --- | --- | --- | --- |\n"

_spec = importlib.util.spec_from_file_location("settings", ROOT / "salt/_modules/settings.py")
settings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(settings)


def schema_of(formula):
    """Read a formula's schema.

    :param formula: its directory.
    """
    return yaml.safe_load((formula / "settings.yaml").read_text())


def walk(schema, path, varies=False):
    """Yield (path, schema, whether an environment may set it, whether it must be given) of each setting.

    :param schema: the schema of a mapping.
    :param path: what the settings' names start with.
    """
    named = schema.get("properties", {}).items()
    free = ((f"<{part.get('title', 'name')}>", part) for part in schema.get("patternProperties", {}).values())
    for name, part in (*named, *free):
        here = f"{path}.{name}"
        may = varies or part.get("varies", False)
        yield here, part, may, name in schema.get("required", [])
        yield from walk(part, here, may)


def table(formula):
    """Write the table of a formula.

    :param formula: its directory.
    """
    rows = [_row(*setting) for setting in walk(schema_of(formula), formula.name)]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(path, schema, varies, required):
    kind = settings._expected({word: part for word, part in schema.items() if word != "description"})
    default = f"`{json.dumps(schema['default'])}`" if "default" in schema else "must be given" if required else ""
    about = schema["description"] + (" A secret." if schema.get("secret") else "")
    cells = (f"`{path}`", kind.removeprefix("expected "), default, "yes" if varies else "", about)
    return [cell.replace("|", "\\|") for cell in cells]


def with_table(readme, formula):
    """Return a README with the formula's table below its heading ``Settings``.

    :param readme: the text.
    :param formula: its directory.
    """
    return re.sub(r"(?<=\n## Settings\n\n)(?:(?!## ).*\n)*", lambda _: f"{table(formula)}\n", readme)


if __name__ == "__main__":
    for formula in FORMULAS:
        path = formula / "README.md"
        path.write_text(with_table(path.read_text(), formula))
