"""What each formula consists of: its settings, its README, and state files that read as such."""

import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from .settings_table import FORMULAS, ROOT, schema_of, settings, walk, with_table

STATE_FILES = sorted([*(ROOT / "formulas").glob("**/*.sls"), *(ROOT / "salt").glob("**/*.sls")])
SCHEMAS = [*FORMULAS, ROOT / "salt/roles"]


def lines(path):
    """Return the lines of a file that are not empty."""
    return [line for line in path.read_text().splitlines() if line.strip()]


def of(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(params=SCHEMAS, ids=of)
def schema(request):
    return schema_of(request.param)


def parts(schema):
    """Yield every schema inside a schema."""
    yield schema
    for part in (*schema.get("properties", {}).values(), *schema.get("patternProperties", {}).values()):
        yield from parts(part)
    if "items" in schema:
        yield from parts(schema["items"])


def test_every_formula_has_settings_and_a_readme():
    for formula in (ROOT / "formulas").iterdir():
        assert {"settings.yaml", "README.md", "init.sls"} <= {path.name for path in formula.iterdir()}, formula.name


def test_the_settings_are_a_schema_of_their_draft(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


def test_the_settings_are_titled_by_their_formula():
    assert [schema_of(formula)["title"] for formula in FORMULAS] == [formula.name for formula in FORMULAS]


def test_every_setting_says_what_it_is(schema):
    for part in parts(schema):
        assert part["description"].strip().endswith("."), part
        assert part["type"] in {"object", "array", "string", "integer", "boolean"}, part


def test_no_mapping_takes_what_it_does_not_know(schema):
    for part in parts(schema):
        if part["type"] == "object":
            assert part["additionalProperties"] is False, part["description"]


def test_a_form_is_told_in_words(schema):
    for part in parts(schema):
        if {"pattern", "patternProperties", "multipleOf"} & part.keys():
            assert part["x-expected"], part["description"]


def test_a_pattern_holds_to_the_very_end(schema):
    # `$` would take a value with a newline after it.
    for part in parts(schema):
        for pattern in (*filter(None, [part.get("pattern")]), *part.get("patternProperties", {})):
            assert pattern.startswith("^"), pattern
            assert pattern.endswith(r"\Z"), pattern


def test_a_default_is_what_the_setting_accepts(schema):
    for part in parts(schema):
        if "default" in part:
            Draft202012Validator(part).validate(part["default"])


def test_a_secret_has_no_default(schema):
    for part in parts(schema):
        assert not (part.get("secret") and "default" in part)


@pytest.mark.parametrize("formula", FORMULAS, ids=of)
def test_the_readme_has_the_table_of_the_settings(formula):
    readme = (formula / "README.md").read_text()
    assert "\n## Settings\n\n" in readme
    assert readme == with_table(readme, formula), "write it with: python -m tests.render.settings_table"


@pytest.mark.parametrize("formula", FORMULAS, ids=of)
def test_the_readme_names_states_that_there_are(formula):
    readme = (formula / "README.md").read_text()
    states = "\n".join(path.read_text() for path in formula.glob("*.sls"))
    ids = set(re.findall(r"^([a-z0-9-]+?)(?:-\{\{.*\}\})?:$", states, re.MULTILINE)) - {"include"}
    named = set(re.findall(rf"`({formula.name}-[a-z0-9-]+?)(?:-<[a-z]+>)?`", readme))
    assert named
    assert named <= ids


def test_the_example_of_an_app_is_accepted():
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "formulas/app/README.md").read_text(), re.DOTALL)
    declared = yaml.safe_load(example)
    for one in declared["app"].values():
        one["build"] = {"source": "/srv/builds/shop.tar.gz", "sha256": "0" * 64}
    assert settings.check({formula.name: schema_of(formula) for formula in FORMULAS}, declared) == []


def test_an_environment_sets_only_what_may_vary():
    may = {path for formula in FORMULAS for path, _, varies, _ in walk(schema_of(formula), formula.name) if varies}
    for path in (ROOT / "pillar/environments").glob("*.sls"):
        for formula, said in yaml.safe_load(path.read_text()).items():
            # Below an app's name the schema speaks of any app.
            said = {f"<name>.{key}" for one in said.values() for key in one} if formula == "app" else said
            assert {f"{formula}.{key}" for key in said} <= may, of(path)


@pytest.mark.parametrize("path", STATE_FILES, ids=of)
def test_a_state_file_is_short(path):
    assert len(lines(path)) <= 100


@pytest.mark.parametrize("path", STATE_FILES, ids=of)
def test_a_state_file_asks_for_the_settings_of_a_formula_once(path):
    asked = re.findall(r"settings\.load'\]\('([a-z]+)'\)", path.read_text())
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("path", STATE_FILES, ids=of)
def test_a_state_file_passes_data_and_makes_no_states_by_macro(path):
    text = path.read_text()
    assert not re.search(r"\{%-?\s*macro|^#!|loop\.index|salt\['cmd\.|pillar\.get", text, re.MULTILINE)


def test_the_state_files_are_states_and_not_a_program():
    every = [line.strip() for path in STATE_FILES for line in lines(path)]
    assert sum(line.startswith("{%") for line in every) <= 0.12 * len(every)


def test_what_differs_between_the_debians_is_in_one_map():
    debian = yaml.safe_load((ROOT / "salt/debian.yaml").read_text())
    assert sorted(debian) == ["bookworm", "trixie"]
    assert debian["bookworm"].keys() == debian["trixie"].keys()
    for path in STATE_FILES:
        assert not re.search(r"\{%.*\bif\b.*(oscodename|osrelease|osmajor)", path.read_text()), of(path)


def test_a_formula_names_no_host_and_no_environment():
    hosts = yaml.safe_load((ROOT / "pillar/hosts.yaml").read_text())
    names = "|".join(map(re.escape, {*hosts, "staging", "production"}))
    for path in (ROOT / "formulas").glob("**/*"):
        if path.suffix in (".sls", ".jinja", ".yaml"):
            assert not re.search(rf"(?<![\w/])({names})(?![\w/])", path.read_text()), of(path)


def test_the_table_would_notice_a_setting(tmp_path):
    formula = tmp_path / "mail"
    formula.mkdir()
    part = {"type": "integer", "minimum": 1, "description": "A port | of mail.", "default": 25, "varies": True}
    (formula / "settings.yaml").write_text(json.dumps({"properties": {"port": part}}))
    readme = with_table("# mail\n\n## Settings\n\nold\n\n## Refusals\n", formula)
    assert "\n## Settings\n\n| setting |" in readme
    assert "| `mail.port` | integer of 1 or more | `25` | yes | A port \\| of mail. |\n\n## Refusals\n" in readme
    assert "old" not in readme
