"""Processes as supervisor is to run them."""

import configparser
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltern.services import redis


def supervisors_parser(text):
    """Read a file as supervisor's own parser does: no interpolation by it, comments after values cut off."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(text)
    return parser


FORMATIONS = {
    "nothing": ({}, 0, {}),
    "none of a type": ({"web": 0, "worker": 0}, 0, {}),
    "the first slot": (
        {"worker": 2, "web": 2},
        0,
        {"web.1": 8101, "web.2": 8102, "worker.1": None, "worker.2": None},
    ),
    "the second slot": ({"web": 2}, 1, {"web.1": 8150, "web.2": 8151}),
}


@pytest.mark.parametrize("formation, slot, expected", FORMATIONS.values(), ids=FORMATIONS)
def test_web_processes_have_a_port_each(process, formation, slot, expected):
    assert process.ports(formation, 8100, slot) == expected


def test_two_full_releases_and_redis_stay_inside_the_hundred_ports_of_an_app(process, schemas):
    (one,) = schemas["app"]["patternProperties"].values()
    (kind,) = one["properties"]["formation"]["patternProperties"].values()
    full = {"web": kind["maximum"]}
    used = [*process.ports(full, 8100, 0).values(), *process.ports(full, 8100, 1).values()]
    used += [8100, 8100 + redis.OFFSET]
    assert sorted(used) == sorted(set(used))
    assert min(used) == 8100
    assert max(used) < 8200


PORTS = {"web.1": 8101, "web.2": 8102, "worker.1": None, "send_mail-now.1": None}


def test_what_is_rendered_reads_back_as_it_was_meant(process):
    text = process.rendered("my-shop", 12, PORTS, {"worker": 90})
    parser = supervisors_parser(text)
    assert parser.sections() == [f"program:my-shop.v12.{name}" for name in sorted(PORTS)]
    web = dict(parser["program:my-shop.v12.web.1"])
    assert web == {
        "command": "/usr/local/lib/saltern/process my-shop 12 web.1 8101",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "1000",
        "stopsignal": "TERM",
        "stopwaitsecs": "35",
        "killasgroup": "true",
        "stdout_logfile": "NONE",
        "stderr_logfile": "NONE",
    }
    worker = parser["program:my-shop.v12.worker.1"]
    assert worker["command"] == "/usr/local/lib/saltern/process my-shop 12 worker.1"
    assert worker["stopwaitsecs"] == "95"
    assert "%" not in text


def test_a_release_without_processes_is_a_file_without_sections(process):
    assert supervisors_parser(process.rendered("shop", 1, {}, {})).sections() == []


@pytest.fixture
def configuration(process, monkeypatch, tmp_path):
    """A directory in the place of supervisor's own."""
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    return tmp_path


def test_what_supervisor_is_to_run_is_read_back(process, configuration):
    (configuration / "shop.v3.conf").write_text(process.rendered("shop", 3, PORTS, {}))
    assert process.configured("shop", 3) == PORTS
    assert process.configured("shop", 4) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no section\n",
        b"\xff\xfe",
        b"[program:shop.v3.web.1]\n",
        b"[program:shop.v3.web.1]\ncommand=/bin/sh -c evil\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process other 3 web.1 8101\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 4 web.1 8101\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 3\n",
        b"[program:x]\ncommand=/usr/local/lib/saltern/process shop 3 web.1 8101 more\n",
    ],
)
def test_a_file_that_was_edited_runs_nothing_of_the_release(process, configuration, content):
    (configuration / "shop.v3.conf").write_bytes(content)
    assert process.configured("shop", 3) == {}


def test_releases_are_known_by_their_files(process, configuration):
    for name in ("shop.v10.conf", "shop.v9.conf", "my-shop.v1.conf", "shop.v1.conf.new", "other.conf", "shop.vx.conf"):
        (configuration / name).write_text("")
    assert process.releases() == [("my-shop", 1), ("shop", 9), ("shop", 10)]
    assert process.releases("shop") == [("shop", 9), ("shop", 10)]


@pytest.mark.parametrize(
    "graces, expected",
    [({}, 30), ({"shop": {"web": 5}}, 30), ({"shop": {"worker": 60}, "faq": {"worker": 120, "web": 10}}, 120)],
)
def test_the_longest_grace_is_that_of_all_apps_and_the_default(process, graces, expected):
    assert process.longest_grace({app: {"grace": grace} for app, grace in graces.items()}) == expected


