"""The wheels that are kept for the next build: within a bound, and what was used lately stays."""

import os
import time

import pytest

from saltern.builds.make import cache


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Return a function that keeps so many megabytes, used so many days ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "BOUND", 3)

    def keep(name, megabytes, days):
        file = os.path.join(cache.made(), f"{name}.whl")
        with open(file, "wb") as stream:
            stream.truncate(megabytes * 1_000_000)
        path = cache.entry("wheel", name)
        cache.keep(path, [file])
        os.utime(path, (time.time() - days * 86400,) * 2)
        return path

    return keep


def test_what_was_not_used_for_longest_goes(entry, capsys):
    kept = [entry("new", 1, 0), entry("older", 1, 3)]
    gone = [entry("old", 2, 4), entry("oldest", 1, 5)]
    cache.prune()
    assert [os.path.exists(path) for path in kept + gone] == [True, True, False, False]
    assert f"{cache.directory()}: has a bound of 3 MB; removed 3 MB" in capsys.readouterr().err
    cache.prune()
    assert capsys.readouterr().err == ""


def test_what_was_used_lately_stays(entry):
    paths = [entry(str(number), 2, 0) for number in range(3)]
    old = entry("old", 2, 9)
    cache.use(old)
    cache.prune()
    assert all(map(os.path.exists, [*paths, old]))


def test_nothing_is_there_at_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    cache.prune()
    assert not (tmp_path / "none").exists()
