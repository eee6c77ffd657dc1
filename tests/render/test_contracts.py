"""Contracts across an environment: a table and a picture of providers and of the apps that attach them."""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from lab import pillar
from tests.copies import copy

SALT_RUN = Path(sys.executable).with_name("salt-run")


class Tree:
    """A copy of the tree's states and pillar, to be edited and shown."""

    def __init__(self, directory):
        self.directory = directory
        copy(directory, "salt", "formulas", "pillar")
        (directory / "var/cache/salt/master/proc").mkdir(parents=True)
        config = {
            "root_dir": str(directory),
            "log_level": "quiet",
            "runner_dirs": [str(directory / "salt/_runners")],
            "file_roots": {"base": [str(directory / "salt"), str(directory / "formulas")]},
            "pillar_roots": {"base": [str(directory / "pillar")]},
        }
        (directory / "master").write_text(yaml.safe_dump(config))

    def merge(self, environment="dev", **apps):
        pillar.declare(self.directory / "pillar", environment, {"app": apps})

    def build(self, contracts):
        """Declare a build of faq with these contracts in its build.json."""
        text = json.dumps({"contracts": contracts}).encode()
        (self.directory / "dist").mkdir()
        path = self.directory / "dist/faq.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo("build.json")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.merge(faq={"build": {"source": "https://builds.example.com/faq.tar.gz", "sha256": sha256}})

    def show(self, *arguments):
        """Show the contracts, and return the exit code and the output."""
        command = [SALT_RUN, "--config-dir", self.directory, "contracts.show", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, done.stdout

    def rows(self, *arguments):
        """Show the contracts as data; return the exit code and one line for each row."""
        code, output = self.show("--out", "json", *arguments)
        return code, [
            [row["provider"], row["version"], row["document"], *(one["app"] for one in row["consumers"])]
            for row in json.loads(output)["contracts"]
        ]


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_who_provides_what_and_who_attaches_it(tree):
    tree.build({"v1": {"title": "Questions", "version": "1.0"}, "v2": {"title": "Questions", "version": "2.0"}})
    survey = {"port": 8400, "attach": {"FAQ_API": {"service": "faq", "version": "v2"}}}
    tree.merge(
        survey=survey | {"attach": {**survey["attach"], "X": {"service": "faq", "version": "v2", "url": "a://b"}}}
    )
    page = tree.directory / "contracts.html"
    code, output = tree.show(f"html={page}")
    assert code == 0
    assert "2 versions, attached 2 times." in output
    for line in (r"faq\W+v1\W+/v1\W+Questions 1.0\W+tickets as FAQ_API", r"faq\W+v2\W+/v2\W+Questions 2.0\W+survey as"):
        assert re.search(line, output), output
    text = page.read_text()
    # The picture is part of the page, which loads no other file.
    assert text.count("<svg") == text.count("</svg>") == 1
    assert not re.search(r"""(src|href)=["']""", re.sub(r"xlink:\w+", "", text))
    for arrow in ("app tickets&#45;&gt;faq v1", "app survey&#45;&gt;faq v2"):
        assert f"<title>{arrow}</title>" in text
    assert "red" not in text[text.index("<svg") : text.index("</svg>")]


def test_another_environment_has_its_own(tree):
    tree.merge("production", tickets={"attach": {"FAQ_API": {"service": "faq", "version": "v2"}}})
    here = "the build is not here"
    # The environment's file overrides the version of the common file.
    assert tree.rows("production") == (0, [["faq", "v1", here], ["faq", "v2", here, "tickets"]])
    assert tree.rows() == (0, [["faq", "v1", here, "tickets"], ["faq", "v2", here]])


def test_a_version_that_is_attached_and_not_provided_fails(tree):
    tree.merge(tickets={"attach": {"FAQ_API": {"service": "faq", "version": "v3"}}})
    page = tree.directory / "contracts.html"
    code, output = tree.show(f"html={page}")
    assert code == 1
    assert "1 of 3 cannot be: what is marked NOT PROVIDED or MISSING." in output
    assert re.search(r"faq\W+v3\W+NOT PROVIDED\W+tickets as FAQ_API", output), output
    assert 'class="wrong"' in page.read_text()
    assert 'stroke="red"' in page.read_text()


def test_a_version_without_a_document_fails(tree):
    tree.build({"v1": {"title": "Questions", "version": "1.0"}})
    assert tree.rows() == (1, [["faq", "v1", "Questions 1.0", "tickets"], ["faq", "v2", "MISSING"]])


def test_where_nothing_is_provided_there_is_nothing_to_show(tree):
    tree.merge(faq={"provides": None}, tickets={"attach": {"FAQ_API": {"url": "https://faq.example.com/v1"}}})
    code, output = tree.show()
    assert code == 0
    assert "No app provides anything." in output


def test_a_mistake_in_the_pillar_is_told_by_path(tree):
    tree.merge(faq={"provides": {"v1": {"path": "v1"}, "first": {}}})
    code, output = tree.show()
    assert code == 1
    assert "dev: app.faq.provides.v1.path: not acceptable; expected a path such as /v1" in output
    assert "dev: app.faq.provides.first: " in output


def test_an_environment_that_is_not_there_is_told(tree):
    code, output = tree.show("test")
    assert code == 1
    assert "test: no host of pillar/hosts.yaml is of it; expected one of dev, production, staging" in output


def test_a_file_that_is_no_build_is_refused(tree):
    tree.build(["v1"])
    code, output = tree.show()
    assert code == 1
    assert "dist/faq.tar.gz: has no valid build.json (AttributeError); make it with bin/build" in output
