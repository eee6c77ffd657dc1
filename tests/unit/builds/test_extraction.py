"""Which tarballs are refused, and what the others unpack to."""

import gzip
import os
import random
import stat
import tarfile
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds.tarball import extract
from tests.unit.builds.members import folder, member, symlink

LEAVES, LINKS_OUT, BEHIND = "leaves the build", "links out of the build", "lies behind a symbolic link"
NEITHER = "is neither a file, a directory nor a symbolic link"
BACK = "links through a name and back"
REFUSED = {
    "a file above": ([member("../evil")], f"../evil {LEAVES}"),
    "a file above, on the way": ([member("a/../../evil")], f"a/../../evil {LEAVES}"),
    "the folder above": ([folder("..")], f".. {LEAVES}"),
    "an absolute path": ([member("/etc/evil")], f"/etc/evil {LEAVES}"),
    "an absolute path with two slashes": ([member("//etc/evil")], f"//etc/evil {LEAVES}"),
    "a link above": ([symlink("link", "../evil")], f"link {LINKS_OUT}"),
    "a link above from a folder": ([folder("a"), symlink("a/link", "../../evil")], f"a/link {LINKS_OUT}"),
    "an absolute link": ([symlink("link", "/etc")], f"link {LINKS_OUT}"),
    "a link that only looks as if it stayed": (
        [folder("a"), symlink("a/up", ".."), symlink("link", "a/up/..")],
        f"link {BACK}",
    ),
    "a file behind a link": ([folder("a"), symlink("link", "a"), member("link/evil")], f"link/evil {BEHIND}"),
    "a file far behind a link": ([folder("a"), symlink("link", "a"), member("link/b/evil")], f"link/b/evil {BEHIND}"),
    "a file before the link that it is behind": ([member("link/evil"), symlink("link", "a")], f"link/evil {BEHIND}"),
    "a file behind a link with another spelling": (
        [symlink("./link", "a"), member("link//evil")],
        f"link//evil {BEHIND}",
    ),
    "a link in the place of the build": ([symlink(".", "a")], f"first {BEHIND}"),
    "a file through a link and back": (
        [folder("a"), symlink("a/up", ".."), member("a/up/../evil")],
        "a/up/../evil goes through a name and back",
    ),
    "a file through no link and back": ([folder("a"), member("a/../b")], "a/../b goes through a name and back"),
    "a hard link": ([member("a"), member("link", tarfile.LNKTYPE, "a")], f"link {NEITHER}"),
    "a hard link out": ([member("link", tarfile.LNKTYPE, "/etc/shadow")], f"link {NEITHER}"),
    "a character device": ([member("dev", tarfile.CHRTYPE)], f"dev {NEITHER}"),
    "a block device": ([member("dev", tarfile.BLKTYPE)], f"dev {NEITHER}"),
    "a pipe": ([member("pipe", tarfile.FIFOTYPE)], f"pipe {NEITHER}"),
}


@pytest.mark.parametrize("members, reason", REFUSED.values(), ids=REFUSED)
def test_a_member_that_could_leave_the_build_is_refused_by_name(tarball, tmp_path, members, reason):
    path = tarball(member("first"), *members)
    with pytest.raises(CommandExecutionError) as raised:
        extract(path, str(tmp_path / "staged"))
    assert str(raised.value) == f"{path}: {reason}; expected members that stay inside the build"
    assert os.listdir(tmp_path) == ["shop.tar.gz"]


def test_what_stays_inside_is_unpacked(tarball, tmp_path):
    path = tarball(
        folder("."),
        member("./Procfile", content=b"web: gunicorn\n"),
        member("..dots", content=b"dots"),
        folder("a"),
        member("a/b/c", content=b"no folder of its own"),
        symlink("a/up", ".."),
        symlink("a/to", "../a/./b/c"),
        symlink("dangling", "nowhere"),
        member("é\u20ac", content=b"name"),
    )
    staged = tmp_path / "staged"
    extract(path, str(staged))
    found = {str(one.relative_to(staged)) for one in staged.rglob("*")}
    assert found == {"Procfile", "..dots", "a", "a/b", "a/b/c", "a/up", "a/to", "dangling", "é\u20ac"}
    assert (staged / "Procfile").read_bytes() == b"web: gunicorn\n"
    assert (staged / "a/to").read_bytes() == b"no folder of its own"


@pytest.mark.parametrize(
    "kind, mode, expected",
    [
        (tarfile.REGTYPE, 0o4755, 0o755),
        (tarfile.REGTYPE, 0o2755, 0o755),
        (tarfile.REGTYPE, 0o666, 0o644),
        (tarfile.REGTYPE, 0o777, 0o755),
        (tarfile.REGTYPE, 0o000, 0o644),
        (tarfile.DIRTYPE, 0o1777, 0o755),
        (tarfile.DIRTYPE, 0o000, 0o755),
    ],
)
def test_a_member_is_roots_and_written_by_root_alone(tarball, tmp_path, kind, mode, expected):
    info, content = member("it", kind, mode=mode)
    info.uid = info.gid = 12345
    extract(tarball((info, content)), str(tmp_path / "staged"))
    found = os.stat(tmp_path / "staged" / "it")
    assert oct(stat.S_IMODE(found.st_mode)) == oct(expected)
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 100, 0.5, -9, -1])
def test_a_truncated_tarball_is_told_as_damaged(tarball, tmp_path, kept):
    path = tarball(member("random", content=random.Random(0).randbytes(50_000)))
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CommandExecutionError, match=r"shop\.tar\.gz: damaged: .*; build it again$"):
        extract(path, str(tmp_path / "staged"))


def test_a_tarball_with_a_wrong_byte_is_told_as_damaged(tarball, tmp_path):
    path = tarball(*[member(f"random{n}", content=random.Random(n).randbytes(5_000)) for n in range(8)])
    whole = Path(path).read_bytes()
    # The first 100 bytes have gzip's name and time, which nobody reads.
    for place in range(100, len(whole), 1009):
        Path(path).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(CommandExecutionError, match="damaged"):
            extract(path, str(tmp_path / f"staged{place}"))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", gzip.compress(b"hello", mtime=0), gzip.compress(b"x" * 5000, mtime=0)],
    ids=["nothing", "text", "compressed text", "much compressed text"],
)
def test_what_is_no_tarball_is_told_as_damaged(tmp_path, content):
    path = tmp_path / "shop.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CommandExecutionError, match="damaged"):
        extract(str(path), str(tmp_path / "staged"))


@pytest.mark.parametrize(
    ("earlier", "mode", "is_linked"),
    [(b"a wheel", 0o644, True), (b"another", 0o644, False), (b"a wheel", 0o666, False), (b"longer one", 0o644, False)],
)
def test_a_wheel_that_an_earlier_build_has_is_one_file_on_the_disk(tarball, tmp_path, earlier, mode, is_linked):
    kept = tmp_path / "before/wheelhouse/shop.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(earlier)
    kept.chmod(mode)
    members = [member("Procfile"), folder("wheelhouse"), member("wheelhouse/shop.whl", content=b"a wheel")]
    extract(tarball(*members), str(tmp_path / "staged"), [tmp_path / "none", tmp_path / "before"])
    found = tmp_path / "staged/wheelhouse/shop.whl"
    assert (found.read_bytes(), found.samefile(kept)) == (b"a wheel", is_linked)
    assert kept.read_bytes() == earlier
