"""Steps of a build run in the hosts' Debian where no Python of this machine fits the build."""

import json
import shutil
import subprocess
import sys
import tarfile

import pytest

from lab import machine
from lab.worktree import commit
from tests.hosts.conftest import ROOT

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
# Of the package gettext-base, which a bare host does not have.
ASKED = """\
import json, os, pwd, shutil, sys
import websockets.speedups
open("seen", "w").write(json.dumps({
    "python": sys.version.partition(" ")[0],
    "user": os.getuid(),
    "routes": open("/proc/net/route").read().count("\\n"),
    "tool": bool(shutil.which("envsubst")),
    "written": [place for place in ("/etc", "/usr", "/tmp", "/mnt/home", "/mnt/app") if os.access(place, os.W_OK)],
}))
"""


@pytest.fixture(scope="module")
def debian():
    """A Debian whose Python is not that of this machine's tools."""
    return next(one for one in machine.DEBIANS.values() if not one["python"].startswith(f"{OWN}."))


@pytest.fixture
def app(tmp_path):
    """An app with a wheel for one Python alone, a step, and a Debian package."""
    directory = tmp_path / "shop"
    shutil.copytree(ROOT / "tests/apps/mirror", directory)
    (directory / "step.py").write_text(ASKED)
    (directory / "Aptfile").write_text("gettext-base\n")
    with (directory / "Procfile").open("a") as procfile:
        procfile.write("build: python step.py\n")
    commit(directory)
    return directory


def test_a_step_has_that_debians_python_and_packages_and_no_network(app, debian, tmp_path):
    python = debian["python"].rpartition(".")[0]
    command = [ROOT / "bin/build", app, "--python", python, "--output", tmp_path / "dist"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"no Python of this machine fits the wheels of a build for Python {python}: " in refused.stderr
    command += ["--within", f"{sys.executable} -m lab.within --python {python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(json.loads(done.stdout)["path"]) as build:
        seen = json.load(build.extractfile("seen"))
    assert seen == {
        "python": debian["python"],
        "user": 65534,
        "routes": 1,
        "tool": True,
        "written": ["/tmp", "/mnt/home", "/mnt/app"],
    }


def test_a_step_that_fails_there_is_told_with_its_last_lines(app, debian, tmp_path):
    python = debian["python"].rpartition(".")[0]
    (app / "step.py").write_text("import sys; sys.exit('no such thing')")
    command = [ROOT / "bin/build", app, "--worktree", "--python", python, "--output", tmp_path / "dist"]
    command += ["--within", f"{sys.executable} -m lab.within --python {python}"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "build: Procfile build: exit code 1; it said last:\nbuild:   no such thing\n" in failed.stderr
    assert "Traceback" not in failed.stderr
