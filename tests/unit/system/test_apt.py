"""What apt and dpkg say of packages."""

import subprocess

import pytest

from saltern.system import apt

UNMET = """\
The following packages have unmet dependencies:
 chrony : Conflicts: time-daemon
 systemd-timesyncd : Conflicts: time-daemon
"""
HELD = "E: Unable to correct problems, you have held broken packages.\n"
ANSWERS = {
    "installs": (0, "Inst tree (2.1 Debian)\nConf tree (2.1 Debian)\n", "", [], ""),
    "removes": (0, "Remv b [1]\nPurg a [2]\nRemv b [1]\nInst tree (2)\n", "", ["a", "b"], ""),
    "conflict": (
        100,
        UNMET,
        HELD,
        [],
        "chrony : Conflicts: time-daemon; systemd-timesyncd : Conflicts: time-daemon",
    ),
    "unknown": (100, "", "E: Unable to locate package x\n", [], "Unable to locate package x"),
    "silent": (1, "", "", [], "exit code 1"),
}


@pytest.mark.parametrize("code, output, error, removed, reason", ANSWERS.values(), ids=ANSWERS)
def test_what_apt_would_do_is_read(monkeypatch, code, output, error, removed, reason):
    done = subprocess.CompletedProcess([], code, output, error)
    monkeypatch.setattr(apt, "_run", lambda *command: done)
    assert apt.simulated(["tree"]) == apt.Outcome(removed, reason)


def test_installed_packages_have_a_version_and_a_size(monkeypatch):
    lines = "installed\ttree\t2.1.0-1\t121\nconfig-files\tgone\t1\t\ninstalled\todd\t1\t\n"
    monkeypatch.setattr(apt, "_run", lambda *command: subprocess.CompletedProcess([], 0, lines, ""))
    assert apt.installed() == {"tree": apt.Package("2.1.0-1", 121 << 10), "odd": apt.Package("1", 0)}


def test_a_machine_without_apt_has_no_packages(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert (apt.installed(), apt.known()) == ({}, set())


@pytest.mark.parametrize(
    "name, expected", [("libjpg62-turbo", "libjpeg62-turbo"), ("libssl3", "libssl3t64"), ("quantum-flux", "")]
)
def test_the_nearest_name_is_found(name, expected):
    assert apt.nearest(name, {"libjpeg62-turbo", "libjpeg-turbo-progs", "libssl3t64", "tree"}) == expected
