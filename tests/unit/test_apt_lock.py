"""apt's lock: who holds it, and how long a run waits."""

import subprocess
import sys

import pytest

HOLD = """
import fcntl, sys
stream = open(sys.argv[1], "w")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def lock(tmp_path):
    """A free lock, and a function that starts a process that holds it."""
    path = tmp_path / "lock-frontend"
    path.touch()
    started = []

    def hold():
        command = [sys.executable, "-c", HOLD, path]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.stdout.readline()
        return process

    yield path, hold
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_the_holder_is_named(apt_lock, lock):
    path, hold = lock
    files = [path.parent / "absent", path]
    assert apt_lock.holder(files) == ""
    process = hold()
    assert apt_lock.holder(files).startswith(f"PID {process.pid} (python")
    assert apt_lock.holder(files).endswith(f") holds {path}")


def test_a_run_waits_says_for_whom_and_goes_on(apt_lock, lock, monkeypatch, capsys):
    path, hold = lock
    monkeypatch.setattr(apt_lock, "POLL", 0.01)
    assert apt_lock.wait(5, [path]) == ("", "")
    process = hold()
    held, holds = apt_lock.wait(0.1, [path])
    assert held == holds != ""
    said = capsys.readouterr().err
    assert said.startswith(f"apt: PID {process.pid} (python")
    assert said.endswith("; this run waits for it, 0 s at most\n")
    monkeypatch.setattr(apt_lock.time, "sleep", lambda _: process.kill() or process.wait())
    held, holds = apt_lock.wait(5, [path])
    assert (f"PID {process.pid} " in held, holds) == (True, "")


LOW = [
    {"state": "pkg", "fun": "installed", "name": "base-packages", "pkgs": ["nginx", {"curl": "8"}]},
    {"state": "pkg", "fun": "installed", "name": "redis-server"},
    {"state": "pkg", "fun": "purged", "name": "apache2"},
    {"state": "file", "fun": "managed", "name": "/etc/motd"},
]


@pytest.mark.parametrize(
    "there, expected",
    [(["nginx"], ["curl", "redis-server"]), (["nginx", "curl", "redis-server"], [])],
)
def test_what_a_run_would_install_is_found(apt_lock, dunders, there, expected):
    dunders(apt_lock, salt={"pkg.list_pkgs": lambda: dict.fromkeys(there, "1")})
    assert apt_lock.missing(LOW) == expected


FREE = {
    "nothing to install": ([], False, None, True, "No package is to be installed"),
    "a dry run": (["curl"], True, None, True, "It would be waited for"),
    "nobody": (["curl"], False, ("", ""), True, "Nobody holds its lock"),
    "somebody": (["curl"], False, ("PID 7 (apt) holds x", ""), True, "It was waited for: PID 7 (apt) holds x"),
    "somebody for too long": (
        ["curl", "nginx"],
        False,
        ("PID 7 (apt) holds x", "PID 7 (apt) holds x"),
        False,
        "curl, nginx cannot be installed: PID 7 (apt) holds x, after 300 s still. Nothing was touched; let it end, or "
        "end it, and run this again",
    ),
}


@pytest.mark.parametrize("packages, test, waited, result, comment", FREE.values(), ids=FREE)
def test_a_run_that_needs_apt_waits_or_fails_before_it_changes_anything(
    apt_lock_states, dunders, packages, test, waited, result, comment
):
    salt = {"apt_lock.missing": lambda _: packages, "apt_lock.wait": lambda _: waited}
    dunders(apt_lock_states, salt=salt, opts={"test": test}, lowstate=[])
    done = apt_lock_states.free("apt")
    assert (done["result"], done["comment"], done["changes"]) == (result, comment, {})


@pytest.mark.parametrize(
    "is_converged, test, arguments",
    [
        (True, False, []),
        (True, True, []),
        (False, False, [{"aggregate": True}]),
        (False, True, [{"aggregate": True}, {"unless": "true"}]),
    ],
)
def test_a_new_host_has_all_packages_in_one_transaction(
    apt_lock, dunders, monkeypatch, tmp_path, is_converged, test, arguments
):
    monkeypatch.setattr(apt_lock, "CONVERGED", str(tmp_path if is_converged else tmp_path / "none"))
    dunders(apt_lock, opts={"test": test})
    assert apt_lock.together() == arguments
