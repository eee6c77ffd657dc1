"""The command line of bin/build."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from saltern.builds.make import telling
from saltern.refusal import Refusal
from tests.unit.builds.make.apps import ROOT, refused


@pytest.mark.parametrize("name", ["Shop", "nginx", "postgres", "", "a/b", "-x", "x" * 40, "new\nline"])
def test_a_name_that_no_app_can_have_is_refused(shop, run, name):
    refused(run(shop, f"--name={name}"), "not an app's name", "--name")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "APP_DIR"),
        (["x", "--python", "3.12"], "3.12"),
        (["x", "--ref", "a", "--worktree"], "not allowed with"),
        (["x", "--version", "../up"], "--version: expected"),
        (["x", "--source", "/srv"], "--declare"),
        (["x", "--nonsense"], "--nonsense"),
        (["x", "--forget", "x", "--declare", "y"], "no APP_DIR"),
        (["--forget", "x"], "--declare FILE"),
    ],
)
def test_a_command_line_that_cannot_be_read_ends_with_2(run, arguments, word):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr.splitlines()[-1]


def test_help_names_every_option(run):
    done = run("--help")
    assert done.returncode == 0
    for word in (
        "APP_DIR",
        "--ref",
        "--worktree",
        "--python",
        "--declare",
        "--source",
        "--forget",
        "pip.conf",
        "Exit codes",
    ):
        assert word in done.stdout


@pytest.fixture
def tree(tmp_path):
    """A copy of the command in a tree without a virtual environment."""
    (tmp_path / "tree/bin").mkdir(parents=True)
    shutil.copytree(ROOT / "salt/_utils", tmp_path / "tree/salt/_utils")
    shutil.copy(ROOT / "salt/debian.yaml", tmp_path / "tree/salt")
    return Path(shutil.copy(ROOT / "bin/build", tmp_path / "tree/bin")).parents[1]


def test_it_enters_the_trees_virtual_environment(tree):
    (tree / ".venv").symlink_to(sys.prefix)
    done = subprocess.run([sys.executable, "-IS", tree / "bin/build", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: build" in done.stdout


def test_without_it_one_line_says_what_to_do(tree):
    done = subprocess.run([sys.executable, "-IS", tree / "bin/build", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"build: \w+ is not installed: .*; run make tools\n", done.stderr)


def test_what_is_said_commands_no_terminal(capsys):
    telling.say(Refusal("openapi/v1.yaml: paths: \x1b[2J\x9b\u202e"))
    assert capsys.readouterr().err == "build: openapi/v1.yaml: paths: \\x1b[2J\\x9b\\u202e\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["bin/build-release", "examples/faq"], "run bin/build, which takes the same options; nothing was done"),
        (
            ["make", "release", "APP=faq", "SUITE=trixie"],
            "run make build APP='faq' SUITE='trixie', which takes the same variables; nothing was done",
        ),
    ],
)
def test_a_former_name_tells_the_new_one_and_does_nothing(command, expected):
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode
    assert expected in done.stderr
    assert done.stdout == ""
