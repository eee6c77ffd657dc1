"""The start of a process: its environment is its release's config, byte for byte."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

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
    """A release's directory with a config that is hard to keep."""
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
    # dash says where it is, whatever it was told.
    found.pop(b"PWD", None)
    assert found == EXPECTED | OWN | DEFAULTS | {b"PORT": b"8101"}


# --- Whom a signal is for ---------------------------------------------------------------------------------------------

NULL, PIPE = "/dev/null", "pipe:[1]"


@pytest.fixture
def tree(launcher):
    """A function that makes processes: of (PID, parent, program, what is said of it otherwise)."""

    def make(*rows):
        made = [launcher.ending.Process(pid, parent, name, stdin=PIPE) for pid, parent, name, _ in rows]
        for process, (*_, details) in zip(made, rows, strict=True):
            vars(process).update(details)
        return {process.pid: process for process in made}

    return make


TERM = {"caught": 1 << 14}
# What a line has started, and by PID whom SIGTERM is for: shells first, then programs.
LINES = {
    "exec cmd": ([(2, 1, "python3.11", {})], [2]),
    "a program's children are its own": ([(2, 1, "gunicorn", {}), (3, 2, "gunicorn", {}), (4, 2, "sh", {})], [2]),
    "cd src && cmd": ([(2, 1, "dash", {}), (3, 2, "python3.11", {}), (4, 3, "python3.11", {})], [2, 3]),
    "a & b & wait": ([(2, 1, "dash", {}), (3, 2, "a", {"stdin": NULL}), (4, 2, "b", {"stdin": NULL})], [2, 3, 4]),
    "a script in a line": ([(2, 1, "dash", {}), (3, 2, "bash", {}), (4, 3, "cmd", {})], [2, 3, 4]),
    "trap for what is in the background": ([(2, 1, "bash", TERM), (3, 2, "a", {"stdin": NULL})], [2]),
    "trap, and a command in the foreground": ([(2, 1, "bash", TERM), (3, 2, "a", {})], [2, 3]),
    "trap, and nobody knows": ([(2, 1, "bash", TERM | {"stdin": NULL}), (3, 2, "a", {"stdin": NULL})], [2, 3]),
    "cmd | cat": (
        [(2, 1, "sh", {}), (3, 2, "cmd", {"outputs": ["pipe:[7]"]}), (4, 2, "cat", {"stdin": "pipe:[7]"})],
        [2, 3],
    ),
    "cat, once its writer has ended": ([(4, 1, "cat", {"stdin": "pipe:[7]"})], [4]),
    "cmd | while read": (
        [
            (2, 1, "sh", {}),
            (3, 2, "cmd", {"outputs": ["pipe:[7]"]}),
            (4, 2, "sh", {"stdin": "pipe:[7]"}),
            (5, 4, "sleep", {"stdin": "pipe:[7]"}),
        ],
        [2, 3],
    ),
    "two that read from each other": (
        [
            (2, 1, "a", {"stdin": "pipe:[8]", "outputs": ["pipe:[7]"]}),
            (3, 1, "b", {"stdin": "pipe:[7]", "outputs": ["pipe:[8]"]}),
        ],
        [2, 3],
    ),
    "what a killed program has left": ([(5, 1, "uvicorn", {}), (6, 1, "uvicorn", {}), (7, 6, "x", {})], [5, 6]),
}


@pytest.mark.parametrize("rows, expected", LINES.values(), ids=LINES)
def test_sigterm_goes_once_to_what_a_line_has_started(launcher, tree, rows, expected):
    shells, programs = launcher.ending.heads(tree(*rows))
    assert [process.pid for process in [*shells, *programs]] == expected


@pytest.mark.parametrize("process", ["web.1", "worker.12", "send_mail-now.1", "release"])
@pytest.mark.parametrize("app", ["shop", "my-shop", "a-b-c"])
def test_a_scope_is_known_by_its_name(launcher, app, process):
    scope = launcher.scope.Scope(app, "12", process)
    again = launcher.scope.named(app, scope.unit)
    assert (again.app, again.number, again.process) == (app, 12, process)
    assert scope.slice.count("-") == 1


