"""Builds: which tarballs are refused, and what the others become."""

import base64
import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import types
import zipfile
from pathlib import Path

import certifi
import hypothesis
import pytest
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

LIMITS = {"megabytes": 10, "files": 100}


def member(name, kind=tarfile.REGTYPE, link="", mode=0o644, content=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, io.BytesIO(content)


def folder(name):
    return member(name, tarfile.DIRTYPE, mode=0o755)


def symlink(name, to):
    return member(name, tarfile.SYMTYPE, to)


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
def test_a_member_that_could_leave_the_build_is_refused_by_name(build, tarball, tmp_path, members, reason):
    path = tarball(member("first"), *members)
    with pytest.raises(CommandExecutionError) as raised:
        build.extract(path, str(tmp_path / "staged"))
    assert str(raised.value) == f"{path}: {reason}; expected members that stay inside the build"
    assert os.listdir(tmp_path) == ["shop.tar.gz"]


def test_what_stays_inside_is_unpacked(build, tarball, tmp_path):
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
    build.extract(path, str(staged))
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
def test_a_member_is_roots_and_written_by_root_alone(build, tarball, tmp_path, kind, mode, expected):
    info, content = member("it", kind, mode=mode)
    info.uid = info.gid = 12345
    build.extract(tarball((info, content)), str(tmp_path / "staged"))
    found = os.stat(tmp_path / "staged" / "it")
    assert oct(stat.S_IMODE(found.st_mode)) == oct(expected)
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 100, 0.5, -9, -1])
def test_a_truncated_tarball_is_told_as_damaged(build, tarball, tmp_path, kept):
    path = tarball(member("random", content=random.Random(0).randbytes(50_000)))
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CommandExecutionError, match=r"shop\.tar\.gz: damaged: .*; build it again$"):
        build.extract(path, str(tmp_path / "staged"))


def test_a_tarball_with_a_wrong_byte_is_told_as_damaged(build, tarball, tmp_path):
    path = tarball(*[member(f"random{n}", content=random.Random(n).randbytes(5_000)) for n in range(8)])
    whole = Path(path).read_bytes()
    # What comes first is a name and a time that nobody reads.
    for place in range(100, len(whole), 1009):
        Path(path).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(CommandExecutionError, match="damaged"):
            build.extract(path, str(tmp_path / f"staged{place}"))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", gzip.compress(b"hello", mtime=0), gzip.compress(b"x" * 5000, mtime=0)],
    ids=["nothing", "text", "compressed text", "much compressed text"],
)
def test_what_is_no_tarball_is_told_as_damaged(build, tmp_path, content):
    path = tmp_path / "shop.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CommandExecutionError, match="damaged"):
        build.extract(str(path), str(tmp_path / "staged"))


def test_the_place_of_a_build_is_named_by_app_and_digest(build, dunders, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "ROOT", str(tmp_path))
    declared = {"app": {"shop": {"build": {"sha256": "0123456789ab" + "c" * 52}}}}
    dunders(build, pillar=declared, salt={"process.is_well": lambda app: True})
    assert not build.is_unpacked("shop")
    unpacked(tmp_path / "shop/builds/0123456789ab")
    assert build.is_unpacked("shop")


def unpacked(directory):
    """Make what a build is like when it was unpacked, of a few files; return its path."""
    for name in ("shop/views", ".venv/bin", ".venv/lib/python3.11/site-packages/django/db"):
        (directory / name).mkdir(parents=True)
    for name in ("build.json", "shop/views/__init__.py", ".venv/lib/python3.11/site-packages/django/db/models.py"):
        (directory / name).write_text(f"# {name}\n")
    (directory / ".venv/bin/python").symlink_to(sys.executable)
    (directory / "link").symlink_to("shop")
    return directory


PACKAGES = ".venv/lib/python3.11/site-packages"
VIEWS = "shop/views/__init__.py"
# What happened to a build, what is told of it at once, and what when each file is looked at.
DAMAGE = {
    "nothing": ("true", ""),
    "the environment is gone": ("rm -r .venv", ".venv/bin/python is missing"),
    "its interpreter is gone": ("rm .venv/bin/python", ".venv/bin/python is missing"),
    "its interpreter leads nowhere": ("ln -sfn /nowhere .venv/bin/python", ".venv/bin/python is missing"),
    "its packages are gone": (f"rm -r {PACKAGES}", ".venv/lib/python3/site-packages is missing"),
    "a package is gone": (f"rm -r {PACKAGES}/django", f"{PACKAGES} is not as it was unpacked"),
    "a module is gone": (f"rm {PACKAGES}/django/db/*", f"{PACKAGES}/django/db is not as it was unpacked"),
    "a module was added": (f"touch {PACKAGES}/django/db/x", f"{PACKAGES}/django/db is not as it was unpacked"),
    "a package may not be read": (f"chmod 0 {PACKAGES}/django", f"{PACKAGES}/django is not as it was unpacked"),
    "what it says of itself is gone": ("rm build.json", "build.json is missing"),
    "what it says of itself is cut": ("truncate -s 1 build.json", "build.json is not as it was unpacked"),
    "code is gone": ("rm -r shop/views", "shop is not as it was unpacked"),
    "a link is a directory": ("rm link; mkdir link", ". is not as it was unpacked"),
    "all of it is gone": ("rm -r $PWD", "it is not there"),
    "it is a file": ("rm -r $PWD; touch $PWD", "it is no directory"),
    "it is a link": ("mv $PWD $PWD.moved; ln -s $PWD.moved $PWD", "it is no directory"),
    "it was not unpacked to its end": (">.venv/.saltern.json", "it was not unpacked to its end"),
    "code was edited": (f"echo x >>{VIEWS}", "", "a file in it is not as it was unpacked"),
    "code may not be read": (f"chmod 0 {VIEWS}", "", "a file in it is not as it was unpacked"),
}


