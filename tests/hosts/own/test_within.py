"""What a build runs, in the hosts' Debian, where no Python of this machine fits."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from lab import machine
from lab.worktree import commit
from tests.hosts.conftest import ROOT

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
ASKED = """\
import json, os, sys
import websockets.speedups
open("seen", "w").write(json.dumps({
    "python": sys.version.partition(" ")[0],
    "user": os.getuid(),
    "routes": open("/proc/net/route").read().count("\\n"),
    "written": [place for place in ("/etc", "/usr", "/tmp", "/mnt/home", "/mnt/app") if os.access(place, os.W_OK)],
}))
"""
# A source that is compiled, with a header that no bare host has.
SPEEDY = {
    "setup.py": "from setuptools import Extension, setup\n"
    "setup(name='speedy', version='1.0', ext_modules=[Extension('speedy', ['speedy.c'], libraries=['z'])])\n",
    "speedy.c": "#include <Python.h>\n#include <zlib.h>\n"
    'static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "speedy", 0, -1, 0};\n'
    "PyMODINIT_FUNC PyInit_speedy(void) {\n"
    '  PyObject *o = PyModule_Create(&m); PyModule_AddStringConstant(o, "zlib", zlibVersion()); return o; }\n',
}


@pytest.fixture(scope="module")
def debian():
    """A Debian whose Python is not that of this machine's tools."""
    return next(one for one in machine.DEBIANS.values() if not one["python"].startswith(f"{OWN}."))


@pytest.fixture
def app(tmp_path):
    """An app with a wheel for one Python alone, and a step."""
    directory = tmp_path / "shop"
    shutil.copytree(ROOT / "tests/apps/mirror", directory)
    (directory / "step.py").write_text(ASKED)
    with (directory / "Procfile").open("a") as procfile:
        procfile.write("build: python step.py\n")
    commit(directory)
    return directory


@pytest.fixture
def build(app, debian, tmp_path):
    """A function that builds the app for that Debian, and returns the finished process."""
    python = debian["python"].rpartition(".")[0]

    def run(*arguments, within=True, env=None):
        command = [ROOT / "bin/build", app, "--worktree", "--python", python, "--output", tmp_path / "dist", *arguments]
        command += ["--within", f"{sys.executable} -m lab.within --python {python}"] if within else []
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | (env or {}), capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def member(done, name):
    """Return a JSON file of a build that was made."""
    assert done.returncode == 0, done.stderr
    with tarfile.open(json.loads(done.stdout)["path"]) as tar:
        return json.load(tar.extractfile(name))


def test_a_step_has_that_debians_python_and_no_network(app, build, debian):
    refused = build(within=False)
    assert refused.returncode == 1
    assert "no Python of this machine fits the wheels of a build for Python " in refused.stderr
    assert member(build(), "seen") == {
        "python": debian["python"],
        "user": 65534,
        "routes": 1,
        "written": ["/tmp", "/mnt/home", "/mnt/app"],
    }


def test_a_step_that_fails_there_is_told_with_its_last_lines(app, build):
    (app / "step.py").write_text("import sys; sys.exit('no such thing')")
    failed = build()
    assert failed.returncode == 1
    assert "build: Procfile build: exit code 1; it said last:\nbuild:   no such thing\n" in failed.stderr


def test_a_source_is_compiled_there_with_the_packages_of_aptfile_build(app, build, debian, tmp_path):
    index = tmp_path / "index"
    index.mkdir()
    with tarfile.open(index / "speedy-1.0.tar.gz", "w:gz") as tar:
        for name, text in SPEEDY.items():
            info = tarfile.TarInfo(f"speedy-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256((index / "speedy-1.0.tar.gz").read_bytes()).hexdigest()
    with (app / "requirements.txt").open("a") as requirements:
        requirements.write(f"speedy==1.0 --hash=sha256:{digest}\n")
    shutil.copy(ROOT / "requirements/build.txt", app / "requirements-build.txt")
    (app / "Aptfile-build").write_text("zlib1g-dev\n")
    (app / "step.py").write_text("import speedy, json; json.dump(speedy.zlib, open('seen', 'w'))\n")
    done = build("--allow-sdist", "speedy", env={"PIP_FIND_LINKS": str(index)})
    assert member(done, "seen").startswith("1.")
    tag = f"cp{debian['python'].rpartition('.')[0].replace('.', '')}"
    assert [name for name in member(done, "build.json")["wheels"] if name.startswith(f"speedy-1.0-{tag}-")]
