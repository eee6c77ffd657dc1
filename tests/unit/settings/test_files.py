"""A pillar file that Salt cannot load is named, with the line and without its content."""

import pytest
import yaml

from saltern.settings.files import misplaced, unreadable

BROKEN = {
    "a bracket that is left open": ("a: [b\n", "line 2, column 1: did not find expected ',' or ']'; expected YAML"),
    "a quote that is left open": ('a: "b\n', "line 2, column 1: found unexpected end of stream; expected YAML"),
    "a tab": ("a:\n\tb: c\n", "line 2, column 1: found character that cannot start any token; expected YAML"),
    "a key twice": ("a: 1\nhunter2: 1\nhunter2: 2\n", "line 3, column 1: found conflicting ID; expected YAML"),
    "a list for a key": ("? [hunter2]\n: 1\n", "line 1, column 3: found unacceptable key; expected YAML"),
    "a value like a tag": (
        "a: !hunter2\n",
        "line 1, column 4: could not determine a constructor for the tag; expected YAML",
    ),
    "a value like an alias": ("a: *hunter2\n", "line 1, column 4: found undefined alias; expected YAML"),
    "a list": ("- hunter2\n", "found list; expected mapping"),
    "another file's content": ("include: [hunter2]\n", "include: not here; expected settings alone"),
    "a list that holds itself": (
        "app: &a [*a]\n",
        "more than 20 lists and mappings inside each other; expected settings",
    ),
    "another encoding": ("a: é\n".encode("latin-1"), "not in UTF-8; expected YAML in UTF-8"),
    "control characters": ("a: \x01\n", "control characters are not allowed; expected YAML"),
    "Jinja that the first line keeps away": (
        "#!yaml\na: {%\n",
        "line 2, column 5: found character that cannot start any token; expected YAML",
    ),
}


@pytest.mark.parametrize("content, message", BROKEN.values(), ids=BROKEN)
def test_a_pillar_file_that_is_no_yaml_is_told_by_line_without_its_content(tmp_path, content, message):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/dev.sls").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = unreadable([str(tmp_path)], ["common.sls", "secrets/dev.sls"])
    assert found == [f"pillar/secrets/dev.sls: {message}"]


@pytest.mark.parametrize(
    "content", ["", "a: b\n", "{% if a %}\n", "a: {{ b }}\n", "#!yaml\na: '{{ b'\n", "#!yaml|gpg\na: b\n"]
)
def test_a_pillar_file_that_is_yaml_or_jinja_is_not_refused(tmp_path, content):
    (tmp_path / "common.sls").write_text(content)
    assert unreadable([str(tmp_path)], ["common.sls"]) == []


def test_the_inventory_holds_no_jinja(tmp_path):
    (tmp_path / "hosts.yaml").write_text("{{ hunter2 }}: 1\n")
    (message,) = unreadable([str(tmp_path)], ["hosts.yaml"])
    assert message == "pillar/hosts.yaml: line 1, column 1: found unacceptable key; expected YAML"


OWN = "expected in pillar/common.sls, not in pillar/environments/dev.sls"
MISPLACED = {
    "what varies": (
        {"postgres": {"shared_buffers": "1GB"}, "app": {"shop": {"domains": [], "config": {"A": "b"}}}},
        [],
    ),
    "below what varies": ({"redis": {"instances": {"shop": {"maxmemory": "1gb"}}}}, []),
    "what does not vary": ({"nginx": {"gzip": False}}, [f"nginx.gzip: does not vary; {OWN}"]),
    "what does not vary of an app": (
        {"app": {"shop": {"port": 8100, "health": {"path": "/up", "grace": 5}, "config": {}}}},
        [f"app.shop.{name}: does not vary; {OWN}" for name in ("port", "health.path", "health.grace")],
    ),
    "a list that does not vary": ({"base": {"packages": ["htop"]}}, [f"base.packages: does not vary; {OWN}"]),
    "nothing at all": (None, []),
    "an empty formula": ({"app": None}, []),
    "what there is not, which is told elsewhere": ({"ngnix": {"gzip": True}, "app": {"shop": {"prot": 1}}}, []),
}


@pytest.mark.parametrize("declared, expected", MISPLACED.values(), ids=MISPLACED)
def test_an_environment_sets_only_what_varies(schemas, tmp_path, declared, expected):
    (tmp_path / "environments").mkdir(exist_ok=True)
    (tmp_path / "environments/dev.sls").write_text(yaml.safe_dump(declared))
    found = misplaced(schemas, [str(tmp_path)], ["environments/dev.sls", "secrets/dev.sls"])
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("first, told", [("", True), ("#!yaml\n", False), ("#!jinja|yaml\n", True)])
def test_an_environment_s_file_says_the_same_of_every_host(schemas, tmp_path, first, told):
    (tmp_path / "common.sls").write_text(f"{first}app:\n  shop:\n    config: {{A: '{{{{ grains.id }}}}'}}\n")
    found = misplaced(schemas, [str(tmp_path)], ["common.sls"])
    line = 4 if first else 3
    assert [message.partition(";")[0] for message in found] == [f"pillar/common.sls: line {line}: Jinja"] * told
