"""The virtual environment of a build, and the files that it shares with earlier builds."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds import links, venv
from tests.unit.builds.members import source_distribution, wheel


@pytest.fixture
def venv_of(staged):
    """Return a function that makes the virtual environment of a staged build under the umask 077."""
    (staged / "wheelhouse").mkdir()

    def make():
        before = os.umask(0o077)
        try:
            venv.make("shop", str(staged), links.newest(str(staged.parent / "apps/shop/builds")))
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
    # Nor if one wheel is linked and another one is new.
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


def test_without_links_all_files_are_made(again, staged, monkeypatch):
    _, make = again
    linked = []

    def link(old, new):
        if len(linked) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(new))
        linked.append(os.symlink(old, new))

    monkeypatch.setattr(links.os, "link", link)
    assert make() == "1"
    assert len(linked) == 2
    assert not one(staged, MODULE).is_symlink()