@pytest.mark.parametrize("unit", ["app-shop-run-77.scope", "app-shop-web-1.v.scope", "other.scope", "cgroup.procs"])
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
    # What systemd shows, in place of the command.
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


# --- What is there, and its end ---------------------------------------------------------------------------------------

# Its first thread ends, the other one goes on.
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def run():
    """A function that runs Python's code as a process, and returns that once it has said a line."""
    running = []

    def start(code):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running.append(subprocess.Popen([sys.executable, "-c", code], **pipes))
        running[-1].stdout.readline()
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_whose_first_thread_has_ended_is_there(launcher, run):
    process = run(HEADLESS)
    eventually(lambda: launcher.ending.look(process.pid).state == "Z")
    assert launcher.ending.look(process.pid).name.startswith("python")
    assert not launcher.ending.look(process.pid).is_dead
    process.kill()
    eventually(lambda: launcher.ending.look(process.pid).is_dead)
    process.wait()
    assert launcher.ending.look(process.pid) is None


def test_a_chain_of_processes_that_fork_and_end_does_not_look_like_none(launcher, run, monkeypatch):
    scope = launcher.scope.Scope("shop", "3", "web.1")
    process = run("print(flush=True); input()")
    with subprocess.Popen(["true"]) as ended:
        pass
    # What is read of the control group at each look.
    reads = []
    monkeypatch.setattr(launcher.scope.Scope, "pids", lambda self: reads.pop(0))
    reads[:] = [[ended.pid], [ended.pid, process.pid]]
    assert [*scope.found()] == [process.pid]
    reads[:] = [[ended.pid], [os.getpid()]]
    assert scope.found() == {}
    reads[:] = [[os.getpid(), ended.pid]] * launcher.scope.LOOKS
    assert [*scope.found()] == [ended.pid]


class Within:
    """A scope with one process, whatever its control group."""

    number, process, log = 3, "web.1", 2

    def __init__(self, launcher, pid, grace=60):
        self.launcher, self.pid, self.seconds, self.sent = launcher, pid, grace, []

    def grace(self):
        return self.seconds

    def found(self):
        process = self.launcher.ending.look(self.pid)
        return {} if process.is_dead else {self.pid: process}

    def close(self):
        pass

    def send(self, pid, number):
        self.sent.append(number)
        os.kill(pid, number)


def test_a_process_that_was_stopped_hears_of_its_end(launcher, run):
    process = run("print(flush=True); input()")
    process.send_signal(signal.SIGSTOP)
    scope = Within(launcher, process.pid)
    eventually(lambda: scope.found()[process.pid].state == "T")
    launcher.ending.finish([launcher.ending.Ending(scope)])
    assert scope.sent == [signal.SIGTERM, signal.SIGCONT]


def test_what_the_kernel_does_not_let_go_is_not_waited_for_without_end(launcher, run, monkeypatch, tmp_path):
    process = run("print(flush=True); input()")
    scope = Within(launcher, process.pid, grace=0)
    monkeypatch.setattr(Within, "send", lambda self, pid, number: self.sent.append(number))
    monkeypatch.setattr(launcher.ending, "KILLED", 0.2)
    ending = launcher.ending.Ending(scope)
    with open(tmp_path / "log", "wb") as file:
        scope.log = file.fileno()
        launcher.ending.finish([ending])
    assert ending.is_stuck and set(scope.sent) == {signal.SIGKILL}
    *_, last = (tmp_path / "log").read_text().splitlines()
    assert last.startswith("v3 web.1 has not ended 0.2 s after SIGKILL, since the kernel holds it: python")


def test_a_signal_is_for_a_process_of_the_scope_alone(launcher, run, monkeypatch, tmp_path):
    process = run("print(flush=True); input()")
    scope = launcher.scope.Scope("shop", "3", "web.1")
    scope.send(process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert process.poll() is None
    with open(f"/proc/{process.pid}/cgroup", encoding="ascii") as file:
        scope.below = file.readline().rstrip("\n").split("/", 1)[1]
    scope.send(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    # It has ended.
    scope.send(process.pid, signal.SIGKILL)


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
    # Each of these takes longer than all of the launcher.
    assert not {"contextlib", "ctypes", "enum", "json", "re", "signal", "socket", "subprocess"} & {*done.stdout.split()}
