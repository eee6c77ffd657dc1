"""Fixtures of several tests of builds."""

import json
import tarfile

import pytest

from saltern.builds import manifest
from saltern.builds.form import FORMAT


@pytest.fixture
def tarball(tmp_path):
    """Return a function that writes a tarball of members and returns its path."""

    def write(*members):
        path = tmp_path / "shop.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for info, content in members:
                tar.addfile(info, content)
        return str(path)

    return write


@pytest.fixture
def staged(tmp_path):
    """An unpacked build that this machine's Python can run."""
    made = {"format": FORMAT, "python": manifest.python_version(), "app": "shop"}
    made |= {"version": "1", "commit": None, "processes": {"web": "gunicorn"}}
    directory = tmp_path / "staged"
    directory.mkdir()
    (directory / "build.json").write_text(json.dumps(made))
    (directory / "Procfile").write_text("web: gunicorn\n")
    (directory / "requirements.txt").write_text("")
    return directory
