"""The start of a process: its environment is its release's config, byte for byte."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from saltern.jobs import names

FILES = Path(__file__).parents[2] / "formulas/app/files"
RELEASE = {"build": "0123456789abcdef"}
OWN = {
    b"HOME": b"/srv/apps/my-shop/home",
    b"USER": b"my-shop",
    b"LOGNAME": b"my-shop",
    b"SHELL": b"/bin/sh",
    b"PATH": b"/srv/apps/my-shop/builds/0123456789ab/.venv/bin:/usr/local/bin:/usr/bin:/bin",
}
DEFAULTS = {b"LANG": b"C.UTF-8", b"PYTHONUNBUFFERED": b"1", b"TMPDIR": b"/srv/apps/my-shop/tmp"}
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
    """A release's directory with config values that are easily damaged."""
    config = tmp_path / "env"
    config.mkdir()
    for name, value in HOSTILE.items():
        (config / name.upper()).write_bytes(value)
    return tmp_path


EXPECTED = {name.upper().encode(): value for name, value in HOSTILE.items()}


def test_the_environment_is_the_config_and_what_saltern_sets(launcher, release):
    found = launcher.release.environment(str(release), RELEASE, "my-shop", "8101")
    assert found == EXPECTED | OWN | DEFAULTS | {b"PORT": b"8101"}


def test_a_process_without_a_port_has_no_such_variable(launcher, release):
    assert b"PORT" not in launcher.release.environment(str(release), RELEASE, "my-shop", None)


def test_the_config_may_say_another_language_but_not_another_path(launcher, release):
    for name in ("LANG", "PYTHONUNBUFFERED", "TMPDIR", "PATH", "HOME", "PORT", "USER"):
        (release / "env" / name).write_bytes(b"mine")
    found = launcher.release.environment(str(release), RELEASE, "my-shop", "8101")
    assert {found[name] for name in DEFAULTS} == {b"mine"}
    assert found[b"PORT"] == b"8101"
    assert {name: found[name] for name in OWN} == OWN


def test_the_shell_hands_every_byte_on_and_nothing_of_supervisors_own(release):
    code = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from launcher import release\n"
        "environment = release.environment(sys.argv[2], {'build': '0123456789abcdef'}, 'my-shop', '8101')\n"
        "os.execve('/bin/sh', ['/bin/sh', '-c', 'exec cat /proc/self/environ'], environment)\n"
    )
    done = subprocess.run(
        [sys.executable, "-ISBc", code, str(FILES), str(release)],
        env=dict(os.environ) | {"SUPERVISOR_ENABLED": "1", "OF_THE_SUPERVISOR": "1"},
        capture_output=True,
        check=True,
    )
    found = dict(entry.split(b"=", 1) for entry in done.stdout.rstrip(b"\0").split(b"\0"))
    # dash sets PWD itself.
    found.pop(b"PWD", None)
    assert found == EXPECTED | OWN | DEFAULTS | {b"PORT": b"8101"}


@pytest.mark.parametrize("process", ["web.1", "worker.12", "send_mail-now.1", "release"])
@pytest.mark.parametrize("app", ["shop", "my-shop", "a-b-c"])
def test_a_scope_is_known_by_its_name(launcher, app, process):
    scope = launcher.scope.Scope(app, "12", process)
    again = launcher.scope.named(app, scope.unit)
    assert (again.app, again.number, again.process) == (app, 12, process)
    assert scope.slice.count("-") == 1


def test_the_scope_of_a_run_of_a_job_is_no_process_of_supervisors(launcher):
    run = "send-mail.nightly_mail-x.1764454512345"
    scope = launcher.scope.Scope("my-shop", "12", run)
    assert scope.unit == names.scope("my-shop", "send-mail", "nightly_mail-x", "1764454512345", 12)
    assert scope.unit.startswith(r"app-my\x2dshop-send\x2dmail-"), "its type's limits are for it too"
    assert (scope.kind, scope.name, scope.process) == ("send-mail", "nightly_mail-x", "nightly_mail-x.1764454512345")
    assert launcher.scope.named("my-shop", scope.unit) is None, "the end of supervisor does not end it"
    kinds = {name: launcher.scope.Scope("shop", "12", name).is_once for name in ("web.1", "release", run)}
    assert kinds == {"web.1": False, "release": True, run: True}


@pytest.mark.parametrize(
    "unit", ["app-shop-run-77.1764454512345.v3.scope", "app-shop-web-1.v.scope", "other.scope", "cgroup.procs"]
)
def test_another_scope_is_no_processs(launcher, unit):
    assert launcher.scope.named("shop", unit) is None


STATUSES = [(0, 0, "exit status 0"), (3 << 8, 0, "exit status 3"), (9, 0, "killed by SIGKILL")]
STATUSES += [(9, 2, "killed by SIGKILL, out of memory: the kernel has ended 2 of its processes")]


