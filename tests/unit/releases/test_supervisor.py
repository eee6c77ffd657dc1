"""Questions and commands to supervisor."""

import configparser
import contextlib
import os
import shutil
import socket
import subprocess
import sys

import pytest
from salt.exceptions import CommandExecutionError

from saltern.releases import process, scopes, supervisor


def test_no_process_runs_before_supervisor_does(monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "SOCKET", str(tmp_path / "none.sock"))
    assert supervisor.info("shop") == {}


def test_the_socket_of_a_supervisor_that_was_killed_is_none(monkeypatch, tmp_path):
    path = str(tmp_path / "supervisor.sock")
    monkeypatch.setattr(supervisor, "SOCKET", path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert supervisor.is_up()
    assert os.path.exists(path)
    assert not supervisor.is_up()
    assert supervisor.info("shop") == {}


def test_what_supervisor_does_not_run_is_left_behind(groups, monkeypatch):
    monkeypatch.setattr(supervisor, "info", lambda app: {"shop.v3.web.1": {}, "shop.v3.web-1.1": {}})
    for scope, pids in {
        "app-shop-web-1.v3.scope": [1],
        "app-shop-web-1.v2.scope": [2, 3],
        "app-shop-web-2.v2.scope": [],
        r"app-shop-web\x2d1-1.v2.scope": [4],
        "app-shop-release-0.v4.scope": [5],
        "app-shop-run-77.scope": [6],
    }.items():
        groups("app-shop.slice", scope, *pids)
    groups("app-other.slice", "app-other-web-1.v9.scope", 7)
    assert supervisor.strays("shop") == ["shop.v2.web-1.1", "shop.v2.web.1"]
    assert supervisor.strays("absent") == []


def test_what_is_to_start_again_is_left_to_its_launcher(monkeypatch):
    ran, called = [], []
    monkeypatch.setattr(supervisor, "is_up", lambda: True)
    monkeypatch.setattr(supervisor, "_reloaded", lambda: ((["shop.v3.web.1", "faq.v1.web.1"], [], []),))
    monkeypatch.setattr(supervisor, "info", lambda app: {})
    monkeypatch.setattr(supervisor, "strays", lambda app: ["shop.v2.web.1", "shop.v3.web.1"])
    monkeypatch.setattr(supervisor, "_call", lambda *words: called.append(words))
    monkeypatch.setattr(supervisor.subprocess, "run", lambda command, check: ran.append(command))
    supervisor._update("shop")
    assert ran == [[process.LAUNCHER, "--end", "shop.v2.web.1"]]
    assert called == [("addProcessGroup", "shop.v3.web.1")]


@pytest.mark.parametrize("refuses", [False, True])
def test_a_supervisor_that_dies_while_it_stops_processes_is_waited_for(monkeypatch, refuses):
    """A new supervisord does not know the programs that left, and already has those in the files."""
    ups, called, ran = [True, True, False, False, False, True], [], []
    monkeypatch.setattr(supervisor, "is_up", lambda: ups.pop(0) if len(ups) > 1 else ups[0])
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(supervisor, "strays", lambda app: ["shop.v2.web.1"])
    monkeypatch.setattr(supervisor, "_end_unscoped", lambda app: None)
    monkeypatch.setattr(supervisor.subprocess, "run", lambda command, check: ran.append(command))
    faults = {"removeProcessGroup": "BAD_NAME: x", "addProcessGroup": "NO_FILE: x" if refuses else "ALREADY_ADDED: x"}

    def call(method, *arguments):
        called.append(method)
        if method == "getAllProcessInfo":
            raise CommandExecutionError("supervisor does not answer on /run/supervisor.sock: [Errno 104]")
        if method in faults:
            raise CommandExecutionError(f"supervisor: {method}: {faults[method]}")
        return ((["shop.v3.web.1"], [], ["shop.v2.web.1"]),)

    monkeypatch.setattr(supervisor, "_call", call)
    with pytest.raises(CommandExecutionError, match="NO_FILE") if refuses else contextlib.nullcontext():
        supervisor._update("shop")
    end = ["removeProcessGroup", "addProcessGroup"]
    assert called == ["reloadConfig", "stopProcessGroup", "getAllProcessInfo", *end]
    assert ran == [[process.LAUNCHER, "--end", "shop.v2.web.1"]]


def test_what_is_told_to_end_does_not_start_again_under_another_supervisord(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    ports = {"beat.1": None, "web.1": 8101, "worker.1": None, "worker.11": None, "worker.2": None}
    process.write("shop", 3, ports, {"worker": 60})
    before = configparser.RawConfigParser()
    before.read(process.path("shop", 3))
    groups("app-shop.slice", "app-shop-worker-2.v3.scope", 7)
    states = {"shop.v3.beat.1": "RUNNING", "shop.v3.worker.1": "BACKOFF", "shop.v3.worker.2": "STOPPED"}
    monkeypatch.setattr(supervisor, "is_up", lambda: True)
    monkeypatch.setattr(supervisor, "info", lambda app, release: {name: {"state": one} for name, one in states.items()})
    called, ran = [], []
    monkeypatch.setattr(supervisor, "_call", lambda *words: called.append(words))
    monkeypatch.setattr(supervisor.subprocess, "run", lambda command, check: ran.append(command[-3:]))
    for _ in range(2):
        supervisor.tell("shop", 3, ["beat.1", "worker.1", "worker.2"])
        after = configparser.RawConfigParser()
        after.read(process.path("shop", 3))
        # The release's programs are known as before; supervisor restarts a program whose configuration changed.
        assert process.configured("shop", 3) == ports
        assert [name for name in after if after[name] == before[name]] == [
            "DEFAULT",
            "program:shop.v3.web.1",
            "program:shop.v3.worker.11",
        ]
        for name in states:
            told = {"autostart": "false", "autorestart": "false"}
            assert dict(after[f"program:{name}"]) == dict(before[f"program:{name}"]) | told
    # supervisor is told to stop what it runs; processes that have outlived their supervisord are ended directly.
    assert called == [("stopProcess", name, False) for name in ("shop.v3.beat.1", "shop.v3.worker.1")] * 2
    assert ran == [[process.LAUNCHER, "--end", "shop.v3.worker.2"]] * 2


def test_what_was_told_to_end_is_started_again_where_its_successor_is_taken_back(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    process.write("shop", 3, {"beat.1": None, "web.1": 8101}, {})
    before = (tmp_path / "shop.v3.conf").read_text()
    states, called, updated = {"shop.v3.beat.1": "STOPPED", "shop.v3.web.1": "RUNNING"}, [], []
    monkeypatch.setattr(supervisor, "info", lambda app, release: {name: {"state": one} for name, one in states.items()})
    monkeypatch.setattr(supervisor, "_call", lambda *words: called.append(words))
    monkeypatch.setattr(supervisor, "_update", updated.append)
    supervisor.resume("shop", 3)
    assert (called, updated) == ([], [])
    (tmp_path / "shop.v3.conf").write_text(process.without_start(before, ["shop.v3.beat.1"]))
    supervisor.resume("shop", 3)
    assert (tmp_path / "shop.v3.conf").read_text() == before
    assert (called, updated) == ([("startProcess", "shop.v3.beat.1", False)], ["shop"])


def test_what_outlived_a_supervisor_is_known_by_its_launchers(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    command = {"web-1": ["my-shop", "3", "web.1", "8151"], "send\\x2dnow-2": ["my-shop", "3", "send-now.2"]}
    started = []
    for name, words in (command | {"release-0": ["my-shop", "3", "release"]}).items():
        # The launcher's own title; the process that it runs has another one.
        code = [sys.executable, "-c", "input()", process.LAUNCHER, "--first", *words]
        started.append(subprocess.Popen(code, stdin=subprocess.PIPE))
        groups(r"app-my\x2dshop.slice", rf"app-my\x2dshop-{name}.v3.scope", started[-1].pid, os.getpid())
    called = {"getAllConfigInfo": [{"name": "faq.v1.web.1", "command": "x", "stopwaitsecs": 35}]}
    monkeypatch.setattr(supervisor, "_call", lambda method: called[method])
    ports = {"web.1": 8151, "send-now.2": None}
    for is_up in (False, True):
        monkeypatch.setattr(supervisor, "is_up", lambda is_up=is_up: is_up)
        assert supervisor.running("my-shop", 3) == (ports if os.getuid() == 0 else {})
        assert supervisor.running("my-shop", 2) == supervisor.running("shop", 3) == {}
    supervisor.keep("my-shop", 3, {"web": 90})
    text = process.rendered("my-shop", 3, ports, {"web": 90})
    assert os.getuid() or (tmp_path / "my-shop.v3.conf").read_text() == text
    for one in started:
        one.communicate(b"\n")


def test_a_file_that_supervisor_cannot_read_is_found_by_what_supervisor_says(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    assert supervisor._named("File contains no section headers.\nfile: '/etc/other.conf', line: 1") is None
    for name in ("faq.v1.conf", "shop.v3.conf", "own.conf"):
        (tmp_path / name).write_text("[program:x]\n")
    told = "invalid literal for int() with base 10: 'x' in section 'program:x' (file: '{}')"
    assert supervisor._named(told.format(tmp_path / "shop.v3.conf")) == str(tmp_path / "shop.v3.conf")
    assert supervisor._named(told.format(tmp_path / "own.conf")) is None
    # supervisor does not name a program that it cannot decode.
    (tmp_path / "faq.v1.conf").write_bytes(b"\xff\xfe")
    told = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert supervisor._named(told) == str(tmp_path / "faq.v1.conf")


def test_a_process_in_a_directory_that_was_removed_is_found(monkeypatch, tmp_path):
    build = tmp_path / "build"
    (build / "src").mkdir(parents=True)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=build / "src", **pipes) as it:
        it.stdout.readline()
        monkeypatch.setattr(supervisor, "info", lambda app, release: {"shop.v1.web.1": {"pid": it.pid}})
        monkeypatch.setattr(scopes, "pids", lambda app, release, name: [it.pid] if name == "web.1" else [])
        assert supervisor.displaced("shop", 1, str(build), os.getuid()) == {}
        shutil.rmtree(build)
        removed = {"shop.v1.web.1": "runs in a directory that was removed"}
        assert supervisor.displaced("shop", 1, str(build), os.getuid()) == removed
        # Not even if another process has the same name.
        (build / "src").mkdir(parents=True)
        assert supervisor.displaced("shop", 1, str(build), os.getuid()) == removed
        assert supervisor.displaced("shop", 1, str(tmp_path / "other"), os.getuid()) == {}
        it.communicate(b"\n")
