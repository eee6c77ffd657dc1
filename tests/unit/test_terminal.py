"""A command that root starts as another user cannot reach root's terminal, and works as if it had its own."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

TERMINAL = Path(__file__).parents[2] / "formulas/app/files/terminal.py"
# Types into every terminal that it reaches. Root may do so on any kernel.
EVIL = """
import fcntl, os, sys, termios
reached = [os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)] if "tty" in sys.argv else []
for fd in [*range(256), *reached]:
    try:
        fcntl.ioctl(fd, termios.TIOCSTI, b"!")
    except OSError:
        pass
print("typed")
"""
# Stands for root's shell at the terminal: runs a script and then prints input that nobody has read.
AT = """
import os, signal, subprocess, sys, termios
signal.signal(signal.SIGINT, lambda *_: None)
code = subprocess.run(["sh", "-c", sys.argv[1]]).returncode
fd = os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK)
modes = termios.tcgetattr(fd)
is_cooked = bool(modes[3] & termios.ICANON and modes[3] & termios.ECHO and modes[1] & termios.OPOST)
modes[3] &= ~termios.ICANON
termios.tcsetattr(fd, termios.TCSANOW, modes)
try:
    left = os.read(fd, 100)
except BlockingIOError:
    left = b""
print(f"<code {code}, cooked {is_cooked}, left {left}>")
"""


@pytest.fixture
def at_terminal(tmp_path):
    """A function that runs a script at a terminal, types a text once a prompt is shown, and returns all output."""
    (tmp_path / "evil.py").write_text(EVIL)
    names = {"run": f"{sys.executable} -IS {TERMINAL} root", "python": sys.executable, "evil": tmp_path / "evil.py"}

    def run(script, *typed, rows=24):
        child, master = pty.fork()
        if not child:
            os.chdir(tmp_path)
            os.execv(sys.executable, [sys.executable, "-c", AT, script.format(**names)])
        termios.tcsetwinsize(master, (rows, 80))
        shown, todo, deadline = b"", list(typed), time.monotonic() + 20
        while time.monotonic() < deadline:
            if todo and todo[0][0] in shown:
                os.write(master, todo.pop(0)[1])
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:
                    break
        os.close(master)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return shown.decode(errors="replace")

    return run


# The streams that are terminals. No stream of the command may be root's terminal.
WAYS = {
    "a terminal": "{run} {python} {evil} tty",
    "a pipe behind": "{run} {python} {evil} tty | cat",
    "a pipe before": "echo | {run} {python} {evil} tty",
    "a file before": "{run} {python} {evil} tty </dev/null",
    "errors elsewhere": "{run} {python} {evil} tty 2>/dev/null",
    "errors alone": "{run} {python} {evil} tty </dev/null | cat",
    "nothing": "{run} {python} {evil} tty </dev/null >out 2>&1; cat out",
    "another file": "{run} {python} {evil} tty 7</dev/tty 200<&0 | cat",
    "no controlling terminal": "setsid --wait {run} {python} {evil} | cat",
    "in the background": "{run} {python} {evil} tty </dev/null & wait",
}


def test_without_the_command_a_program_types_into_roots_terminal(at_terminal):
    # Otherwise the cases below would prove nothing.
    assert "left b'!" in at_terminal("{python} {evil} tty | cat")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_typed_into_roots_terminal_with(way, at_terminal):
    shown = at_terminal(WAYS[way])
    assert "typed" in shown
    assert "<code 0, cooked True, left b''>" in shown


def test_what_a_command_leaves_behind_has_a_terminal_that_is_gone(at_terminal, tmp_path):
    left = "trap : HUP; sleep 0.5; if cat /dev/tty >/dev/null 2>&1; then echo there; else echo gone; fi >after"
    shown = at_terminal(
        "cd " + str(tmp_path) + f"; {{run}} /bin/sh -c 'cd {tmp_path}; ({left}) & sleep 0.2; echo begun'; sleep 1"
    )
    assert "begun" in shown
    assert (tmp_path / "after").read_text() == "gone\n"


def test_it_has_a_terminal_of_its_own_of_the_same_size_which_follows(at_terminal):
    shown = at_terminal("tty; {run} /bin/sh -c 'tty; stty size'", rows=37)
    first, second, size = shown.split("\r\n")[:3]
    assert first.startswith("/dev/pts/") and second.startswith("/dev/pts/") and first != second
    assert size == "37 80"


@pytest.mark.parametrize("stream", ["", " | cat", " 2>/dev/null"])
def test_what_is_typed_is_read_once_it_is_asked_for(stream, at_terminal):
    shown = at_terminal("{run} /bin/sh -c 'echo name; read name; echo it is $name'" + stream, (b"name", b"Anna\r"))
    assert "it is Anna" in shown
    assert "<code 0, cooked True, left b''>" in shown


def test_a_password_is_asked_for_though_all_streams_are_elsewhere(at_terminal):
    ask = "import getpass; print(getpass.getpass())"
    shown = at_terminal("{run} {python} -c '" + ask + "' </dev/null | sed s/^/got-/", (b"Password", b"secret\r"))
    assert "got-secret" in shown
    assert "cooked True, left b''" in shown


def test_the_keys_are_those_of_what_stands_behind_the_pipe(at_terminal):
    # less does this: it reads the terminal while the command prints.
    behind = "sh -c 'echo ask; read key </dev/tty; cat >/dev/null; echo key $key'"
    shown = at_terminal("{run} /bin/sh -c 'sleep 1; echo done' | " + behind, (b"ask", b"q\r"))
    assert "key q" in shown


@pytest.mark.parametrize("stream", ["", " | cat"])
def test_ctrl_c_ends_the_command(stream, at_terminal):
    script = "trap : INT; {run} /bin/sh -c 'echo begun; exec sleep 30'" + stream + "; echo code $?"
    shown = at_terminal(script, (b"begun", b"\x03"))
    assert "code 130" in shown
    assert "cooked True" in shown


def test_ctrl_z_stops_it_and_fg_goes_on(at_terminal):
    shell = "exec bash --norc -i"
    shown = at_terminal(
        "TERM=dumb PS1=ready- " + shell,
        (b"ready-", b"PS1=again-; RUN\n".replace(b"RUN", f"{sys.executable} -IS {TERMINAL} root /bin/cat".encode())),
        (b"/bin/cat\r\n", b"one\r"),
        (b"one\r\none", b"\x1a"),
        (b"Stopped", b"fg\n"),
        (b"fg\r\n", b"two\r"),
        (b"two\r\ntwo", b"\x04"),
        (b"two\r\ntwo\r\nagain-", b"exit\n"),
    )
    assert "<code 0, cooked True, left b''>" in shown


@pytest.mark.parametrize(
    ("code", "expected"), [("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)], ids=["exit", "kill", "term"]
)
@pytest.mark.parametrize("stream", ["", " </dev/null"])
def test_its_exit_status_is_the_commands(code, expected, stream, at_terminal):
    assert f"<code {expected}," in at_terminal(f"{{run}} /bin/sh -c '{code}'{stream}")


def test_pipes_keep_every_byte(at_terminal, tmp_path):
    (tmp_path / "in").write_bytes(os.urandom(1_000_000) + b"\x03\x04\r\n")
    at_terminal("{run} /bin/cat <in | cat >out1; cat in | {run} /bin/cat >out2 2>&1")
    assert (tmp_path / "out1").read_bytes() == (tmp_path / "out2").read_bytes() == (tmp_path / "in").read_bytes()


def test_all_that_it_prints_at_its_end_is_shown(at_terminal):
    shown = at_terminal("{run} /bin/sh -c 'seq 200000'")
    assert "\n199999\r\n200000\r\n<code 0" in shown


def test_a_closed_pipe_ends_the_command(at_terminal):
    assert "<code 0, " in at_terminal("timeout 10 {run} /usr/bin/yes | head -n 1")


def test_what_root_is_ended_by_ends_the_command_too(at_terminal):
    shown = at_terminal("timeout --foreground 1 {run} /bin/sleep 30; echo code $?")
    assert "code 124" in shown


def test_it_has_nothing_else_of_roots():
    command = [sys.executable, "-IS", str(TERMINAL), "nobody"]
    environ = {"SECRET": "of root", "TERM": "vt100"}
    options = {"env": environ, "capture_output": True, "text": True, "check": True, "stdin": subprocess.DEVNULL}
    assert subprocess.run([*command, "/usr/bin/env"], **options).stdout == "TERM=vt100\n"
    with open("/etc/shadow") as secret:
        script = "id -un; id -G; umask; pwd; ls /proc/self/fd"
        found = subprocess.run([*command, "/bin/sh", "-c", script], **options, pass_fds=[secret.fileno()]).stdout
    assert found.split() == ["nobody", "65534", "0022", "/", "0", "1", "2", "3"]
    assert "NoNewPrivs:\t1\n" in subprocess.run([*command, "/bin/cat", "/proc/self/status"], **options).stdout