@pytest.mark.parametrize("status, killed, text", STATUSES)
def test_how_a_process_ended_is_told(launcher, status, killed, text):
    assert launcher.first.how(status, killed) == text


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(2, "No such file or directory", "/srv/apps/my-shop/builds/0123"),
            "/srv/apps/my-shop/builds/0123: No ",
        ),
        (IsADirectoryError(21, "Is a directory", b"/srv/apps/my-shop/releases/3/env/A"), "releases/3/env/A: Is a dire"),
        (
            KeyError("processes"),
            "/srv/apps/my-shop/releases/3/release.json: cannot be read, or has no process type web",
        ),
        (TypeError("x"), "/srv/apps/my-shop/releases/3/release.json: cannot be read, or has no process type web"),
    ],
)
def test_what_keeps_a_process_from_starting_is_said_in_words(launcher, error, said):
    scope = launcher.scope.Scope("my-shop", "3", "web.1")
    assert said in launcher.first.obstacle(scope, error)


@pytest.mark.parametrize(
    "program, shown",
    [
        ("sleep", "sleep"),
        ("été", "été"),
        ("x\nv9 web.1 starts", "x?v9 web.1 starts"),
        ("\x1b[2J\u202e", "?[2J?"),
        (os.fsdecode(b"\xff"), "?"),
    ],
)
def test_what_an_app_calls_its_programs_is_no_line_of_its_launcher(launcher, tmp_path, program, shown):
    scope = launcher.scope.Scope("shop", "3", "web.1")
    with open(tmp_path / "log", "wb") as file:
        scope.log = file.fileno()
        listed = launcher.ending.listed({7: launcher.ending.Process(7, 1, program)})
        launcher.log.say(scope, f"ends what is left of it: {listed}")
    assert (tmp_path / "log").read_text() == f"v3 web.1 ends what is left of it: {shown} (PID 7)\n"


def test_a_one_off_commands_line_is_in_no_description(launcher, monkeypatch):
    became = []
    monkeypatch.setattr("pwd.getpwnam", lambda name: os)
    monkeypatch.setattr(launcher.command.os, "geteuid", lambda: 0)
    monkeypatch.setattr(launcher.command.os, "execvp", lambda program, words: became.extend(words) or sys.exit())
    with pytest.raises(SystemExit):
        launcher.command.run("my-shop", "python", "manage.py", "--token=secret")
    # systemd shows this description in place of the command.
    assert "--description=my-shop-run" in became[: became.index("--")]


@pytest.mark.parametrize(
    "state, expected", [("STOPPING", True), ("STARTING", False), ("RUNNING", False), (None, False)]
)
def test_a_process_that_was_told_to_end_before_it_could_hear_it_ends(launcher, tmp_path, monkeypatch, state, expected):
    monkeypatch.setattr(launcher.start, "SUPERVISOR", str(tmp_path / "supervisor.sock"))
    asked = []

    def answer(listening):
        connection, _ = listening.accept()
        with connection:
            asked.append(connection.recv(1 << 16))
            connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n<value><string>{state}</string></value>".encode())

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        if state:
            listening.bind(launcher.start.SUPERVISOR)
            listening.listen()
            threading.Thread(target=answer, args=(listening,), daemon=True).start()
        assert launcher.start.is_to_stop("shop.v3.web.1") is expected
    assert all(b"<string>shop.v3.web.1</string>" in one for one in asked)


@pytest.mark.parametrize(
    "text, found",
    [
        (
            '{"processes": {"web": "echo \\u00e9 \\"x\\""}, "grace": {"web": 3}}\n',
            {"processes": {"web": 'echo é "x"'}, "grace": {"web": 3}},
        ),
        ('  {"a": [1, 2.5, true, null]} ', {"a": [1, 2.5, True, None]}),
        ("", {}),
        ('{"a": ', {}),
        ('{"a": 1} x', {}),
        ("[1]", {}),
    ],
)
def test_a_record_is_read_as_json_reads_it(launcher, tmp_path, monkeypatch, text, found):
    (tmp_path / "release.json").write_text(text)
    monkeypatch.setattr(launcher.release, "open", lambda path, **_: (tmp_path / Path(path).name).open(), raising=False)
    assert launcher.release.record("shop", 3) == found


@pytest.mark.parametrize("text", ['{\n  "app"', '{"a": "b', '{"a": 1, ', "[1, ", '{"a": tru', ""])
def test_a_record_that_was_cut_off_is_empty_where_json_is_not_imported(tmp_path, text):
    (tmp_path / "release.json").write_text(text)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from launcher import release; its = sys.argv[2]\n"
        "release.open = lambda path, **_: open(its); print(release.record('shop', 3), 'json' in sys.modules)"
    )
    command = [sys.executable, "-ISBc", code, str(FILES), str(tmp_path / "release.json")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "{} False\n"


def test_a_start_imports_nothing_that_takes_long():
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import launcher.start\n"
        "print(*sorted(name for name in set(sys.modules) - before if 'launcher' not in name))"
    )
    done = subprocess.run([sys.executable, "-ISBc", code, str(FILES)], capture_output=True, text=True, check=True)
    # Each of these takes longer to import than the whole launcher.
    assert not {"contextlib", "ctypes", "enum", "json", "re", "signal", "socket", "subprocess"} & {*done.stdout.split()}
