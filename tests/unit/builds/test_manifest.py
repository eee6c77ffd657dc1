"""build.json: which builds are accepted, and which are refused in one line."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from saltern.builds import manifest
from tests.unit.builds import members


def test_a_whole_build_for_this_python_is_accepted(staged):
    manifest.judge("shop", str(staged))


@pytest.mark.parametrize("name", ["Procfile", "requirements.txt"])
def test_a_build_without_a_part_is_refused(staged, name):
    (staged / name).unlink()
    with pytest.raises(CommandExecutionError) as raised:
        manifest.judge("shop", str(staged))
    assert str(raised.value) == f"app.shop.build: has no {name}; make it with bin/build"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"null", b'"python"', b'{"python": "3.11"}', b"\xff\xfe"])
def test_a_build_without_a_valid_manifest_is_refused(staged, content):
    if content is None:
        (staged / "build.json").unlink()
    else:
        (staged / "build.json").write_bytes(content)
    with pytest.raises(CommandExecutionError) as raised:
        manifest.judge("shop", str(staged))
    assert str(raised.value) == "app.shop.build: has no valid build.json; make it with bin/build"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": 2}, "has the format 2; expected 1. Build it again"),
        ({"app": "other"}, "is a build of other; declare one of shop"),
        ({"processes": ["web"]}, "build.json: processes: not as a build has it; make it with bin/build"),
        ({"python": "2.7"}, "is for Python 2.7, this host has {own}; build it with bin/build --python {own}"),
    ],
)
def test_a_build_for_another_host_is_refused(staged, change, message):
    made = json.loads((staged / "build.json").read_text())
    (staged / "build.json").write_text(json.dumps(made | change))
    with pytest.raises(CommandExecutionError) as raised:
        manifest.judge("shop", str(staged))
    assert str(raised.value) == "app.shop.build: " + message.format(own=manifest.python_version())


DEEP_JSON = b'{"processes":' * 100_000
MANIFESTS = {
    "a directory": (None, "has no valid build.json"),
    "deep JSON": (DEEP_JSON, "has no valid build.json"),
    "deep lists": (b"[" * 100_000, "has no valid build.json"),
    "a number of a million digits": (b'{"format": ' + b"1" * 1_000_000 + b"}", "has no valid build.json"),
    "more than one megabyte": (b" " * 2_000_000, "has no valid build.json"),
    **{
        f"{key} that is {value!r:.20}": (
            json.dumps(members.manifest(**{key: value})).encode(),
            f"build.json: {key}|has the format|is a build of|has no valid",
        )
        for key, values in {
            "format": (None, [], True, "1", 1.0, -1),
            "app": (None, [], {}, 7, "a" * 101, "\x1b[2J"),
            "version": (None, [], 7, "a" * 101),
            "commit": ([], 7, {}),
            "python": (None, 3.11, [], "3" * 30),
            "processes": (None, [], "web", {"web": None}, {"web": ["a"]}, {"../x": "a"}, {"Web": "a"}, {"web": "\0"}),
            "packages": (None, "tree", {"tree": 1}, [7], ["../x"], ["--purge"], ["a\n"]),
            "contracts": ([], "v1", {"../x": {}}, {"v1/../x": {}}),
            "migrations": ([], 7),
            "installed_migrations": (None, [], {"code": 7}),
            "wheels": ([], {"a": 1}),
            "reversible": (None, "yes", 1),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("content, reason", MANIFESTS.values(), ids=MANIFESTS)
def test_a_build_json_that_says_anything_is_refused_in_one_line(staged, content, reason):
    (staged / "build.json").unlink()
    if content is None:
        (staged / "build.json").mkdir()
    else:
        (staged / "build.json").write_bytes(content)
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        manifest.judge("shop", str(staged))
    said = str(raised.value)
    assert said.startswith("app.shop.build: ")
    assert said.isprintable() and len(said) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@hypothesis.given(st.dictionaries(st.sampled_from(sorted(members.manifest())), JSON, max_size=3), st.binary(max_size=3))
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_a_build_json_says_it_is_taken_or_refused(changes, harm):
    text = json.dumps(members.manifest(**changes)) + harm.decode("latin-1")
    try:
        made = manifest.judged("shop", text, {"Procfile", "requirements.txt"}.__contains__)
    except CommandExecutionError as error:
        assert str(error).startswith("app.shop.build: ")
    else:
        assert made == json.loads(text)