@pytest.mark.parametrize("case", DAMAGE.values(), ids=DAMAGE)
def test_damage_to_a_build_is_told_and_put_right_in_the_directories_that_processes_are_in(build, tmp_path, case):
    script, told, *deeply = case
    whole, target = unpacked(tmp_path / "whole"), unpacked(tmp_path / "build")
    for directory in (whole, target):
        build.describe(str(directory))
    inodes = {path: os.stat(target / path).st_ino for path in (".", "shop")}
    subprocess.run(["sh", "-c", script], cwd=target, check=True)
    assert build.damage_of(str(target)) == told
    assert build.damage_of(str(target), deeply=True) == (deeply or [told])[0]
    if not os.path.lexists(target):
        return
    is_there = target.is_dir() and not target.is_symlink()
    build.replace(str(target), str(whole))
    if is_there:
        build.describe(str(target))
        assert {path: os.stat(target / path).st_ino for path in inodes} == inodes
    assert build.damage_of(str(target), deeply=True) == ""
    assert (target / VIEWS).read_text() == f"# {VIEWS}\n"
    assert not (target / f"{PACKAGES}/django/db/x").exists()


@pytest.mark.parametrize("moves", range(9))
def test_a_repair_that_is_interrupted_is_seen(build, monkeypatch, tmp_path, moves):
    whole, target = unpacked(tmp_path / "whole"), unpacked(tmp_path / "build")
    for directory in (whole, target):
        build.describe(str(directory))
    left, rename = iter(range(moves)), os.rename

    def interrupted(*paths):
        next(left)
        rename(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(build.os, "rename", interrupted)
        with contextlib.suppress(StopIteration):
            build.replace(str(target), str(whole))
    assert build.damage_of(str(target))


def test_a_build_from_before_there_were_manifests_is_whole_when_it_can_start(build, tmp_path):
    target = unpacked(tmp_path / "build")
    assert build.damage_of(str(target), deeply=True) == ""


def test_two_that_unpack_a_build_at_once_have_it_whole_and_made_once(build, dunders, monkeypatch, tmp_path, tarball):
    source = tarball(member("manage.py", content=b"print()"))
    declared = {"source": source, "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest()}
    dunders(
        build,
        pillar={"app": {"shop": {"build": declared, "unpacked": LIMITS}}},
        salt={"contract.judge": lambda *_: None, "process.is_well": lambda app: True},
    )
    monkeypatch.setattr(build, "ROOT", str(tmp_path))
    monkeypatch.setattr(build, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(build, "grp", types.SimpleNamespace(getgrnam=lambda app: types.SimpleNamespace(gr_gid=0)))
    monkeypatch.setattr(build, "_judge", lambda app, staged: {})
    made, begun = [], threading.Event()

    def make_venv(app, staged):
        begun.set()
        made.append(staged)
        # Long enough for the other one to come, and to remove what is here if it did not wait.
        time.sleep(0.3)
        unpacked(Path(staged))

    monkeypatch.setattr(build, "_make_venv", make_venv)
    first = threading.Thread(target=build.unpack, args=["shop"])
    first.start()
    begun.wait(5)
    build.unpack("shop")
    first.join()
    assert len(made) == 1
    assert build.damage("shop", deeply=True) == ""
    assert (tmp_path / "shop/builds" / declared["sha256"][:12] / "manage.py").exists()


@pytest.fixture
def staged(build, tmp_path):
    """A build as it is unpacked, that this machine's Python can run."""
    manifest = {"format": build.FORMAT, "python": build._python_version(), "app": "shop"}
    manifest |= {"version": "1", "commit": None, "processes": {"web": "gunicorn"}}
    directory = tmp_path / "staged"
    directory.mkdir()
    (directory / "build.json").write_text(json.dumps(manifest))
    (directory / "Procfile").write_text("web: gunicorn\n")
    (directory / "requirements.txt").write_text("")
    return directory


def test_a_whole_build_for_this_python_is_accepted(build, staged):
    build._judge("shop", str(staged))


@pytest.mark.parametrize("name", ["Procfile", "requirements.txt"])
def test_a_build_without_a_part_is_refused(build, staged, name):
    (staged / name).unlink()
    with pytest.raises(CommandExecutionError) as raised:
        build._judge("shop", str(staged))
    assert str(raised.value) == f"app.shop.build: has no {name}; make it with bin/build"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"null", b'"python"', b'{"python": "3.11"}', b"\xff\xfe"])
def test_a_build_without_a_valid_manifest_is_refused(build, staged, content):
    if content is None:
        (staged / "build.json").unlink()
    else:
        (staged / "build.json").write_bytes(content)
    with pytest.raises(CommandExecutionError) as raised:
        build._judge("shop", str(staged))
    assert str(raised.value) == "app.shop.build: has no valid build.json; make it with bin/build"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": 2}, "has the format 2; expected 1. Build it again"),
        ({"app": "other"}, "is a build of other; declare one of shop"),
        ({"processes": ["web"]}, "build.json: processes: not as a build has it; make it with bin/build"),
        ({"python": "2.7"}, "is for Python 2.7, this host has {own}; build it with bin/build --python {own}"),
    ],
)
def test_a_build_for_another_host_is_refused(build, staged, change, message):
    manifest = json.loads((staged / "build.json").read_text())
    (staged / "build.json").write_text(json.dumps(manifest | change))
    with pytest.raises(CommandExecutionError) as raised:
        build._judge("shop", str(staged))
    assert str(raised.value) == "app.shop.build: " + message.format(own=build._python_version())


def wheel(directory, name, files):
    """Write a wheel, and return a line of a requirements.txt that asks for it."""
    meta = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members = files | {f"{name}-1.dist-info/{key}": text for key, text in meta.items()}
    digests = {
        member: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for member, text in members.items()
    }
    rows = [f"{member},sha256={digest.decode().rstrip('=')},\n" for member, digest in digests.items()]
    record = f"{name}-1.dist-info/RECORD"
    path = directory / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (members | {record: "".join([*rows, f"{record},,\n"])}).items():
            # With no time of its own: the same files are the same wheel.
            archive.writestr(zipfile.ZipInfo(member), content)
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def source_distribution(directory, name, code):
    """Write a source distribution that brings the code to build it, and return a line that asks for it."""
    path = directory / f"{name}-1.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["."]\n',
        "builder.py": code,
    }
    with tarfile.open(path, "w:gz") as tar:
        for file, content in files.items():
            tar.addfile(*member(f"{name}-1/{file}", content=content.encode()))
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def venv_of(build, staged, monkeypatch):
    """Return a function that makes the virtual environment of a staged build, under a umask that hides all."""
    monkeypatch.setattr(build, "ROOT", str(staged.parent / "apps"))
    (staged / "wheelhouse").mkdir()

    def make():
        before = os.umask(0o077)
        try:
            build._make_venv("shop", str(staged))
        finally:
            os.umask(before)

    return make


