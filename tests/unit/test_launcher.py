"""The start of a process: its environment is its release's config, byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "formulas/app/files/process.py"
RELEASE = {"build": "0123456789abcdef"}
OWN = {
    b"HOME": b"/srv/apps/my-shop",
    b"USER": b"my-shop",
    b"LOGNAME": b"my-shop",
    b"SHELL": b"/bin/sh",
    b"PATH": b"/srv/apps/my-shop/builds/0123456789ab/.venv/bin:/usr/local/bin:/usr/bin:/bin",
}
HOSTILE = {
    "empty": b"",
    "space": b"  two  spaces  ",
    "percent": b"50 % off %(here)s %%",
    "dollar": b"$HOME ${PATH} $(id) `id`",
    "quotes": b"it's \"quoted\" ''",
    "backslash": b"\\ \\n \\\\",
    "hash": b"#comment # comment",
    "equals": b"a=b=c",
    "newline": b"first\nsecond\n\n",
    "carriage_return": b"a\r\nb\r",
    "tab": b"\ta\tb\t",
    "utf8": "é € 🧂 日本".encode(),
    "not_utf8": b"\xff\xfe\x80",
    "control": bytes(range(1, 32)) + b"\x7f",
    "semicolon": b"a; b & c | d > e",
    "yaml": b"{a: [b, *c, &d, !e]}",
    "jinja": b"{{ 7 * 7 }}{% raw %}",
    "long": b"x" * 131000,
}


@pytest.fixture
def release(tmp_path):
    """A release's directory with a config that is hard to keep."""
    config = tmp_path / "env"
    config.mkdir()
    for name, value in HOSTILE.items():
        (config / name.upper()).write_bytes(value)
    return tmp_path


EXPECTED = {name.upper().encode(): value for name, value in HOSTILE.items()}


def test_the_environment_is_the_config_and_what_saltern_sets(launcher, release):
    found = launcher.environment(str(release), RELEASE, "my-shop", "8101")
    assert found == EXPECTED | OWN | {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1", b"PORT": b"8101"}


def test_a_process_without_a_port_has_no_such_variable(launcher, release):
    assert b"PORT" not in launcher.environment(str(release), RELEASE, "my-shop", None)


def test_the_config_may_say_another_language_but_not_another_path(launcher, release):
    for name in ("LANG", "PYTHONUNBUFFERED", "PATH", "HOME", "PORT", "USER"):
        (release / "env" / name).write_bytes(b"mine")
    found = launcher.environment(str(release), RELEASE, "my-shop", "8101")
    assert (found[b"LANG"], found[b"PYTHONUNBUFFERED"]) == (b"mine", b"mine")
    assert found[b"PORT"] == b"8101"
    assert {name: found[name] for name in OWN} == OWN


def test_the_shell_hands_every_byte_on_and_nothing_of_supervisors_own(release):
    code = (
        "import importlib.util, os, sys\n"
        "spec = importlib.util.spec_from_file_location('process', sys.argv[1])\n"
        "process = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(process)\n"
        "environment = process.environment(sys.argv[2], {'build': '0123456789abcdef'}, 'my-shop', '8101')\n"
        "os.execve('/bin/sh', ['/bin/sh', '-c', 'exec cat /proc/self/environ'], environment)\n"
    )
    done = subprocess.run(
        [sys.executable, "-ISBc", code, str(LAUNCHER), str(release)],
        env=dict(os.environ) | {"SUPERVISOR_ENABLED": "1", "OF_THE_SUPERVISOR": "1"},
        capture_output=True,
        check=True,
    )
    found = dict(entry.split(b"=", 1) for entry in done.stdout.rstrip(b"\0").split(b"\0"))
    # dash says where it is, whatever it was told.
    found.pop(b"PWD", None)
    assert found == EXPECTED | OWN | {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1", b"PORT": b"8101"}
