"""docs/settings.md and the schemas that editors read: what the formulas' settings.yaml say, and nothing else."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader

import pytest
import yaml
from jsonschema import Draft202012Validator

from .minion import BUILDS, ROOT

loader = SourceFileLoader("settings_docs", str(ROOT / "bin/settings-docs"))
docs = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
sys.modules[loader.name] = docs
loader.exec_module(docs)

MODELINE = r"^# yaml-language-server: \$schema=(\S+)$"
TRACKED = subprocess.run(
    ["git", "ls-files", "pillar"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
# Two are templates: nobody sets anything there. Keys are no settings.
TEMPLATES = {"pillar/top.sls"}
PILLAR_FILES = sorted(name for name in TRACKED if name not in TEMPLATES and not name.startswith("pillar/keys/"))
ENCRYPTED = "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"

# The words of draft 2020-12 that an editor finds in what is written.
WORDS = {"$schema", "$comment", "description", "type", "default", "enum", "required", "anyOf", "pattern", "maxLength"}
WORDS |= {"minimum", "maximum", "multipleOf", "items", "minItems", "uniqueItems", "minProperties"}
WORDS |= {"properties", "patternProperties", "additionalProperties"}


def editor_schema(name):
    """Return a schema as it is written."""
    return json.loads(docs.documents()[f"docs/{name}.schema.json"])


def parts(schema):
    """Yield every schema inside a schema of an editor's."""
    yield schema
    within = [*schema.get("properties", {}).values(), *schema.get("patternProperties", {}).values()]
    for part in [*within, *schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from parts(part)


def mistakes(name, value):
    """Return the paths at which a schema refuses a value."""
    return [list(error.absolute_path) for error in Draft202012Validator(editor_schema(name)).iter_errors(value)]


@pytest.fixture(params=["hosts", "pillar", "environment"])
def schema(request):
    return editor_schema(request.param)


def test_what_is_written_is_what_the_settings_say():
    assert docs.main(["--check"]) == 0


def test_lint_names_what_is_stale_and_what_to_run(tmp_path):
    for name in ("bin", "docs", "salt", "formulas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = tmp_path / "formulas/supervisor/settings.yaml"
    settings.write_text(settings.read_text().replace("default: 1024", "default: 2048"))
    command = [sys.executable, tmp_path / "bin/settings-docs"]
    check = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    stale = ("docs/settings.md", "docs/pillar.schema.json")
    assert check.returncode == 1
    assert check.stderr == "".join(
        f"{name}: not what the formulas' settings.yaml say; run make docs\n" for name in stale
    )
    assert "2048" not in (tmp_path / "docs/settings.md").read_text()
    written = subprocess.run(command, capture_output=True, text=True, check=True)
    assert written.stdout == "".join(f"{name}: written\n" for name in stale)
    assert (
        "| `supervisor.minfds` | integer from 256 to 1000000 | `2048` |" in (tmp_path / "docs/settings.md").read_text()
    )
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
    assert (
        "bin/settings-docs --check" in re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    )


def test_the_page_has_a_row_for_each_setting_and_says_all_of_it():
    part = {"type": "integer", "minimum": 1, "description": "A port | of mail.", "default": 25, "varies": True}
    key = {"type": "string", "description": "Its key.", "secret": True}
    boxes = {"type": "object", "description": "Boxes.", "x-expected": "a box", "patternProperties": {"^b": part}}
    mail = {"description": "Mail.", "required": ["key"], "properties": {"port": part, "key": key, "boxes": boxes}}
    page = docs.settings_page({"mail": mail})
    assert page.partition("\n## mail\n\n")[2].splitlines() == [
        "Mail. More in [its README](../formulas/mail/README.md).",
        "",
        "| setting | type | default | varies | what it is |",
        "| --- | --- | --- | --- | --- |",
        "| `mail.port` | integer of 1 or more | `25` | yes | A port \\| of mail. |",
        "| `mail.key` | string | must be given |  | Its key. A secret. |",
        "| `mail.boxes` | mapping, each key a box |  |  | Boxes. |",
        "| `mail.boxes.<name>` | integer of 1 or more | `25` | yes | A port \\| of mail. |",
    ]


def test_a_schema_is_one_of_the_standard(schema):
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    for part in parts(schema):
        assert set(part) <= WORDS


def test_a_pattern_means_to_an_editor_what_it_means_to_python(schema):
    # Of Python's regular expressions these are the same in ECMA-262, with its flag u, in which editors compile them.
    same = r"(?:[^\\(]|\((?!\?)|\(\?!|\\[.snx])*"
    for part in parts(schema):
        for pattern in [*filter(None, [part.get("pattern")]), *part.get("patternProperties", {})]:
            assert re.fullmatch(same, pattern), pattern


def test_every_setting_says_to_an_editor_what_it_is(schema):
    for part in parts(schema):
        assert part.keys() == {"pattern"} or part["description"].endswith("."), part


@pytest.mark.parametrize("name", PILLAR_FILES)
def test_a_pillar_file_names_a_schema_that_accepts_it(name):
    path = ROOT / name
    (found,) = re.findall(MODELINE, path.read_text(), re.MULTILINE)
    file = (path.parent / found).resolve()
    assert file.is_file()
    assert mistakes(file.name.removesuffix(".schema.json"), yaml.safe_load(path.read_text())) == []


ACCEPTED = {
    "builds": ("environment", BUILDS),
    "an encrypted secret": ("environment", {"redis": {"instances": {"shop": {"password": ENCRYPTED}}}}),
    "a secret as it is": ("environment", {"redis": {"instances": {"shop": {"password": "0123456789abcdef"}}}}),
    "what other files must say of an app": ("pillar", {"app": {"shop": {"formation": {"web": 2, "clock": 1}}}}),
}


@pytest.mark.parametrize("name, value", ACCEPTED.values(), ids=ACCEPTED)
def test_an_editor_accepts(name, value):
    assert mistakes(name, value) == []


ROW = {"environment": "dev", "roles": ["app"], "address": "10.0.0.1"}
REFUSED = {
    "a misspelt formula": ("pillar", {"ngnix": {}}, []),
    "a misspelt setting": ("pillar", {"app": {"shop": {"prot": 8100}}}, ["app", "shop"]),
    "a misspelt setting that varies": ("environment", {"app": {"shop": {"domain": []}}}, ["app", "shop"]),
    "a setting that does not vary": ("environment", {"app": {"shop": {"port": 8100}}}, ["app", "shop"]),
    "a formula of which nothing varies": ("environment", {"supervisor": {}}, []),
    "a domain in upper case": ("pillar", {"app": {"shop": {"domains": ["A"]}}}, ["app", "shop", "domains", 0]),
    "a system user's name": ("pillar", {"app": {"root": {}}}, ["app"]),
    "a secret that is neither": (
        "environment",
        {"redis": {"instances": {"shop": {"password": "short"}}}},
        ["redis", "instances", "shop", "password"],
    ),
    "a misspelt part of a host": ("hosts", {"web1": ROW | {"adress": "10.0.0.1"}}, ["web1"]),
    "a host without an address": ("hosts", {"web1": {"environment": "dev", "roles": []}}, ["web1"]),
    "an environment that there is not": ("hosts", {"web1": ROW | {"environment": "test"}}, ["web1", "environment"]),
}


@pytest.mark.parametrize("name, value, path", REFUSED.values(), ids=REFUSED)
def test_an_editor_marks(name, value, path):
    assert mistakes(name, value) == [path]


def test_the_example_of_an_app_is_accepted():
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "formulas/app/README.md").read_text(), re.DOTALL)
    declared = yaml.safe_load(example)
    assert mistakes("pillar", declared) == []
    for one in declared["app"].values():
        one["build"] = BUILDS["app"]["faq"]["build"]
    assert docs.settings.check(docs.settings.read_schemas([ROOT / "formulas"]), declared) == []