def test_root_runs_nothing_of_a_build(venv_of, staged):
    ran = staged.parent / "ran"
    trap = f"open({str(ran)!r}, 'a').write(__file__)\n"
    for name in ("compileall", "struct", "sitecustomize", "usercustomize", "concurrent"):
        (staged / f"{name}.py").write_text(trap)
    pinned = wheel(staged / "wheelhouse", "shop", {"shop.py": "", "shop.pth": f"import os; open({str(ran)!r}, 'a')\n"})
    (staged / "requirements.txt").write_text(pinned)
    venv_of()
    assert not ran.exists()
    assert list((staged / ".venv").glob("lib/*/site-packages/shop.pth"))
    # Nor where the wheel is linked, beside one that is new.
    before = staged.parent / "apps/shop/builds/before"
    before.parent.mkdir(parents=True)
    shutil.copytree(staged, before, symlinks=True)
    (before / "build.json").write_text(json.dumps({"python": "{}.{}".format(*sys.version_info)}))
    shutil.rmtree(staged / ".venv")
    (staged / "requirements.txt").write_text(pinned + wheel(staged / "wheelhouse", "more", {"more.py": ""}))
    venv_of()
    assert not ran.exists()
    (linked,) = (staged / ".venv").glob("lib/*/site-packages/shop.pth")
    assert linked.stat().st_nlink == 2
    assert list((staged / ".venv").glob("lib/*/site-packages/more.py"))


def test_a_source_distribution_is_refused_and_never_built(venv_of, staged):
    ran = staged.parent / "ran"
    pinned = source_distribution(staged / "wheelhouse", "shop", f"open({str(ran)!r}, 'a')\n")
    (staged / "requirements.txt").write_text(pinned)
    with pytest.raises(CommandExecutionError) as raised:
        venv_of()
    assert str(raised.value).startswith("app.shop.build: its virtual environment cannot be made: ")
    assert not ran.exists()


def test_the_apps_user_can_read_what_is_made_under_any_umask(venv_of, staged):
    (staged / "app.py").write_text("")
    (staged / "requirements.txt").write_text(wheel(staged / "wheelhouse", "shop", {"shop.py": ""}))
    venv_of()
    compiled = {path.name.partition(".")[0] for path in staged.rglob("*.pyc")}
    assert {"app", "shop"} <= compiled
    for path in [staged / ".venv", *(staged / ".venv").rglob("*"), *(staged / "__pycache__").rglob("*")]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


@pytest.fixture
def again(venv_of, staged):
    """Return a build that was made, of one wheel, and a function that makes another of the same or another wheel."""
    before = staged.parent / "apps/shop/builds/before"
    before.parent.mkdir(parents=True)

    def make(code="A = 1", shared="A = 'same'", digest=None):
        (staged / "wheelhouse").mkdir(parents=True, exist_ok=True)
        before.parent.mkdir(parents=True, exist_ok=True)
        files = {"lib.py": code, "lib-1.dist-info/entry_points.txt": "[console_scripts]\nlib = lib:A\n"}
        lib = wheel(staged / "wheelhouse", "lib", files | {"shared/__init__.py": shared})
        other = wheel(staged / "wheelhouse", "other", {"other.py": "B = 1", "shared/__init__.py": "A = 'same'"})
        pins = re.sub(r"(?<=sha256:)\w+", digest, lib) if digest else lib
        (staged / "requirements.txt").write_text(pins + other)
        manifest = {"python": build_python}
        (staged / "build.json").write_text(json.dumps(manifest))
        venv_of()
        assert not (staged / ".cache").exists() and not (staged / ".venv/.lock").exists()
        command = [staged / ".venv/bin/python", "-c", "import lib; print(lib.A)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    build_python = "{}.{}".format(*sys.version_info)
    make()
    staged.rename(before)
    return before, make


def one(directory, pattern):
    (path,) = directory.glob(f".venv/{pattern}")
    return path


MODULE = "lib/*/site-packages/lib.py"
BYTE_CODE = "lib/*/site-packages/__pycache__/lib.*.pyc"
OTHER = "lib/*/site-packages/other.py"
OTHER_BYTE_CODE = "lib/*/site-packages/__pycache__/other.*.pyc"
SHARED = "lib/*/site-packages/shared/__init__.py"


def test_what_the_same_wheels_brought_is_linked_with_its_byte_code(again, staged):
    before, make = again
    assert make() == "1"
    for pattern in (MODULE, BYTE_CODE, "bin/lib"):
        assert one(staged, pattern).samefile(one(before, pattern))
    record = "lib/*/site-packages/lib-1.dist-info/RECORD"
    assert one(staged, record).read_text() == one(before, record).read_text()
    assert not one(staged, record).samefile(one(before, record))
    for path in [staged / ".venv", *(staged / ".venv").rglob("*")]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


def test_byte_code_that_does_not_fit_is_made_anew_and_another_builds_left_alone(again, staged):
    before, make = again
    one(before, BYTE_CODE).write_bytes(b"no byte code")
    assert make() == "1"
    assert one(before, BYTE_CODE).read_bytes() == b"no byte code"
    assert len(one(staged, BYTE_CODE).read_bytes()) > 50


@pytest.mark.parametrize(
    "change",
    [
        lambda before: one(before, MODULE).write_text("A = 'by hand'"),
        lambda before: one(before, MODULE).unlink(),
        lambda before: (
            one(before, MODULE).unlink(),
            one(before, MODULE.replace("lib.py", "")).joinpath("lib.py").symlink_to("x"),
        ),
        lambda before: one(before, "bin/lib").write_text("by hand"),
        lambda before: one(before, "lib/*/site-packages/lib-1.dist-info/RECORD").open("a").write("../../../../x,,\n"),
        lambda before: one(before, "lib/*/site-packages/lib-1.dist-info/RECORD").write_text("no record"),
        lambda before: one(before, "lib/*/site-packages/lib-1.dist-info/RECORD").write_text("x" * 200_000 + ",,"),
        lambda before: one(before, MODULE).chmod(0o600),
        lambda before: one(before, MODULE).chmod(0o666),
        lambda before: (before / "build.json").write_text('{"python": "2.7"}'),
        lambda before: (before / "build.json").write_text("{}"),
        lambda before: (before / "build.json").unlink(),
        lambda before: (before / "wheelhouse/lib-1-py3-none-any.whl").write_bytes(b"no wheel"),
        lambda before: (before / "wheelhouse/lib-1-1-py3-none-any.whl").write_bytes(b"another"),
        lambda before: before.parents[1].rename(before.parents[2] / "faq"),
    ],
    ids=[
        *("edited", "missing", "a link", "a script", "outside", "no record", "too long", "hidden", "open"),
        *("another Python", "no Python", "no build", "wheel", "two wheels"),
        "another app's",
    ],
)
def test_a_build_that_is_not_as_it_was_made_is_not_linked_to(again, staged, change):
    before, make = again
    change(before)
    assert make() == "1"
    assert one(staged, BYTE_CODE).stat().st_nlink == 1


def test_a_file_that_no_wheel_brought_stays_where_it_is(again, staged):
    before, make = again
    one(before, MODULE).with_name("more.py").write_text("A = 'by hand'")
    one(before, MODULE).with_name("link.py").symlink_to("lib.py")
    assert make() == "1"
    assert one(staged, MODULE).samefile(one(before, MODULE))
    assert not list((staged / ".venv").glob("lib/*/site-packages/[ml][oi][rn][ek].py"))


def test_of_two_wheels_only_the_one_that_is_the_same_is_linked(again, staged):
    before, make = again
    assert make("A = 2") == "2"
    assert not one(staged, MODULE).samefile(one(before, MODULE))
    for pattern in (OTHER, OTHER_BYTE_CODE):
        assert one(staged, pattern).samefile(one(before, pattern))
    assert one(before, MODULE).read_text() == "A = 1"


def test_a_wheel_that_the_requirements_do_not_name_by_digest_is_refused(again, staged):
    _, make = again
    with pytest.raises(CommandExecutionError, match="its virtual environment cannot be made"):
        make(digest="0" * 64)


def test_a_file_that_two_wheels_bring_is_uv_s_to_choose(again, staged):
    before, make = again
    assert make("A = 3", shared="A = 'changed'") == "3"
    assert one(before, SHARED).read_text() == "A = 'same'"
    assert one(staged, SHARED).read_text() in ("A = 'same'", "A = 'changed'")


def test_where_nothing_can_be_linked_all_is_made(again, build, staged, monkeypatch):
    _, make = again
    links = []

    def link(old, new):
        if len(links) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(new))
        links.append(os.symlink(old, new))

    monkeypatch.setattr(build.os, "link", link)
    assert make() == "1"
    assert len(links) == 2
    assert not one(staged, MODULE).is_symlink()


