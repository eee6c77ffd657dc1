"""Notes of kept data lie where only root writes; notes at their former place are read with care."""

import os

import pytest

from saltern import kept

NOTE = '{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}'


@pytest.fixture
def notes(monkeypatch, tmp_path):
    """A directory with two directories of notes: root's own, and a service's."""
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "roots"))
    monkeypatch.setattr(kept, "before", lambda: {"redis": str(tmp_path / "redis")})
    (tmp_path / "redis").mkdir()
    return tmp_path


def test_a_note_says_whose_data_it_is_until_it_is_forgotten(notes):
    assert kept.of("redis", "jobs") == {}
    kept.note("redis", "jobs", "shop", uid=7)
    found = kept.of("redis", "jobs")
    assert (found["app"], found["uid"]) == ("shop", 7)
    assert kept.listed("redis") == {"jobs": found | {"notes": [f"{notes}/roots/redis/jobs.kept"]}}
    assert (notes / "roots").stat().st_mode & 0o777 == 0o700
    kept.forget("redis", "jobs")
    assert (kept.of("redis", "jobs"), kept.listed("redis")) == ({}, {})


def test_a_note_at_the_former_place_counts_and_is_removed_too(notes):
    (notes / "redis/jobs.kept").write_text(NOTE)
    assert kept.of("redis", "jobs")["app"] == "shop"
    assert kept.listed("redis")["jobs"]["notes"] == [f"{notes}/redis/jobs.kept"]
    kept.forget("redis", "jobs")
    assert list((notes / "redis").iterdir()) == []


def test_a_note_of_many_files_is_whole(notes):
    paths = [f"/var/tmp/upload of a customer {number}" for number in range(5000)]
    kept.note("app", "shop", "shop", uid=7, paths=paths)
    assert kept.of("app", "shop")["paths"] == paths


PLANTED = {
    "a link": lambda path, other: path.symlink_to(other),
    "a hard link": lambda path, other: os.link(other, path),
    "a fifo": lambda path, other: os.mkfifo(path),
    "a directory": lambda path, other: path.mkdir(),
    "another user's": lambda path, other: (path.write_text(NOTE), os.chown(path, 65534, 65534)),
    "no JSON": lambda path, other: path.write_text("{"),
    "another JSON": lambda path, other: path.write_text('["shop"]'),
    "another app": lambda path, other: path.write_text('{"app": 7}'),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_a_service_put_in_its_place_is_no_note(what, notes):
    other = notes / "other"
    other.write_text(NOTE)
    PLANTED[what](notes / "redis/jobs.kept", other)
    assert kept.of("redis", "jobs") == {}
    assert kept.listed("redis") == {}
    kept.note("redis", "queue", "shop")
    assert other.read_text() == NOTE
