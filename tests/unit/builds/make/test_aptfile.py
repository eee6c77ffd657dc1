"""An app's Aptfile: names of Debian packages, one a line, and nothing else."""

from pathlib import Path

import pytest
import yaml

from saltern.builds.make import aptfile, targets
from saltern.refusal import Refusal
from saltern.system import apt
from tests.unit.builds.make.apps import ROOT, record, refused

# Debian 12's Python, for which the fixtures build.
BOOKWORM = targets.Target("3.11", "3.11.2", 36, "x86_64")


def test_a_build_says_which_packages_its_aptfile_asks_for(shop, made, commit, tmp_path):
    assert record(made(shop))["packages"] == []
    commit(shop, {"Aptfile": "# for Pillow\n\ntree\n  libjpeg62-turbo # a comment\r\ntree\n"})
    pillar = tmp_path / "builds/dev.sls"
    result = made(shop, "--declare", pillar)
    assert record(result)["packages"] == ["libjpeg62-turbo", "tree"]
    assert yaml.safe_load(pillar.read_text())["app"]["shop"]["build"]["packages"] == ["libjpeg62-turbo", "tree"]
    assert made(shop)["sha256"] == result["sha256"]


LINES = {
    "a URL": ("https://me:hunter2@example.com/a.deb", "a URL or a file is no package's name"),
    "a file": ("./tree.deb", "a URL or a file is no package's name"),
    "a source": (
        ":repo:deb https://me:hunter2@example.com x main",
        ":repo: is no package, and hosts have Debian's own",
    ),
    "a version": ("tree=2.1", "tree=2.1: tree comes in the version that the hosts' Debian has"),
    "a suite": ("tree/sid", "tree/sid: tree comes in the version that the hosts' Debian has"),
    "an architecture": ("tree:i386", "tree:i386: tree comes in the version that the hosts' Debian has"),
    "two names": ("tree less", "tree less: more than one word"),
    "an option": ("--reinstall", "--reinstall: not a package's name"),
    "a removal": ("nginx-", "nginx-: not a package's name"),
    "capitals": ("Tree", "Tree: not a package's name"),
}


@pytest.mark.parametrize("line, reason", LINES.values(), ids=LINES)
def test_a_line_that_is_no_name_is_refused_by_its_number(line, reason):
    with pytest.raises(Refusal) as raised:
        list(aptfile.read_packages(f"# packages\ntree\n{line}\n"))
    said = str(raised.value)
    assert said.startswith(f"Aptfile line 3: {reason}")
    assert said.endswith("; expected the name of a Debian package, such as libjpeg62-turbo")
    assert "hunter2" not in said


def test_the_command_refuses_a_line_that_is_no_name(shop, run, commit):
    commit(shop, {"Aptfile": "tree=2\n"})
    refused(run(shop), "Aptfile line 1: tree=2: ", "expected the name of a Debian package")


def test_a_package_that_debian_lacks_is_refused_where_this_machine_can_tell(monkeypatch):
    monkeypatch.setattr(apt, "known", lambda: {"libjpeg62-turbo", "tree"})
    monkeypatch.setattr(aptfile, "is_like", lambda suite, machine: (suite, machine) == ("bookworm", "x86_64"))
    aptfile.check_packages({"tree": 1}, BOOKWORM, str(ROOT))
    with pytest.raises(Refusal) as raised:
        aptfile.check_packages({"tree": 1, "libjpg62-turbo": 2}, BOOKWORM, str(ROOT))
    assert str(raised.value) == (
        "Aptfile line 2: libjpg62-turbo: Debian 12 has no such package; expected libjpeg62-turbo"
    )
    monkeypatch.setattr(aptfile, "is_like", lambda suite, machine: False)
    aptfile.check_packages({"libjpg62-turbo": 2}, BOOKWORM, str(ROOT))


def test_only_a_machine_of_the_same_debian_with_lists_can_tell(monkeypatch):
    own = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr(aptfile.platform, "freedesktop_os_release", lambda: own)
    monkeypatch.setattr(aptfile.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(apt, "has_lists", lambda: True)
    assert aptfile.is_like("bookworm", "x86_64")
    assert not aptfile.is_like("trixie", "x86_64")
    assert not aptfile.is_like("bookworm", "aarch64")
    monkeypatch.setattr(apt, "has_lists", lambda: False)
    assert not aptfile.is_like("bookworm", "x86_64")


def test_the_pillar_takes_each_name_that_a_build_may_have():
    schema = yaml.safe_load(Path(ROOT / "formulas/app/settings.yaml").read_text())
    [one] = schema["patternProperties"].values()
    packages = one["properties"]["build"]["properties"]["packages"]
    assert packages["items"]["pattern"] == apt.NAME