def test_a_source_that_is_not_there_is_told(build, dunders, tmp_path):
    dunders(build, salt={"cp.cache_file": lambda source: ""})
    for source in (str(tmp_path / "none.tar.gz"), str(tmp_path), "salt://builds/none.tar.gz"):
        with pytest.raises(CommandExecutionError) as raised:
            build._fetch("shop", source, "unused", LIMITS)
        assert (
            str(raised.value) == f"app.shop.build.source: {source}: no such file; put the build there that was declared"
        )


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers by path: /200, /404, /503, /503-then-200 and /cut, whose body ends too early; and those of ``ODD``."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path in ODD:
            with contextlib.suppress(OSError):
                self.say(*ODD[self.path])
            return
        status = 200 if self.path in ("/200", "/cut") or self.server.asked.count(self.path) > 1 else int(self.path[1:4])
        if self.path == "/503":
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", "2000" if self.path == "/cut" else "8")
        # Not for the client to undo: the sha256 is that of the file as it is.
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(b"a build\n")

    def say(self, first, again, pause):
        self.wfile.write(first)
        while again:
            time.sleep(pause)
            self.wfile.write(again)

    def log_message(self, *_arguments):
        pass


def leads(to):
    return b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\n\r\n"


# What is said first, then again and again, and the seconds between.
ODD = {
    "/dripping-headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", 0.1),
    "/dripping-body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.1),
    "/endless": (b"HTTP/1.1 200 OK\r\n\r\n", bytes(100_000), 0),
    "/endless-chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2710\r\n%s\r\n" % bytes(10_000), 0),
    "/too-long": (b"HTTP/1.1 200 OK\r\nContent-Length: 99000000\r\n\r\n", b"x", 0.1),
    "/announced": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    "/round": (leads(b"/round"), b"", 0),
    "/to-http": (leads(b"http://127.0.0.1/200"), b"", 0),
    "/to-200": (leads(b"200"), b"", 0),
    "/to-200-with-an-endless-body": (leads(b"/200"), bytes(100_000), 0),
    "/no-http": (b"hello\r\n", b"", 0),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    directory = tmp_path_factory.mktemp("authority")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=builds "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.pem"
    )
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture
def server(authority, build, dunders, monkeypatch):
    """A server of builds, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.asked = []
        served.socket = context.wrap_socket(served.socket, server_side=True)
        served.at = f"https://127.0.0.1:{served.server_port}"
        monkeypatch.setattr(build, "CA_BUNDLE", str(authority / "ca.pem"))
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("path, times", [("/200", 1), ("/503-then-200", 2)])
def test_a_build_is_downloaded_as_it_is(build, server, tmp_path, path, times):
    fetched = build._download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert Path(fetched).read_bytes() == b"a build\n"
    assert server.asked == [path] * times


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/404", "answered 404"),
        ("/503", "answered 503"),
        ("/cut", "cannot be reached (ProtocolError)"),
        ("/no-http", "cannot be reached (ConnectionError)"),
    ],
)
def test_an_answer_that_is_no_build_is_told(build, server, tmp_path, path, reason):
    with pytest.raises(CommandExecutionError) as raised:
        build._download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert str(raised.value) == f"app.shop.build.source: the server {reason}; expected the tarball"


@pytest.mark.parametrize("path", ["/to-200", "/to-200-with-an-endless-body"])
def test_a_redirect_is_followed_and_its_own_content_not_read(build, server, tmp_path, path):
    fetched = build._download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert Path(fetched).read_bytes() == b"a build\n"


HELD = {
    "/dripping-headers": "sends nothing, or next to nothing, within 1 s",
    "/dripping-body": "sends nothing, or next to nothing, within 1 s",
    "/announced": "sends nothing, or next to nothing, within 1 s",
    "/endless": "sends more than the 10 MB that app.shop.unpacked allows",
    "/endless-chunks": "sends more than the 10 MB that app.shop.unpacked allows",
    "/too-long": "says that it sends 99 MB, and app.shop.unpacked allows 10",
    "/round": "leads on and on, 5 times and more",
    "/to-http": "leads elsewhere than to https://",
}


@pytest.mark.parametrize("path, reason", HELD.items(), ids=HELD)
def test_an_answer_that_would_hold_a_run_is_given_up(build, server, monkeypatch, tmp_path, path, reason):
    monkeypatch.setattr(build, "PART", 1)
    before = time.monotonic()
    with pytest.raises(CommandExecutionError) as raised:
        build._download("shop", server.at + path, str(tmp_path / "fetched"), LIMITS)
    assert str(raised.value) == f"app.shop.build.source: the server {reason}; expected the tarball"
    assert time.monotonic() - before < 30


def test_a_download_for_which_there_is_no_room_is_given_up(build, server, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "RESERVE", 10**18)
    with pytest.raises(CommandExecutionError, match="sends more than there is room for in"):
        build._download("shop", f"{server.at}/200", str(tmp_path / "fetched"), LIMITS)


def test_a_server_that_the_host_does_not_trust_is_told(build, server, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "CA_BUNDLE", certifi.where())
    with pytest.raises(CommandExecutionError, match=r"the server cannot be reached \(SSLError\)"):
        build._download("shop", f"{server.at}/200", str(tmp_path / "fetched"), LIMITS)
    assert server.asked == []


def test_a_server_that_does_not_answer_is_told(build, dunders, tmp_path, authority, monkeypatch):
    monkeypatch.setattr(build, "CA_BUNDLE", str(authority / "ca.pem"))
    # A port that nothing listens on, so that the connection is refused at once.
    with pytest.raises(CommandExecutionError, match=r"the server cannot be reached \(ConnectionError\)"):
        build._download("shop", "https://127.0.0.1:1/shop.tar.gz", str(tmp_path / "fetched"), LIMITS)


# --- What a tarball holds, before any of it is on the disk ------------------------------------------------------------


@pytest.fixture
def inspected(build, dunders):
    """Return a function that looks into a tarball of shop, in a process of its own as a run does."""
    return lambda path, **limits: build._inspected("shop", str(path), LIMITS | limits)


def manifest(**changes):
    made = {"format": 1, "app": "shop", "version": "1", "commit": None, "python": "{}.{}".format(*sys.version_info)}
    return made | {"processes": {"web": "gunicorn"}, "contracts": {}, "wheels": {}} | changes


def test_a_tarball_says_what_it_has(inspected, tarball):
    documents = [member(f"openapi/{name}.yaml", content=name.encode()) for name in ("v1", "v3", "shared")]
    record = json.dumps(manifest()).encode()
    parts = [member("Procfile"), member("build.json", content=record), folder("openapi"), *documents]
    assert inspected(tarball(*parts, member("wheelhouse/x.whl", content=b"x" * 5000))) == {
        "bytes": len(record) + 2 + 2 + 6 + 5000,
        "files": 7,
        "manifest": record.decode(),
        "documents": {"v1": "v1", "v3": "v3"},
        "has": ["Procfile"],
    }


def header(name, size, kind=tarfile.REGTYPE):
    """Return a member's header alone, whatever size it says that it has."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(name, size):
    """Return the header of a sparse file of GNU tar's old kind, of that size."""
    block = bytearray(header(name, 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


MANY = b"".join(header(f"f{n}", 0) for n in range(200))
DEEP_JSON = b'{"processes":' * 100_000
RAW = {
    "a large member": (header("big", 11_000_000), "unpacks to more than 100 files or 10 MB"),
    "a member of a terabyte": (header("big", 1 << 40), "unpacks to more than 100 files or 10 MB"),
    "two that are too large together": (
        header("a", 6_000_000) + bytes(6_000_128) + header("b", 6_000_000),
        "unpacks to more than 100 files or 10 MB; expected less, or a higher app.shop.unpacked",
    ),
    "many members": (MANY, "unpacks to more than 100 files or 10 MB"),
    "a size below 0": (header("a", -512), "damaged"),
    "a sparse file of a terabyte": (sparse("a", 1 << 40), "unpacks to more than"),
    "a sparse file": (sparse("a", 1000), "a is a sparse file"),
    "a long name of a gigabyte": (header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME), "says more of a member"),
    "attributes of a gigabyte": (header("a", 1 << 30, tarfile.XHDTYPE), "says more of a member"),
    "attributes of attributes": (
        b"".join(header("a", 11, tarfile.XHDTYPE) + b"11 path=ab\n".ljust(512, b"\0") for _ in range(20_000)),
        "nested too deep|damaged",
    ),
    "no end": (header("a", 0) + bytes(40_000_000), "goes on after its last member|damaged"),
}


@pytest.mark.parametrize("content, reason", RAW.values(), ids=RAW)
def test_a_tarball_that_is_made_to_fill_a_host_is_refused_by_name(inspected, tmp_path, content, reason):
    path = tmp_path / "shop.tar.gz"
    path.write_bytes(gzip.compress(content + bytes(1024), 1))
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(path)
    assert str(raised.value).startswith(f"app.shop.build: {path}: ")
    assert os.listdir(tmp_path) == ["shop.tar.gz"]


NAMES = {
    "3,000 directories": ("/".join(["a"] * 3000), "is more than 100 directories deep|more than 1000 bytes"),
    "101 directories": ("/".join(["a"] * 101), "is more than 100 directories deep"),
    "a name that no file system takes": ("a" * 256, "has a name of more than 255 bytes"),
    "a long path": ("/".join(["a" * 200] * 6), "has a path of more than 1000 bytes"),
}


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e300", "-1", str(1 << 32)])
def test_a_time_that_no_host_can_keep_is_refused_by_name(inspected, tarball, time):
    info, content = member("a", content=b"x")
    info.pax_headers = {"mtime": time}
    with pytest.raises(CommandExecutionError, match=r"a has a time before 1970 or after 2106; .*build it again"):
        inspected(tarball((info, content)))


def test_a_directory_is_no_procfile(inspected, tarball):
    assert inspected(tarball(folder("Procfile"), member("requirements.txt")))["has"] == ["requirements.txt"]


@pytest.mark.parametrize("name, reason", NAMES.values(), ids=NAMES)
def test_a_path_that_no_host_can_keep_is_refused_by_name(inspected, tarball, name, reason):
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(tarball(member(name)))
    assert "aaa" in str(raised.value).replace("/", "") and len(str(raised.value)) < 400


PAIRS = {
    "a file twice": ([member("a"), member("./a")], "a is there twice"),
    "a file and a directory": ([member("a"), folder("a")], "a is there twice"),
    "a link and a file": ([symlink("a", "b"), member("a")], "a is there twice"),
    "a file in a file": ([member("a"), member("a/b")], "a/b lies behind a file"),
    "a file in a file that comes later": ([member("a/b"), member("a")], "a/b lies behind a file"),
    "a file behind a link": ([member("link/evil"), symlink("link", "a")], "link/evil lies behind a symbolic link"),
    "a file above": ([member("../evil")], "../evil leaves the build"),
    "a hard link": ([member("a"), member("b", tarfile.LNKTYPE, "a")], "b is neither a file, a directory nor"),
    "a name that commands a terminal": ([member("../\x1b[2J\n")], "'../.x1b.2J.n"),
    "a file for the build": ([member(".")], ". stands in the place of the build"),
    "a file without a name": ([member("")], "a member without a name stands in the place of the build"),
    "a file through a link and back": (
        [folder("a"), symlink("a/up", ".."), member("a/up/../../evil")],
        "a/up/../../evil goes through a name and back",
    ),
    "a link through a link and back": (
        [folder("a"), symlink("a/up", ".."), symlink("a/up/../../evil", "x")],
        "a/up/../../evil goes through a name and back",
    ),
}


@pytest.mark.parametrize("members, reason", PAIRS.values(), ids=PAIRS)
def test_members_that_cannot_be_unpacked_beside_each_other_are_refused(inspected, tarball, members, reason):
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        inspected(tarball(member("first"), *members))
    assert str(raised.value).isprintable()


TEXTS = {
    "a large build.json": (member("build.json", content=b" " * 2_000_000), "build.json has more than 1 MB"),
    "a build.json in another encoding": (member("build.json", content=b"\xff\xfe"), "build.json is not in UTF-8"),
    "a large document": (member("openapi/v1.yaml", content=b" " * 9_000_000), "openapi/v1.yaml has more than 8 MB"),
    "a document in another encoding": (member("openapi/v1.yaml", content=b"\xff"), "openapi/v1.yaml is not in UTF-8"),
}


@pytest.mark.parametrize("part, reason", TEXTS.values(), ids=TEXTS)
def test_what_a_build_says_of_itself_has_its_bounds(inspected, tarball, part, reason):
    with pytest.raises(CommandExecutionError, match=reason):
        inspected(tarball(part))


def test_what_has_no_room_is_refused_before_it_is_written(build, tmp_path, monkeypatch):
    def room(free, files, all_files=1000):
        statvfs = types.SimpleNamespace(f_bavail=free, f_frsize=1_000_000, f_favail=files, f_files=all_files)
        monkeypatch.setattr(build.os, "statvfs", lambda directory: statvfs)
        build._check_room("shop", str(tmp_path / "shop/builds"), {"bytes": 500_000_000, "files": 100})

    room(900, 500)
    room(900, 0, all_files=0)
    with pytest.raises(CommandExecutionError, match=rf"app\.shop\.build: needs 501 MB, and {tmp_path} has 444 MB free"):
        room(700, 500)
    with pytest.raises(CommandExecutionError, match=rf"has 100 files, and {tmp_path} has room for 99; .*keep_releases"):
        room(900, 99)


MANIFESTS = {
    "a directory": (None, "has no valid build.json"),
    "deep JSON": (DEEP_JSON, "has no valid build.json"),
    "deep lists": (b"[" * 100_000, "has no valid build.json"),
    "a number of a million digits": (b'{"format": ' + b"1" * 1_000_000 + b"}", "has no valid build.json"),
    "more than one megabyte": (b" " * 2_000_000, "has no valid build.json"),
    **{
        f"{key} that is {value!r:.20}": (
            json.dumps(manifest(**{key: value})).encode(),
            f"build.json: {key}|has the format|is a build of|has no valid",
        )
        for key, values in {
            "format": (None, [], True, "1", 1.0, -1),
            "app": (None, [], {}, 7, "a" * 101, "\x1b[2J"),
            "version": (None, [], 7, "a" * 101),
            "commit": ([], 7, {}),
            "python": (None, 3.11, [], "3" * 30),
            "processes": (None, [], "web", {"web": None}, {"web": ["a"]}, {"../x": "a"}, {"Web": "a"}, {"web": "\0"}),
            "contracts": ([], "v1", {"../x": {}}, {"v1/../x": {}}),
            "migrations": ([], 7),
            "installed_migrations": (None, [], {"code": 7}),
            "wheels": ([], {"a": 1}),
            "reversible": (None, "yes", 1),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("content, reason", MANIFESTS.values(), ids=MANIFESTS)
def test_a_build_json_that_says_anything_is_refused_in_one_line(build, staged, content, reason):
    (staged / "build.json").unlink()
    if content is None:
        (staged / "build.json").mkdir()
    else:
        (staged / "build.json").write_bytes(content)
    with pytest.raises(CommandExecutionError, match=reason) as raised:
        build._judge("shop", str(staged))
    said = str(raised.value)
    assert said.startswith("app.shop.build: ")
    assert said.isprintable() and len(said) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@hypothesis.given(st.dictionaries(st.sampled_from(sorted(manifest())), JSON, max_size=3), st.binary(max_size=3))
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_a_build_json_says_it_is_taken_or_refused(build, changes, harm):
    text = json.dumps(manifest(**changes)) + harm.decode("latin-1")
    try:
        made = build.judged("shop", text, {"Procfile", "requirements.txt"}.__contains__)
    except CommandExecutionError as error:
        assert str(error).startswith("app.shop.build: ")
    else:
        assert made == json.loads(text)


@hypothesis.given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_bytes_of_a_tarball_are_wrong_it_is_read_or_refused(build, changes):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        parts = [member("Procfile", content=b"web: x\n"), folder("a"), symlink("a/b", "c"), member("é" * 60)]
        for info, content in [*parts, member("build.json", content=json.dumps(manifest()).encode())]:
            tar.addfile(info, content)
    harmed = bytearray(plain.getvalue())
    for place, value in changes:
        harmed[place % len(harmed)] = value
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(gzip.compress(bytes(harmed), 1))
        file.flush()
        with contextlib.suppress(ValueError):
            assert build.inspect(file.name, LIMITS)["files"] >= 0


# --- Wheels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheels(build, dunders, monkeypatch, tmp_path):
    """Return a function that has the wheels of a build of shop measured, each given as what to write into it."""
    monkeypatch.setattr(build, "ROOT", str(tmp_path / "apps"))
    wheelhouse = tmp_path / "staged/wheelhouse"
    wheelhouse.mkdir(parents=True)

    def measure(*contents, harm=lambda data: data, **limits):
        for number, files in enumerate(contents):
            path = wheelhouse / f"w{number}-1-py3-none-any.whl"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            path.write_bytes(harm(path.read_bytes()))
        build._judge_wheels("shop", str(tmp_path / "staged"), LIMITS | limits)

    return measure


def test_honest_wheels_are_taken(wheels):
    wheels({"a.py": "x" * 5000, "empty": "", "b/": ""}, {"c": random.Random(0).randbytes(100_000)})


def test_wheels_that_unpack_to_too_much_are_refused_by_name(wheels):
    with pytest.raises(
        CommandExecutionError, match=r"app\.shop\.build: wheelhouse/w1-1-py3-none-any\.whl: unpacks, with"
    ):
        wheels({"a": bytes(6_000_000)}, {"b": bytes(6_000_000)})
    with pytest.raises(CommandExecutionError, match=r"more than 3 files or 10 MB; .*app\.shop\.unpacked"):
        wheels({"a": "", "b": ""}, {"c": "", "d": ""}, files=3)


def lie(data):
    """Say of the one file in a zip file that it has 10 bytes, in both places, as of a bomb that hides."""
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(mark) + place
        data = data[:at] + (10).to_bytes(4, "little") + data[at + 4 :]
    return data


LIES = {
    "a smaller size": (lie, "a is not as large as it says"),
    "cut": (lambda data: data[: len(data) // 2], "no wheel"),
    "no zip": (lambda data: b"hello", "no wheel"),
    "another content": (lambda data: data[:40] + b"\xff" * 20 + data[60:], "not as large as it says"),
    "no header": (lambda data: b"XXXX" + data[4:], "not as large as it says"),
}


@pytest.mark.parametrize("harm, reason", LIES.values(), ids=LIES)
def test_a_wheel_that_is_not_what_it_says_is_refused_by_name(wheels, harm, reason):
    with pytest.raises(
        CommandExecutionError, match=rf"app\.shop\.build: wheelhouse/w0-1-py3-none-any\.whl: .*{reason}"
    ):
        wheels({"a": bytes(3_000_000)}, harm=harm)


def test_a_wheel_that_an_earlier_build_has_is_not_read_again(wheels, build, tmp_path, monkeypatch):
    wheels({"a": "x"})
    kept = tmp_path / "apps/shop/builds/before/wheelhouse"
    shutil.copytree(tmp_path / "staged/wheelhouse", kept)
    monkeypatch.setattr(build, "_inflated", lambda stream, member: -1)
    build._judge_wheels("shop", str(tmp_path / "staged"), LIMITS)
    (kept / "w0-1-py3-none-any.whl").write_bytes(b"another")
    with pytest.raises(CommandExecutionError, match="not as large as it says"):
        build._judge_wheels("shop", str(tmp_path / "staged"), LIMITS)


# --- What a dry run knows of a build ----------------------------------------------------------------------------------


@pytest.fixture
def foresee(build, dunders, tarball, monkeypatch):
    """Return a function that has a dry run judge a tarball, and returns what was asked of the module contract."""
    monkeypatch.setattr(build, "_python_version", lambda: "{}.{}".format(*sys.version_info))

    def call(*members, source="here", processes=None):
        path = tarball(*members)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if source != "other" else "0" * 64
        where = {"here": path, "other": path, "elsewhere": f"{path}.absent"}.get(source, source)
        declared = {"source": where, "sha256": digest} | ({"processes": processes} if processes else {})
        asked = []
        dunders(
            build,
            salt={
                "cp.cache_file": lambda source: path,
                "contract.judge": lambda app, sha256, made, read: asked.append((app, sha256 == digest, read("v1"))),
            },
            pillar={"app": {"shop": {"build": declared, "unpacked": LIMITS}}},
        )
        build.foresee("shop")
        return asked

    return call


def whole(**changes):
    record = json.dumps(manifest(contracts={"v1": {}}, **changes)).encode()
    parts = [member("Procfile"), member("build.json", content=record), member("requirements.txt")]
    return [*parts, member("openapi/v1.yaml", content=b"paths: {}")]


@pytest.mark.parametrize("source", ["here", "salt://here", "elsewhere", "https://builds.example.com/a.tar.gz"])
def test_a_dry_run_judges_what_is_at_hand(foresee, source):
    at_hand = source in ("here", "salt://here")
    assert foresee(*whole(), source=source) == ([("shop", True, "paths: {}")] if at_hand else [])


def test_a_dry_run_refuses_another_tarball_than_the_declared_one(foresee):
    with pytest.raises(
        CommandExecutionError, match=r"^app\.shop\.build\.sha256: .* has the sha256 .*; expected the declared"
    ):
        foresee(*whole(), source="other")


FORESEEN = {
    "no build.json": ([member("Procfile")], "has no valid build.json"),
    "a build.json that is none": ([member("build.json", content=b"[]")], "has no valid build.json"),
    "a build of another app": (whole(app="other"), "is a build of other; declare one of shop"),
    "no requirements": (whole()[:2], "has no requirements.txt"),
    "what leaves the build": ([*whole(), member("../evil")], "../evil leaves the build"),
    "what fills the host": ([*whole(), member("big", content=bytes(11_000_000))], "unpacks to more than"),
}


@pytest.mark.parametrize("members, reason", FORESEEN.values(), ids=FORESEEN)
def test_a_dry_run_refuses_what_the_run_would(foresee, members, reason):
    with pytest.raises(CommandExecutionError, match=f"app.shop.build: .*{reason}"):
        foresee(*members)


def test_a_declaration_that_names_other_process_types_than_the_build_is_refused(foresee):
    assert foresee(*whole(processes={"web": "a", "release": "b"}), processes=["web", "release"])
    with pytest.raises(CommandExecutionError, match=r"app\.shop\.build\.processes: the build has web; expected these"):
        foresee(*whole(), processes=["web", "worker"])


@pytest.mark.parametrize(
    "source, authorities, serving, is_there, expected",
    [
        ("https://builds.example/faq.tar.gz", {}, None, False, True),
        ("/srv/faq.tar.gz", {"own": "..."}, None, False, True),
        ("https://builds.example/faq.tar.gz", {"own": "..."}, None, False, False),
        ("/srv/faq.tar.gz", {}, 3, False, False),
        ("/srv/faq.tar.gz", {}, None, True, False),
    ],
)
def test_a_build_waits_for_what_it_needs_and_for_apps_that_serve(
    build, dunders, monkeypatch, source, authorities, serving, is_there, expected
):
    dunders(
        build,
        pillar={
            "app": {"faq": {"build": {"source": source, "sha256": "a" * 64}}, "shop": {}},
            "base": {"ca_certificates": authorities},
        },
        salt={"release_store.current": {"shop": serving}.get},
    )
    monkeypatch.setattr(build, "is_unpacked", lambda app: is_there)
    assert build.is_first("faq") is expected


def block(name="code.py", content=b"", kind=tarfile.REGTYPE, link="", **fields):
    """Return a member of a tarball as it stands there.

    :param fields: parts of its header by their place, such as ``at_124`` for its size, as bytes.
    """
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    for place, said in fields.items():
        start = int(place.removeprefix("at_"))
        header[start : start + len(said)] = said
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + b"\0" * (-len(content) % 512)


def said_of(name, value, kind=tarfile.XHDTYPE):
    """Return what a tarball says of its next member, or of all."""
    rest = f" {name}={value}\n"
    length = len(rest) + len(str(len(rest) + len(str(len(rest)))))
    return block("pax", f"{length}{rest}".encode(), kind)


CODE, END = block(content=b"abcde"), b"\0" * 1024
KEEP = "expected what a host can keep; build it again"
UNREADABLE = "damaged: says something of a member that cannot be read; build it again"
NO_MEMBER = "is neither a file, a directory nor a symbolic link; expected members that stay inside the build"
TARBALLS = {
    **{
        f"{name} {value[:5]} {kind}": (
            said_of(name, value, kind) + CODE,
            f"code.py has no number for its {name}; {KEEP}",
        )
        for name in ("size", "mtime", "uid", "gid")
        for value in ("word", "", "0x10", "1,2")
        for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE)
    },
    **{
        f"{name} {value[:5]}": (said_of(name, value) + CODE, UNREADABLE)
        for name in ("GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize")
        for value in ("word", "NaN", "9" * 5000)
    },
    "a size below 0": (said_of("size", "-1") + CODE, "damaged: code.py has a size below 0; build it again"),
    "a huge uid": (said_of("uid", "9" * 5000) + CODE, f"code.py has no number for its uid; {KEEP}"),
    "a time that is none": (said_of("mtime", "NaN") + CODE, f"code.py has a time before 1970 or after 2106; {KEEP}"),
    "a sparse file": (
        said_of("GNU.sparse.map", "0,1") + said_of("GNU.sparse.size", "5") + CODE,
        f"code.py is a sparse file; {KEEP}",
    ),
    "a sparse file of old": (block("s", kind=tarfile.GNUTYPE_SPARSE), f"s is a sparse file; {KEEP}"),
    "a device": (block("null", kind=tarfile.CHRTYPE), f"null {NO_MEMBER}"),
    "a disk": (block("disk", kind=tarfile.BLKTYPE), f"disk {NO_MEMBER}"),
    "a pipe": (block("pipe", kind=tarfile.FIFOTYPE), f"pipe {NO_MEMBER}"),
    "a hard link": (block("link", kind=tarfile.LNKTYPE, link="../../etc/passwd"), f"link {NO_MEMBER}"),
    "the same twice": (CODE + CODE, "code.py is there twice; expected each member once; build it again"),
    "a thousand things said of one": (
        said_of("comment", "a") * 2000 + CODE,
        "damaged: says things of a member again and again; build it again",
    ),
    "no member": (CODE + b"word" * 128, "damaged: what follows its last readable member is none; build it again"),
    "a size that ends too early": (
        block(content=b"abcde", at_124=b"0" * 11),
        "damaged: what follows its last readable member is none; build it again",
    ),
    "words behind the end": (CODE + END + b"word", "goes on after its last member; build it again"),
    "another tarball behind it": (CODE + END + CODE, "goes on after its last member; build it again"),
}


@pytest.mark.parametrize("content, message", TARBALLS.values(), ids=TARBALLS)
def test_what_is_wrong_with_a_tarball_is_told_in_plain_words(build, tmp_path, content, message):
    tarball = tmp_path / "shop.tar.gz"
    tarball.write_bytes(gzip.compress(content + END, 1))
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        build.inspect(tarball, {"megabytes": 10, "files": 100})


NO_GZIP = "damaged: is no gzip file, or goes on behind its end; build it again"
WHOLE = gzip.compress(CODE + END, mtime=0)
COMPRESSED = {
    "garbage behind it": (WHOLE + b"word", NO_GZIP),
    "no gzip": (CODE + END, NO_GZIP),
    "cut off": (
        WHOLE[:-12],
        "damaged: Compressed file ended before the end-of-stream marker was reached; build it again",
    ),
    "another checksum": (WHOLE[:-8] + b"word" + WHOLE[-4:], "damaged: its checksum does not fit; build it again"),
    "scrambled": (
        WHOLE[:20] + b"\xff" * 30 + WHOLE[50:],
        "damaged: its compressed data cannot be read; build it again",
    ),
    "nothing": (b"", "damaged: empty file; build it again"),
    "many small files": (
        gzip.compress(b"".join(block(f"f{number}") for number in range(101)) + END),
        "unpacks to more than 100 files or 10 MB; expected less, or a higher app.{app}.unpacked",
    ),
}


@pytest.mark.parametrize("content, message", COMPRESSED.values(), ids=COMPRESSED)
def test_what_is_wrong_with_a_gzip_file_is_told_in_plain_words(build, tmp_path, content, message):
    tarball = tmp_path / "shop.tar.gz"
    tarball.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        build.inspect(tarball, {"megabytes": 10, "files": 100})
