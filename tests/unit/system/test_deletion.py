"""Deletion by root: no link is followed, mounts are left alone, and other users' files stay."""

import os

import pytest

from saltern.system import deletion

NOBODY = 5_000_000 + os.getpid()
MOUNTS = r"""
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw
31 22 0:26 / /srv/apps/my\040shop/tmp/m rw - ext4 /dev/vda rw
32 22 0:27 / /data rw,nosuid master:3 propagate_from:2 - nfs4 files:/data rw
"""


@pytest.fixture
def tree(tmp_path):
    """An app's TMPDIR: its own files, those of another user, a link out of it, and two places for a mount."""
    for name in ("tmp/cache/deep", "tmp/shared", "tmp/m", "tmp/[m]", "data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tmp/cache/deep/own", "tmp/shared/own", "tmp/m/own", "tmp/[m]/own", "data/own"):
        (tmp_path / name).write_text("")
    (tmp_path / "tmp/link").symlink_to(tmp_path / "data")
    for path in (tmp_path / "tmp", *(tmp_path / "tmp").rglob("*"), tmp_path / "data/own"):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    (tmp_path / "tmp/shared/of another").write_text("")
    return tmp_path


def left(tree):
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))


def test_the_files_of_a_user_go_and_those_of_others_stay(tree):
    assert deletion.delete([str(tree / "tmp"), str(tree / "not there")], {NOBODY}) == ""
    assert left(tree) == ["data", "data/own", "tmp", "tmp/shared", "tmp/shared/of another"]


def test_what_is_mounted_stays_also_of_the_same_disk(tree, monkeypatch):
    mounts = {str(tree): "ext4", str(tree / "tmp/m"): "ext4", str(tree / "tmp/[m]"): "ext4"}
    monkeypatch.setattr(deletion, "mounts", lambda: mounts)
    assert deletion.delete([str(tree / "tmp")]) == ""
    assert left(tree) == ["data", "data/own", "tmp", "tmp/[m]", "tmp/[m]/own", "tmp/m", "tmp/m/own"]


def test_what_is_in_a_directory_goes_also_where_that_is_mounted(tree, monkeypatch):
    monkeypatch.setattr(deletion, "mounts", lambda: {str(tree / "tmp"): "tmpfs", str(tree / "tmp/m"): "ext4"})
    assert deletion.delete([str(tree / "tmp")], {NOBODY}) == ""
    assert (tree / "tmp/cache/deep/own").exists()
    assert deletion.delete([str(tree / "tmp")], {NOBODY}, inside=True) == ""
    names = ["data", "data/own", "tmp", "tmp/m", "tmp/m/own", "tmp/shared", "tmp/shared/of another"]
    assert left(tree) == names


def test_a_link_goes_and_what_it_leads_to_stays(tree):
    (tree / "to the tmp").symlink_to(tree / "tmp")
    assert deletion.delete([str(tree / "to the tmp"), str(tree / "tmp/link")]) == ""
    assert {"data/own", "tmp/cache/deep/own"} <= set(left(tree))
    assert not {"to the tmp", "tmp/link"} & set(left(tree))


def test_a_directory_without_mounts_goes_whole(tree):
    assert deletion.delete([str(tree / "tmp")]) == ""
    assert left(tree) == ["data", "data/own"]


def test_mounts_are_read_by_their_place():
    expected = {"/": "overlay", "/srv/apps/my shop/tmp/m": "ext4", "/data": "nfs4"}
    assert deletion.mounts(MOUNTS.strip()) == expected
    assert deletion.mounts()["/proc"] == "proc"
