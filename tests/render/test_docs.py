"""The pages of docs/, and the schemas for editors: they agree with the formulas' settings.yaml, and all links work."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from jsonschema import Draft202012Validator

from lab.pillar import overlaid
from saltern.settings import docs
from saltern.settings.check import check
from saltern.settings.messages import dotted
from saltern.settings.schema import INVENTORY_KEY, all_in_full, fixed, read_schemas

from .minion import BUILDS, ROOT

MODELINE = r"^# yaml-language-server: \$schema=(\S+)$"
TRACKED = subprocess.run(
    ["git", "ls-files", "pillar"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
# Two files are templates, in which nobody sets anything. Keys are not settings.
TEMPLATES = {"pillar/top.sls"}
PILLAR_FILES = sorted(name for name in TRACKED if name not in TEMPLATES and not name.startswith("pillar/keys/"))
ENCRYPTED = "-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"

# The keywords of draft 2020-12 that the written schemas use.
WORDS = {"$schema", "$comment", "description", "type", "default", "enum", "required", "anyOf", "pattern", "maxLength"}
WORDS |= {"examples", "minimum", "maximum", "multipleOf", "items", "minItems", "uniqueItems", "minProperties"}
WORDS |= {"properties", "patternProperties", "additionalProperties"}


def editor_schema(name):
    """Return a schema as it is written to its file."""
    return json.loads(docs.documents(ROOT)[f"docs/{name}.schema.json"])


def parts(schema):
    """Yield every schema inside an editor's schema."""
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
    assert docs.main(["--check"], str(ROOT)) == 0


def test_lint_names_what_is_stale_and_what_to_run(tmp_path):
    for name in ("bin", "docs", "salt", "formulas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    gone = tmp_path / "docs/reference/gone.md"
    gone.write_text("Of a formula that is gone.\n")
    settings = tmp_path / "formulas/supervisor/settings.yaml"
    settings.write_text(settings.read_text().replace("default: 1024", "default: 2048"))
    command = [sys.executable, tmp_path / "bin/settings-docs"]
    check = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    stale = ("docs/reference/supervisor.md", "docs/pillar.schema.json", "docs/reference/gone.md")
    assert check.returncode == 1
    assert check.stderr == "".join(
        f"{name}: not what the formulas' settings.yaml and README.md say; run make docs\n" for name in stale
    )
    page = tmp_path / stale[0]
    assert "Default: `2048`" not in page.read_text()
    written = subprocess.run(command, capture_output=True, text=True, check=True)
    assert written.stdout == "".join(f"{name}: written\n" for name in stale[:2]) + f"{stale[2]}: removed\n"
    assert "### `supervisor.minfds`\n" in page.read_text()
    assert "\n- Default: `2048`\n" in page.read_text()
    assert not gone.exists()
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
    assert (
        "bin/settings-docs --check" in re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    )


def test_a_page_has_each_setting_and_says_all_of_it():
    port = {"type": "integer", "minimum": 1, "description": "A port.", "default": 25, "varies": True, "examples": [26]}
    key = {"type": "string", "description": "Its key.", "secret": True, "examples": ["one\ntwo\n"]}
    boxes = {"type": "object", "description": "Boxes.", "x-expected": "a box", "patternProperties": {"^b": port}}
    mail = {
        "description": "Mail.",
        "required": ["key"],
        "properties": {"port": port, "key": key, "boxes": boxes},
        "examples": [{"port": 26}],
    }
    readme = """# mail

Mail, as [app](../app/README.md#grace) has it and [a page](../../docs/how-to/logs.md) says.

## Settings

In [docs/reference/mail.md](../../docs/reference/mail.md#settings), with their types.

## What it refuses

Nothing.
"""
    assert docs.formula_page("mail", mail, readme).splitlines() == [
        "<!-- Written by `make docs` from the settings.yaml and the README.md of the formula; change that. -->",
        "",
        "# mail",
        "",
        "Mail, as [app](app.md#grace) has it and [a page](../how-to/logs.md) says.",
        "",
        "## What it refuses",
        "",
        "Nothing.",
        "",
        "## Example",
        "",
        "```yaml",
        "mail: {port: 26}",
        "```",
        "",
        "## Settings",
        "",
        "### `mail.port`",
        "",
        "A port.",
        "",
        "- Type: integer of 1 or more",
        "- Default: `25`",
        "- Varies: an environment may set it",
        "- For example: `26`",
        "",
        "### `mail.key`",
        "",
        "Its key.",
        "",
        "- Type: string",
        "- Must be given",
        "- A secret",
        "",
        "```yaml",
        "key: |",
        "  one",
        "  two",
        "```",
        "",
        "### `mail.boxes`",
        "",
        "Boxes.",
        "",
        "- Type: mapping, each key a box",
        "",
        "### `mail.boxes.<name>`",
        "",
        "A port.",
        "",
        "- Type: integer of 1 or more",
        "- Default: `25`",
        "- Varies: an environment may set it",
        "- For example: `26`",
    ]


def test_a_schema_is_one_of_the_standard(schema):
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    for part in parts(schema):
        assert set(part) <= WORDS


def test_a_pattern_means_to_an_editor_what_it_means_to_python(schema):
    # These parts of Python's regular expressions mean the same in ECMA-262 with the flag u, which editors use.
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
    "a process type in the place of a route": ("pillar", {"app": {"shop": {"site": {"routes": {"/ws/": "asgi"}}}}}),
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
    "an environment that there cannot be": ("hosts", {"web1": ROW | {"environment": "Test"}}, ["web1", "environment"]),
}


