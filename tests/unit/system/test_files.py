"""Files are written in one way."""

import os
import stat

import pytest

from saltern.system import files


@pytest.mark.parametrize("content, data", [("ä\udc9b", b"\xc3\xa4\x9b"), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_a_file_holds_what_was_written_with_the_mode_that_was_given(tmp_path, content, data):
    path = tmp_path / "file"
    path.write_text("the old one")
    before = os.umask(0o077)
    try:
        files.write(str(path), content, mode=0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("the old one")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(str(path), "the new one")
    assert path.read_text() == "the old one"
    assert os.listdir(tmp_path) == ["file"]


def test_nobody_else_reads_a_secret_while_it_is_written(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode)))
    files.write(str(tmp_path / "key"), "secret", mode=0o600)
    assert modes == [0o600]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(tmp_path):
    (tmp_path / "file.new").symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        files.write(str(tmp_path / "file"), "text")
    assert not (tmp_path / "other").exists()


def test_what_is_no_text_is_not_read(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "text").write_text("a")
    assert [files.read(str(tmp_path / name)) for name in ("text", "bytes", "none", "")] == ["a", None, None, None]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640)])
def test_without_a_mode_a_file_has_what_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write(str(tmp_path / "file"), "text", mode=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_two_that_write_at_once_each_have_a_place_for_the_new_file(tmp_path):
    path = str(tmp_path / "file")
    with files.replacing(path, staged=f"{path}.1") as first, files.replacing(path, staged=f"{path}.2") as second:
        first.write(b"1")
        second.write(b"2")
    assert (os.listdir(tmp_path), files.read(path)) == (["file"], "1")


def test_an_error_while_a_file_is_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("the old one")
    with pytest.raises(KeyboardInterrupt), files.replacing(str(path)) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert (os.listdir(tmp_path), path.read_text()) == (["file"], "the old one")
