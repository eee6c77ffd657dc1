"""What several modules ask of the app mirror (tests/apps/mirror) on a shared host."""

import re
import shutil

import pytest

from lab.worktree import commit
from tests.hosts.conftest import ROOT


@pytest.fixture
def release(host):
    """A function that returns the number of mirror's current release."""
    return lambda: int(host.sh("readlink /srv/apps/mirror/current").stdout.strip().removeprefix("releases/"))


@pytest.fixture
def new_build(host, lab, tmp_path):
    """A function that declares a build of mirror whose code is another."""

    def make(text: str, **files: str) -> None:
        code = tmp_path / re.sub(r"\W", "-", text) / "mirror"
        shutil.copytree(ROOT / "tests/apps/mirror", code)
        with (code / "mirror.py").open("a") as stream:
            stream.write(f"\n# {text}\n")
        for name, content in files.items():
            path = code / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".py").write_text(content)
        commit(code)
        lab.build(code, host.python)

    return make


@pytest.fixture(scope="module")
def pids(host):
    """A function that returns the PIDs of an app's processes by supervisor's name."""

    def of(app):
        lines = host.run("supervisorctl", "status", check=False).stdout.splitlines()
        words = [line.split() for line in lines if line.startswith(f"{app}.") and " pid " in line]
        return {one[0]: int(one[3].rstrip(",")) for one in words}

    return of
