"""The environments: their names, and which are ephemeral."""

import pytest

from saltern import environments


@pytest.fixture
def roots(tmp_path):
    """A pillar of two directories; a file of the first hides the same file of the second."""
    files = {
        "own/environments/qa.sls": "app: {}\n",
        "own/environments/dev.sls": "# ephemeral: True\nephemeral: True  # thrown away\n",
        "product/environments/dev.sls": "",
        "product/environments/staging.sls": "app:\n  ephemeral: True\n",
        "product/environments/load.sls": "{% if x %}\nephemeral: true\n{% endif %}\n",
        "product/environments/Test.sls": "",
        "product/environments/notes.txt": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in ("none", "own", "product")]


def test_each_file_is_an_environment(roots):
    assert environments.names(roots) == ["dev", "load", "qa", "staging"]


def test_a_line_says_that_hosts_are_thrown_away(roots):
    found = {name: environments.is_ephemeral(roots, name) for name in environments.names(roots)}
    assert found == {"dev": True, "load": True, "qa": False, "staging": False}
    assert environments.kept(roots) == ["qa", "staging"]
    assert not environments.is_ephemeral(roots, "none")
