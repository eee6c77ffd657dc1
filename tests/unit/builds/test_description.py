"""A damaged build: what is reported, and how it is repaired."""

import contextlib
import os
import subprocess

import pytest

from saltern.builds import description, replacement
from tests.unit.builds.members import unpacked

PACKAGES = ".venv/lib/python3.11/site-packages"
VIEWS = "shop/views/__init__.py"
TRANSLATION = "shop/locale/de/LC_MESSAGES/django.mo"
# The damage to a build, the report of a quick look, and the report of a look at each file.
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
    "a translation is gone": (f"rm {TRANSLATION}", "", "a file in it is not as it was unpacked"),
    "all translations are gone": ("rm -r shop/locale", "shop is not as it was unpacked"),
    "code was edited": (f"echo x >>{VIEWS}", "", "a file in it is not as it was unpacked"),
    "code may not be read": (f"chmod 0 {VIEWS}", "", "a file in it is not as it was unpacked"),
}


@pytest.mark.parametrize("case", DAMAGE.values(), ids=DAMAGE)
def test_damage_to_a_build_is_told_and_put_right_in_the_directories_that_processes_are_in(tmp_path, case):
    script, told, *deeply = case
    whole, target = unpacked(tmp_path / "whole"), unpacked(tmp_path / "build")
    for directory in (whole, target):
        description.describe(str(directory))
    inodes = {path: os.stat(target / path).st_ino for path in (".", "shop")}
    subprocess.run(["sh", "-c", script], cwd=target, check=True)
    assert description.damage_of(str(target)) == told
    assert description.damage_of(str(target), deeply=True) == (deeply or [told])[0]
    if not os.path.lexists(target):
        return
    is_there = target.is_dir() and not target.is_symlink()
    replacement.replace(str(target), str(whole))
    if is_there:
        description.describe(str(target))
        assert {path: os.stat(target / path).st_ino for path in inodes} == inodes
    assert description.damage_of(str(target), deeply=True) == ""
    assert (target / VIEWS).read_text() == f"# {VIEWS}\n"
    assert not (target / f"{PACKAGES}/django/db/x").exists()


@pytest.mark.parametrize("moves", range(9))
def test_a_repair_that_is_interrupted_is_seen(monkeypatch, tmp_path, moves):
    whole, target = unpacked(tmp_path / "whole"), unpacked(tmp_path / "build")
    for directory in (whole, target):
        description.describe(str(directory))
    left, rename = iter(range(moves)), os.rename

    def interrupted(*paths):
        next(left)
        rename(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(replacement.os, "rename", interrupted)
        with contextlib.suppress(StopIteration):
            replacement.replace(str(target), str(whole))
    assert description.damage_of(str(target))


def test_a_build_without_a_manifest_is_whole_if_it_can_start(tmp_path):
    target = unpacked(tmp_path / "build")
    assert description.damage_of(str(target), deeply=True) == ""
