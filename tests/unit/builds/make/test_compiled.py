"""What a wheel that was built here needs of its hosts, and what a failed build lacked."""

import ctypes.util
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from saltern.builds.make import compiled
from saltern.builds.make.pins import Pin
from saltern.builds.make.targets import Target
from saltern.refusal import Refusal

PIN = Pin("shop", "1.0", frozenset())
HOSTS = Target("3.13", "3.13.5", 41, os.uname().machine)
TAG = f"cp313-cp313-linux_{os.uname().machine}"


def wheel(path, tag, objects):
    file = path / f"shop-1.0-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("shop/__init__.py", "")
        for name, content in objects.items():
            archive.writestr(name, content)
    return str(file)


def library(name):
    """Return the bytes of a library of this machine."""
    [path] = [path for path in Path("/lib").glob(f"*-linux-gnu/{name}") if path.exists()][:1]
    return path.read_bytes()


@pytest.mark.parametrize(
    "tag", [TAG, "py3-none-any", f"cp39-abi3-{TAG.rpartition('-')[2]}", f"py3-none-{TAG.rpartition('-')[2]}"]
)
def test_a_wheel_that_fits_the_hosts_is_taken(tmp_path, tag):
    assert compiled.judge(wheel(tmp_path, tag, {}), PIN, HOSTS) == {}


@pytest.mark.parametrize("tag", [TAG.replace("313", "311"), "py2-none-any", "cp313-cp313-linux_riscv64"])
def test_a_wheel_of_another_python_or_machine_is_refused(tmp_path, tag):
    with pytest.raises(Refusal, match=r"does not fit Python 3\.13 on manylinux_2_41.*run make build as root"):
        compiled.judge(wheel(tmp_path, tag, {}), PIN, HOSTS)


def test_a_newer_glibc_than_the_hosts_is_refused(tmp_path):
    path = wheel(tmp_path, TAG, {"shop/fast.so": library("libm.so.6")})
    assert "libc.so.6" in compiled.judge(path, PIN, HOSTS)
    old = Target("3.13", "3.13.5", 1, HOSTS.machine)
    with pytest.raises(
        Refusal, match=r"shop/fast\.so needs glibc 2\.\d+, and the hosts have 2\.1; run make build as root"
    ):
        compiled.judge(path.replace("linux", "linux"), PIN, old)


def test_what_a_wheel_brings_itself_it_does_not_need(tmp_path):
    objects = {"shop/fast.so": library("libm.so.6"), "shop.libs/libc.so.6": b"\x7fELF" and library("libm.so.6")}
    assert "libc.so.6" not in compiled.judge(wheel(tmp_path, TAG, objects), PIN, HOSTS)


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs Debian's packages")
def test_a_library_that_hosts_need_not_have_is_told_with_its_package(monkeypatch):
    libc = ctypes.util.find_library("c")
    compiled.check_libraries({libc: "shop.whl"}, [])
    with pytest.raises(Refusal, match=r"needs libnothere\.so\.9, which no Debian package here has"):
        compiled.check_libraries({"libnothere.so.9": "shop.whl"}, [])
    monkeypatch.setattr(compiled, "_present", lambda packages, there: set(packages))
    compiled.check_libraries({libc: "shop.whl"}, ["libc6"])
    with pytest.raises(Refusal) as refused:
        compiled.check_libraries({libc: "shop.whl"}, [])
    assert str(refused.value) == f"Aptfile: hosts need not have {libc} (shop.whl); add to it, one a line: libc6"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("a.c:3:10: fatal error: Python.h: No such file or directory", "apt install python3-dev"),
        ("./psycopg/psycopg.h:36:10: fatal error: libpq-fe.h: No such file or directory", "apt install libpq-dev"),
        ("Error: pg_config executable not found.", "apt install libpq-dev"),
        ("fatal error: openssl/ssl.h: No such file or directory", "apt install libssl-dev"),
        ("fatal error: odd/thing.h: No such file or directory", "apt-file search odd/thing.h"),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "apt install build-essential"),
        ("error: command 'gcc' failed: No such file or directory", "apt install build-essential"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "apt install cmake"),
        ("/bin/sh: 1: make: not found", "apt install build-essential"),
        (
            'Found pkg-config: YES\nmeson.build:31:12: ERROR: Dependency "cairo" not found (tried',
            "apt-file search cairo.pc",
        ),
        ("SyntaxError: invalid syntax", "mend that; what builds a source has"),
    ],
)
def test_what_a_compilation_lacked_is_told(output, words):
    assert words in compiled.cure(output)


def test_what_a_compilation_in_a_container_lacked_is_for_aptfile_build():
    said = compiled.cure("Error: pg_config executable not found.", is_within=True)
    assert said == "pg_config is missing: add libpq-dev to Aptfile-build, and build again"
