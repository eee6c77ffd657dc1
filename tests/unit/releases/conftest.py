"""A host's control groups."""

import pytest

from saltern.releases import scopes


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """A function that makes a directory with these PIDs that stands in for a process's control group."""
    monkeypatch.setattr(scopes, "GROUPS", str(tmp_path))
    (tmp_path / "cgroup.procs").touch()

    def make(slice_, scope, *pids):
        directory = tmp_path / "app.slice" / slice_ / scope
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    return make