def test_no_process_runs_before_supervisor_does(process, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "SOCKET", str(tmp_path / "none.sock"))
    assert process.info("shop") == {}


def test_the_socket_of_a_supervisor_that_was_killed_is_none(process, monkeypatch, tmp_path):
    path = str(tmp_path / "supervisor.sock")
    monkeypatch.setattr(process, "SOCKET", path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert process.is_up()
    assert os.path.exists(path)
    assert not process.is_up()
    assert process.info("shop") == {}


@pytest.fixture
def groups(process, monkeypatch, tmp_path):
    """A function that makes a process's control group, in the place of the kernel's; it takes the PIDs in it."""
    monkeypatch.setattr(process, "GROUPS", str(tmp_path))
    (tmp_path / "cgroup.procs").touch()

    def make(slice_, scope, *pids):
        directory = tmp_path / "app.slice" / slice_ / scope
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    return make


def test_what_runs_as_a_process_is_in_a_control_group_of_its_own(process, groups):
    groups(r"app-my\x2dshop.slice", r"app-my\x2dshop-send_mail\x2dnow-1.v12.scope", 41, 42)
    assert process.pids("my-shop", 12, "send_mail-now.1") == [41, 42]
    assert process.pids("my-shop", 12, "send_mail-now.2") == []
    assert process.pids("my", 12, "shop.1") == []


def test_what_supervisor_does_not_run_is_left_behind(process, groups, monkeypatch):
    monkeypatch.setattr(process, "info", lambda app: {"shop.v3.web.1": {}, "shop.v3.web-1.1": {}})
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
    assert process.strays("shop") == ["shop.v2.web-1.1", "shop.v2.web.1"]
    assert process.strays("absent") == []


def test_what_is_to_start_again_is_left_to_its_launcher(process, monkeypatch):
    ran, called = [], []
    monkeypatch.setattr(process, "is_up", lambda: True)
    monkeypatch.setattr(process, "_reloaded", lambda: ((["shop.v3.web.1", "faq.v1.web.1"], [], []),))
    monkeypatch.setattr(process, "info", lambda app: {})
    monkeypatch.setattr(process, "strays", lambda app: ["shop.v2.web.1", "shop.v3.web.1"])
    monkeypatch.setattr(process, "_call", lambda *words: called.append(words))
    monkeypatch.setattr(process.subprocess, "run", lambda command, check: ran.append(command))
    process._update("shop")
    assert ran == [[process.LAUNCHER, "--end", "shop.v2.web.1"]]
    assert called == [("addProcessGroup", "shop.v3.web.1")]


@pytest.mark.parametrize("refuses", [False, True])
def test_a_supervisor_that_dies_while_it_stops_processes_is_waited_for(process, monkeypatch, refuses):
    """The supervisord that comes in its place knows nothing of what left, and has what is in the files already."""
    ups, called, ran = [True, True, False, False, False, True], [], []
    monkeypatch.setattr(process, "is_up", lambda: ups.pop(0) if len(ups) > 1 else ups[0])
    monkeypatch.setattr(process.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(process, "strays", lambda app: ["shop.v2.web.1"])
    monkeypatch.setattr(process, "_end_unscoped", lambda app: None)
    monkeypatch.setattr(process.subprocess, "run", lambda command, check: ran.append(command))
    faults = {"removeProcessGroup": "BAD_NAME: x", "addProcessGroup": "NO_FILE: x" if refuses else "ALREADY_ADDED: x"}

    def call(method, *arguments):
        called.append(method)
        if method == "getAllProcessInfo":
            raise CommandExecutionError("supervisor does not answer on /run/supervisor.sock: [Errno 104]")
        if method in faults:
            raise CommandExecutionError(f"supervisor: {method}: {faults[method]}")
        return ((["shop.v3.web.1"], [], ["shop.v2.web.1"]),)

    monkeypatch.setattr(process, "_call", call)
    with pytest.raises(CommandExecutionError, match="NO_FILE") if refuses else contextlib.nullcontext():
        process._update("shop")
    end = ["removeProcessGroup", "addProcessGroup"]
    assert called == ["reloadConfig", "stopProcessGroup", "getAllProcessInfo", *end]
    assert ran == [[process.LAUNCHER, "--end", "shop.v2.web.1"]]


def test_what_is_told_to_end_does_not_start_again_under_another_supervisord(process, groups, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    ports = {"beat.1": None, "web.1": 8101, "worker.1": None, "worker.11": None, "worker.2": None}
    process._write("shop", 3, ports, {"worker": 60})
    before = configparser.RawConfigParser()
    before.read(process.path("shop", 3))
    groups("app-shop.slice", "app-shop-worker-2.v3.scope", 7)
    states = {"shop.v3.beat.1": "RUNNING", "shop.v3.worker.1": "BACKOFF", "shop.v3.worker.2": "STOPPED"}
    monkeypatch.setattr(process, "is_up", lambda: True)
    monkeypatch.setattr(process, "info", lambda app, release: {name: {"state": one} for name, one in states.items()})
    called, ran = [], []
    monkeypatch.setattr(process, "_call", lambda *words: called.append(words))
    monkeypatch.setattr(process.subprocess, "run", lambda command, check: ran.append(command[-3:]))
    for _ in range(2):
        process.tell("shop", 3, ["beat.1", "worker.1", "worker.2"])
        after = configparser.RawConfigParser()
        after.read(process.path("shop", 3))
        # What the release runs is known as before; supervisor restarts what has another configuration.
        assert process.configured("shop", 3) == ports
        assert [name for name in after if after[name] == before[name]] == [
            "DEFAULT",
            "program:shop.v3.web.1",
            "program:shop.v3.worker.11",
        ]
        for name in states:
            told = {"autostart": "false", "autorestart": "false"}
            assert dict(after[f"program:{name}"]) == dict(before[f"program:{name}"]) | told
    # What supervisor runs it is told to stop; what has outlived its supervisord is ended beside it.
    assert called == [("stopProcess", name, False) for name in ("shop.v3.beat.1", "shop.v3.worker.1")] * 2
    assert ran == [[process.LAUNCHER, "--end", "shop.v3.worker.2"]] * 2


def test_what_outlived_a_supervisor_is_known_by_its_launchers(process, groups, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    command = {"web-1": ["my-shop", "3", "web.1", "8151"], "send\\x2dnow-2": ["my-shop", "3", "send-now.2"]}
    started = []
    for name, words in (command | {"release-0": ["my-shop", "3", "release"]}).items():
        # As its launcher is called: what runs has other words.
        code = [sys.executable, "-c", "input()", process.LAUNCHER, "--first", *words]
        started.append(subprocess.Popen(code, stdin=subprocess.PIPE))
        groups(r"app-my\x2dshop.slice", rf"app-my\x2dshop-{name}.v3.scope", started[-1].pid, os.getpid())
    called = {"getAllConfigInfo": [{"name": "faq.v1.web.1", "command": "x", "stopwaitsecs": 35}]}
    monkeypatch.setattr(process, "_call", lambda method: called[method])
    ports = {"web.1": 8151, "send-now.2": None}
    for is_up in (False, True):
        monkeypatch.setattr(process, "is_up", lambda is_up=is_up: is_up)
        assert process.running("my-shop", 3) == (ports if os.getuid() == 0 else {})
        assert process.running("my-shop", 2) == process.running("shop", 3) == {}
    process.keep("my-shop", 3, {"web": 90})
    text = process.rendered("my-shop", 3, ports, {"web": 90})
    assert os.getuid() or (tmp_path / "my-shop.v3.conf").read_text() == text
    for one in started:
        one.communicate(b"\n")


def test_a_file_that_supervisor_cannot_read_is_found_by_what_supervisor_says(process, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CONFIG", str(tmp_path))
    assert process._named("File contains no section headers.\nfile: '/etc/other.conf', line: 1") is None
    for name in ("faq.v1.conf", "shop.v3.conf", "own.conf"):
        (tmp_path / name).write_text("[program:x]\n")
    told = "invalid literal for int() with base 10: 'x' in section 'program:x' (file: '{}')"
    assert process._named(told.format(tmp_path / "shop.v3.conf")) == str(tmp_path / "shop.v3.conf")
    assert process._named(told.format(tmp_path / "own.conf")) is None
    # What supervisor cannot decode it does not name.
    (tmp_path / "faq.v1.conf").write_bytes(b"\xff\xfe")
    told = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert process._named(told) == str(tmp_path / "faq.v1.conf")


def test_a_process_in_a_directory_that_was_removed_is_found(process, monkeypatch, tmp_path):
    build = tmp_path / "build"
    (build / "src").mkdir(parents=True)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=build / "src", **pipes) as it:
        it.stdout.readline()
        monkeypatch.setattr(process, "info", lambda app, release: {"shop.v1.web.1": {"pid": it.pid}})
        monkeypatch.setattr(process, "pids", lambda app, release, name: [it.pid] if name == "web.1" else [])
        assert process.displaced("shop", 1, str(build), os.getuid()) == {}
        shutil.rmtree(build)
        removed = {"shop.v1.web.1": "runs in a directory that was removed"}
        assert process.displaced("shop", 1, str(build), os.getuid()) == removed
        # Not even where there is another one of its name.
        (build / "src").mkdir(parents=True)
        assert process.displaced("shop", 1, str(build), os.getuid()) == removed
        assert process.displaced("shop", 1, str(tmp_path / "other"), os.getuid()) == {}
        it.communicate(b"\n")


# --- The unit ---------------------------------------------------------------------------------------------------------

UNIT = Path(__file__).parents[2] / "formulas/supervisor/files/supervisor.service.jinja"
ENDED = UNIT.with_name("supervisor-ended.sh")
# What systemd tells of supervisord's end, the job that it has for the unit then, the states that the unit has next, and
# whether its processes end.
ENDS = {
    "it ended by itself": ("success", "", "", True),
    "it was killed": ("signal", "", "activating activating active", False),
    "it was killed again and again": ("signal", "", "activating failed activating inactive activating active", False),
    "a file of its configuration is none": ("exit-code", "", "deactivating activating active", False),
    "it was killed while it started": ("signal", "57 supervisor.service start running", "activating active", False),
    "it was killed, and its restart called off": ("signal", "", "deactivating activating inactive inactive", True),
    "it was killed, and systemd gave up": ("signal", "", "activating failed failed", True),
    "it was stopped": ("success", "57 supervisor.service stop running", "", True),
    "it was stopped while it started": ("signal", "57 supervisor.service stop running", "", True),
    "it did not stop in time, for a restart": ("timeout", "57 supervisor.service restart running", "", True),
}


@pytest.fixture
def run_of_unit(tmp_path):
    """A function that runs one of the unit's shell commands as systemd would, and returns its exit status."""

    def run(setting, systemctl="", supervisorctl="", **variables):
        text = UNIT.read_text().replace("\\\n", "").replace("/usr/local/lib/saltern", str(tmp_path))
        (line,) = (line for line in text.splitlines() if line.startswith(f"{setting}="))
        commands = {"systemctl": systemctl, "supervisorctl": supervisorctl, "process": 'echo "$@" >"$0.ran"'}
        # What systemd is to run by itself, runs.
        commands |= {"sleep": "", "systemd-run": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'}
        scripts = {name: f"#!/bin/sh\n{command}\n" for name, command in commands.items()}
        scripts["supervisor-ended"] = ENDED.read_text().replace("/usr/local/lib/saltern", str(tmp_path))
        for name, script in scripts.items():
            (tmp_path / name).write_text(script)
            (tmp_path / name).chmod(0o755)
        command = shlex.split(line.partition("=")[2].removeprefix("-"))
        return subprocess.run(command, env={"PATH": f"{tmp_path}:{os.defpath}"} | variables, check=False).returncode

    return run


@pytest.mark.parametrize("result, job, states, is_end", ENDS.values(), ids=ENDS)
def test_processes_end_where_supervisor_was_to_stop_and_go_on_where_it_died(
    run_of_unit, tmp_path, result, job, states, is_end
):
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states.split()))
    state = f"sed -n 1p {tmp_path}/states; sed -i 1d {tmp_path}/states"
    systemctl = f"case $1 in list-jobs) echo '{job}';; is-active) {state};; esac"
    assert run_of_unit("ExecStopPost", systemctl=systemctl, SERVICE_RESULT=result) == 0
    ran = tmp_path / "process.ran"
    assert (ran.read_text() if ran.exists() else "") == ("--end\n" if is_end else "")


def test_a_supervisord_that_dies_while_it_starts_is_not_waited_for(run_of_unit):
    with subprocess.Popen(["true"]) as ended:
        pass
    assert run_of_unit("ExecStartPost", supervisorctl="exit 1", MAINPID=str(ended.pid)) == 1
    assert run_of_unit("ExecStartPost", supervisorctl="exit 0", MAINPID=str(os.getpid())) == 0