@pytest.mark.parametrize("name, value, path", REFUSED.values(), ids=REFUSED)
def test_an_editor_marks(name, value, path):
    assert mistakes(name, value) == [path]


SCHEMAS = read_schemas([ROOT / "salt", ROOT / "formulas"])


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_examples_of_a_formula_are_what_it_accepts(name):
    examples = SCHEMAS[name].get("examples", [])
    assert examples, f"{name}: give the schema itself examples: what a pillar may say of it"
    for example in examples:
        declared = {name: example}
        if name == "app":
            declared = overlaid(declared, {"app": {app: {"build": BUILDS["app"]["faq"]["build"]} for app in example}})
        if name == INVENTORY_KEY:
            Draft202012Validator(SCHEMAS[name]).validate(example)
        else:
            assert check({name: SCHEMAS[name]}, declared) == []


def settings_of(schema, path):
    """Yield each setting below a schema: its path and its schema."""
    free = (("<name>", part) for part in schema.get("patternProperties", {}).values())
    for name, part in (*schema.get("properties", {}).items(), *free):
        yield f"{path}.{name}", part
        yield from settings_of(part, f"{path}.{name}")


@pytest.mark.parametrize(
    "path, part",
    [pytest.param(path, part, id=path) for name in SCHEMAS for path, part in settings_of(SCHEMAS[name], name)],
)
def test_a_setting_has_examples_that_it_accepts(path, part):
    for example in part.get("examples", []):
        Draft202012Validator(part).validate(all_in_full(part, example))
    tells_all_values = part["type"] == "boolean" or "enum" in part
    has_settings_of_its_own = part["type"] == "object"
    assert part.get("examples") or tells_all_values or has_settings_of_its_own, f"{path}: give it examples: [...]"


NAVIGATION = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]


def pages_of(navigation):
    """Yield the pages of a site's navigation."""
    for entry in navigation:
        for target in entry.values():
            yield from pages_of(target) if isinstance(target, list) else [target]


def test_every_page_is_in_the_navigation_once():
    assert sorted(pages_of(NAVIGATION)) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


def test_lint_builds_the_site_and_fails_on_a_dead_link(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    build = [ROOT / ".venv/bin/zensical", "build", "--clean", "--strict"]
    assert subprocess.run(build, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    index = json.loads((tmp_path / "site/search.json").read_text())
    assert any("minfds" in json.dumps(item) for item in index["items"])
    fetched = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//")
    for path in (tmp_path / "site").rglob("*.html"):
        assert not fetched.search(path.read_text()), path
    for dead in ("[gone](gone.md)", "[gone](tutorial.md#gone)"):
        (tmp_path / "docs/index.md").write_text(f"# Saltern\n\n{dead}\n")
        done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "does not exist" in done.stderr
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert "$(site)" in recipe


def pieces(page):
    """Yield the blocks of YAML of a page, each with the text since the block or the heading before it."""
    for before, after in itertools.pairwise(re.split(r"^```yaml\n", page, flags=re.MULTILINE)):
        yield re.split(r"^(?:```|#).*$", before, flags=re.MULTILINE)[-1], after.partition("```")[0]


def test_a_page_puts_into_an_environments_file_only_what_varies():
    found = []
    for page in [*ROOT.glob("docs/**/*.md"), *ROOT.glob("formulas/*/README.md")]:
        for text, piece in pieces(page.read_text()):
            if "pillar/environments/" in text and "pillar/common.sls" not in text:
                said = yaml.safe_load(piece)
                found += [(page.name, dotted(path)) for path in fixed({"properties": SCHEMAS}, said, [])]
    assert found == []


# The site's build does not check pages that are no part of it, nor pictures.
MARKDOWN = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()


def anchors(page):
    """Return the anchors of a page's headings."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [name for name in MARKDOWN if (ROOT / name).exists()])
def test_a_link_leads_to_a_file_and_a_heading(name):
    page = ROOT / name
    text = re.sub(r"(?ms)^```.*?^```$|`[^`\n]+`", "", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target}: there is no such file"
        assert not anchor or anchor in anchors(file), f"{name}: {target}: there is no such heading"


def test_the_newest_version_of_the_changelog_is_the_one_in_version():
    version = (ROOT / "VERSION").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?\n", version)
    released, _, _ = version.strip().partition(".dev")
    versions = re.findall(r"^## (\d+\.\d+\.\d+), (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0][0] == released
    assert (versions[0][1] == "not released yet") == version.strip().endswith(".dev0")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in versions[1:])


def test_a_commit_is_checked_by_lint_alone():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint"]


# Paths that a page may name although the tree does not have them: an operator or a tool makes them.
TREE = r"(?:(?:salt|formulas|bin|lab|verify|tests|bench|docs|requirements|examples|bootstrap)/|pillar/hosts)[\w./-]*"


@pytest.mark.parametrize("name", [name for name in MARKDOWN if name != "CHANGELOG.md" and (ROOT / name).exists()])
def test_a_file_that_a_page_names_is_in_the_tree(name):
    named = re.findall(rf"`({TREE})`", (ROOT / name).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == [], name


CHANGES = (
    "A setting of PostgreSQL",
    "A service that apps attach",
    "A role",
    "An environment",
    "A Debian",
    "A header on every site",
    "A check in verify",
    "A limit for each app",
    "How long a release waits",
    "A nightly command",
)


def test_contributing_names_files_for_each_of_the_ten_changes():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    sections = dict(re.findall(r"(?ms)^### ([^\n]*)\n\n(.*?)(?=^##)", text))
    assert tuple(sections) == CHANGES
    for change, section in sections.items():
        assert re.search(rf"`{TREE}`", section), change
