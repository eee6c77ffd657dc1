"""The parts of each formula: its settings, its README, and state files that keep the rules of the style."""

import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from .minion import ROOT

FORMULAS = sorted(path.parent for path in (ROOT / "formulas").glob("*/settings.yaml"))
STATE_FILES = sorted([*(ROOT / "formulas").glob("**/*.sls"), *(ROOT / "salt").glob("**/*.sls")])
SCHEMAS = [*FORMULAS, ROOT / "salt/roles"]


def lines(path):
    """Return the lines of a file that are not empty."""
    return [line for line in path.read_text().splitlines() if line.strip()]


def of(path):
    return str(path.relative_to(ROOT))


def schema_of(formula):
    """Read a formula's schema."""
    return yaml.safe_load((formula / "settings.yaml").read_text())


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


def test_a_pattern_is_explained_in_words(schema):
    for part in parts(schema):
        if {"pattern", "patternProperties", "multipleOf"} & part.keys():
            assert part["x-expected"], part["description"]


def test_a_pattern_holds_to_the_very_end(schema):
    # `$` would accept a value with a newline at its end.
    for part in parts(schema):
        for pattern in (*filter(None, [part.get("pattern")]), *part.get("patternProperties", {})):
            assert pattern.startswith("^"), pattern
            assert pattern.endswith(r"\Z"), pattern


def test_a_name_has_an_end(schema):
    # States are named after it, and YAML accepts keys of at most 1024 characters.
    for part in parts(schema):
        for pattern in part.get("patternProperties", {}):
            assert not any(re.search(pattern, letter * 1000) for letter in "aA1_"), pattern


def test_a_default_is_what_the_setting_accepts(schema):
    for part in parts(schema):
        if "default" in part:
            Draft202012Validator(part).validate(part["default"])


def test_a_secret_has_no_default(schema):
    for part in parts(schema):
        assert not (part.get("secret") and "default" in part)


@pytest.mark.parametrize("formula", FORMULAS, ids=of)
def test_the_readme_links_to_the_settings(formula):
    (link,) = re.findall(r"^## Settings\n\nIn \[.*\]\((.*)#(.*)\), ", (formula / "README.md").read_text(), re.MULTILINE)
    page = (formula / link[0]).resolve()
    assert page == ROOT / "docs/reference" / f"{formula.name}.md"
    assert link[1] == "settings"
    assert "\n## Settings\n" in page.read_text()


@pytest.mark.parametrize("formula", FORMULAS, ids=of)
def test_the_readme_names_states_that_there_are(formula):
    readme = (formula / "README.md").read_text()
    states = "\n".join(path.read_text() for path in formula.glob("*.sls"))
    ids = set(re.findall(r"^([a-z0-9-]+?)(?:-\{\{.*\}\})?:$", states, re.MULTILINE)) - {"include"}
    named = set(re.findall(rf"`({formula.name}-[a-z0-9-]+?)(?:-<[a-z]+>)?`", readme))
    assert named
    assert named <= ids


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
    assert not re.search(r"\{%-?\s*macro|^#!(?!yaml$)|loop\.index|salt\['cmd\.|pillar\.get", text, re.MULTILINE)


@pytest.mark.parametrize("path", STATE_FILES, ids=of)
def test_a_state_file_without_jinja_says_so_and_is_not_rendered(path):
    text = path.read_text()
    assert text.startswith("#!yaml\n") != bool(re.search(r"\{[{%#]", text))


def test_the_state_files_are_states_and_not_a_program():
    every = [line.strip() for path in STATE_FILES for line in lines(path)]
    assert sum(line.startswith("{%") for line in every) <= 0.12 * len(every)


def test_what_differs_between_the_debians_is_in_one_map():
    debian = yaml.safe_load((ROOT / "salt/debian.yaml").read_text())
    first, *others = debian.values()
    assert all(other.keys() == first.keys() for other in others)
    for path in STATE_FILES:
        assert not re.search(r"\{%.*\bif\b.*(oscodename|osrelease|osmajor)", path.read_text()), of(path)


def test_a_formula_names_no_host_and_no_environment():
    hosts = yaml.safe_load((ROOT / "pillar/hosts.yaml").read_text())
    names = "|".join(map(re.escape, {*hosts, "staging", "production"}))
    for path in (ROOT / "formulas").glob("**/*"):
        if path.suffix in (".sls", ".jinja", ".yaml"):
            assert not re.search(rf"(?<![\w/])({names})(?![\w/])", path.read_text()), of(path)
