"""Real repositories of git, and the command as an operator runs it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.builds.make.apps import IDNA, PROCFILE, ROOT, write


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """An environment of its own for git, and one cache of wheels for all tests."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    return environ | identity | own


@pytest.fixture
def git(environment):
    def run(cwd, *arguments):
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


@pytest.fixture
def commit(git):
    """Return a function that writes files into a directory and commits them: ``commit(directory, {path: text})``."""

    def write_and_commit(directory, files):
        write(directory, files)
        git(directory, "add", "--all", "--force", ".")
        git(directory, "commit", "--quiet", "--message", "a change")
        return git(directory, "rev-parse", "HEAD")

    return write_and_commit


@pytest.fixture
def shop(tmp_path, git, commit):
    """An app in a sub-directory of a repository that holds other things too."""
    repository = tmp_path / "code"
    repository.mkdir()
    git(repository, "init", "--quiet")
    files = {"Procfile": PROCFILE, "requirements.txt": IDNA, "shop/wsgi.py": "application = None\n"}
    commit(repository, {"README": "all of it\n", **{f"shop/{path}": text for path, text in files.items()}})
    return repository / "shop"


@pytest.fixture
def run(environment, tmp_path):
    """Return a function that runs the command and returns what it did."""

    def call(*arguments, **options):
        environ = environment | options.pop("env", {})
        # Another test covers the default; the wheels here are for the older Python.
        python = options.pop("python", "3.11")
        if python and arguments and isinstance(arguments[0], Path) and "--python" not in arguments:
            arguments = (*arguments, "--python", python)
        command = [sys.executable, str(ROOT / "bin/build"), *map(str, arguments)]
        options = {"cwd": tmp_path} | options
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, **options)

    return call


@pytest.fixture
def made(run):
    """Return a function that runs the command, which must succeed, and returns the line that it prints, parsed."""

    def call(*arguments, **options):
        done = run(*arguments, **options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        result = json.loads(done.stdout)
        assert result["sha256"] == hashlib.sha256(Path(result["path"]).read_bytes()).hexdigest()
        return result

    return call
