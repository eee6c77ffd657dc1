"""How the launcher ends processes: which ones get a signal, which ones still run, and how long it waits."""

import os
import signal
import subprocess
import sys
import time

import pytest

NULL, PIPE = "/dev/null", "pipe:[1]"


@pytest.fixture
def tree(launcher):
    """A function that makes processes, each from (PID, parent, program, further fields)."""

    def make(*rows):
        made = [launcher.ending.Process(pid, parent, name, stdin=PIPE) for pid, parent, name, _ in rows]
        for process, (*_, details) in zip(made, rows, strict=True):
            vars(process).update(details)
        return {process.pid: process for process in made}

    return make


TERM = {"caught": 1 << 14}
# The processes that a line has started, and the PIDs that get SIGTERM: shells first, then programs.
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


# The first thread ends and another one goes on.
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def run():
    """A function that runs Python code as a process, and returns the process once it has printed a line."""
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


def test_a_chain_of_processes_that_fork_and_end_is_still_found(launcher, run, monkeypatch):
    scope = launcher.scope.Scope("shop", "3", "web.1")
    process = run("print(flush=True); input()")
    with subprocess.Popen(["true"]) as ended:
        pass
    # The PIDs in the control group at each look.
    reads = []
    monkeypatch.setattr(launcher.scope.Scope, "pids", lambda self: reads.pop(0))
    reads[:] = [[ended.pid], [ended.pid, process.pid]]
    assert [*scope.found()] == [process.pid]
    reads[:] = [[ended.pid], [os.getpid()]]
    assert scope.found() == {}
    reads[:] = [[os.getpid(), ended.pid]] * launcher.scope.LOOKS
    assert [*scope.found()] == [ended.pid]


class Within:
    """A scope that has one process, whatever its control group says."""

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


def test_a_signal_reaches_only_processes_of_the_scope(launcher, run, monkeypatch, tmp_path):
    process = run("print(flush=True); input()")
    scope = launcher.scope.Scope("shop", "3", "web.1")
    scope.send(process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert process.poll() is None
    with open(f"/proc/{process.pid}/cgroup", encoding="ascii") as file:
        scope.below = file.readline().rstrip("\n").split("/", 1)[1]
    scope.send(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    # The process has ended.
    scope.send(process.pid, signal.SIGKILL)
