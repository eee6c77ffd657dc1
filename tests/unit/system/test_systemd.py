"""What systemd says of its units, and whether a service is older than its configuration."""

import datetime
import os

import pytest

from saltern.system import systemd

NOW = 1_000_000


@pytest.mark.parametrize(
    "changed, started, expected",
    [
        (900, 1000, False),
        (1000, 900, True),
        (900, 900, False),
        # A time in the future, since the clock was set back: a restart would not mend it, so it does not count.
        (NOW + 100, 900, False),
    ],
)
def test_a_service_is_restarted_for_a_file_that_is_newer(tmp_path, changed, started, expected):
    file = tmp_path / "service.conf"
    file.touch()
    os.utime(file, (changed, changed))
    assert systemd.newer([str(file), str(tmp_path / "absent")], started, NOW) is expected


@pytest.mark.parametrize(
    "recorded, since_boot, expected",
    [
        # The host was booted at 999_000, and its clock was never set.
        (999_500, 500, 999_500),
        # The clock was set back by 100 s since then: the start would seem older.
        (999_600, 500, 999_600),
        # The clock was set forward by 100 s since then.
        (999_400, 500, 999_500),
        # The file's time was in the future when the unit started.
        (NOW + 1, 500, 999_500),
    ],
)
def test_a_change_of_the_clock_makes_no_service_look_older(recorded, since_boot, expected):
    written = datetime.datetime.fromtimestamp(recorded, datetime.UTC)
    shown = {
        "ActiveEnterTimestamp": f"{written:%a %Y-%m-%d %H:%M:%S}.250000 UTC",
        "ActiveEnterTimestampMonotonic": str(int((since_boot + 0.25) * 1_000_000)),
    }
    assert systemd.moment(shown, NOW, 1000) == expected + 0.25


def test_a_time_that_systemd_does_not_tell_is_long_ago():
    shown = {"ActiveEnterTimestamp": "", "ActiveEnterTimestampMonotonic": "0"}
    assert systemd.moment(shown, NOW, 1000) == 0


@pytest.mark.parametrize(
    "active, enabled, on, off",
    [
        ("active", "enabled", True, False),
        ("inactive", "disabled", False, True),
        ("inactive", "", False, True),
        # In between, neither holds.
        ("active", "disabled", False, False),
        ("failed", "enabled", False, False),
    ],
)
def test_a_unit_is_on_or_off_or_neither(monkeypatch, active, enabled, on, off):
    shown = {"ActiveState": active, "UnitFileState": enabled}
    monkeypatch.setattr(systemd, "shown", lambda unit, *names, among: shown)
    assert systemd.is_switched("some.timer", True) is on
    assert systemd.is_switched("some.timer", False) is off


SHOWN = """ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no

ActiveState=inactive
UnitFileState=
NeedDaemonReload=yes
"""
CHUNKS = [
    {"state": "unit", "fun": "running", "name": "nginx"},
    {"state": "service_config", "fun": "unit_read", "name": "the units", "units": ["nginx", "supervisor"]},
    {"state": "service_config", "fun": "loaded", "name": "supervisor"},
    {"state": "file", "fun": "managed", "name": "/etc/hosts"},
]


@pytest.fixture
def context():
    """What Salt keeps for a run: its ``__context__``."""
    return {}


@pytest.fixture
def asked(monkeypatch):
    """The units that systemd was asked about, each time."""
    commands = []

    class Systemctl:
        returncode = 0

        def __init__(self, command, **_):
            self.units = command[command.index("-p") + 2 :]
            commands.append(self.units)

        def communicate(self):
            return (SHOWN if len(self.units) == 2 else "ActiveState=failed\n", "")

    monkeypatch.setattr(systemd.subprocess, "Popen", Systemctl)
    return commands


def test_in_a_run_that_changes_nothing_systemd_is_asked_once(asked, context):
    among = systemd.among(context, False, "one", CHUNKS, {"a": {"changes": {}, "result": True}})
    assert among.units == ["nginx", "supervisor"]
    assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "active"}
    assert systemd.is_read("nginx", among=among)
    assert not systemd.is_read("supervisor", among=among)
    assert systemd.started("supervisor", among=among) is None
    assert asked == [["nginx", "supervisor"]]


@pytest.mark.parametrize(
    "ret",
    [
        {"changes": {"a": "b"}, "result": True},
        {"changes": {}, "result": False},
        # A state that runs in parallel.
        {"changes": {}, "result": None},
    ],
)
def test_once_something_was_done_each_unit_is_asked_about_as_it_is_then(asked, context, ret):
    among = systemd.among(context, False, "one", CHUNKS, {})
    assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "active"}
    among = systemd.among(context, False, "one", CHUNKS, {"a": ret})
    assert among is None
    assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "failed"}
    assert asked == [["nginx", "supervisor"], ["nginx"]]


def test_systemd_answers_while_the_run_goes_on(asked, context):
    among = systemd.among(context, False, "one", CHUNKS, {})
    systemd.begin(among)
    assert asked == [["nginx", "supervisor"]]
    assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "active"}
    assert len(asked) == 1


def test_an_answer_does_not_last(asked, context, monkeypatch):
    among = systemd.among(context, False, "one", CHUNKS, {})
    systemd.shown("nginx", "ActiveState", among=among)
    later = systemd.time.monotonic() + systemd.SETTLED + 1
    monkeypatch.setattr(systemd.time, "monotonic", lambda: later)
    systemd.shown("nginx", "ActiveState", among=among)
    systemd.shown("elsewhere", "ActiveState", among=among)
    assert asked == [["nginx", "supervisor"], ["nginx", "supervisor"], ["elsewhere"]]


def test_an_answer_is_one_run_s(asked, context):
    for run in ("one", "another"):
        among = systemd.among(context, False, run, CHUNKS, {})
        assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "active"}
    assert asked == [["nginx", "supervisor"]] * 2


def test_a_part_of_an_answer_is_no_answer(asked, context):
    chunks = [*CHUNKS, {"state": "unit", "fun": "running", "name": "more"}]
    among = systemd.among(context, False, "one", chunks, {})
    for _ in range(2):
        assert systemd.shown("nginx", "ActiveState", among=among) == {"ActiveState": "failed"}
    assert asked == [["more", "nginx", "supervisor"], ["nginx"], ["nginx"]]


def test_values_that_a_command_gave_systemd_do_not_override_the_files(monkeypatch, tmp_path):
    monkeypatch.setattr(systemd, "TOLD", str(tmp_path))
    kept, said = tmp_path / "app-shop.slice.d", []

    def do(*words):
        said.append(words)
        kept.mkdir()
        for name in ("TasksMax", "CPUQuota", "MemoryMaxScale"):
            (kept / f"50-{name}.conf").write_text("[Slice]\n")

    monkeypatch.setattr(systemd, "_do", do)
    systemd.enforce("app-shop.slice", {"TasksMax": "60", "CPUQuota": "", "MemoryMax": "75%"})
    assert said == [
        ("set-property", "--runtime", "app-shop.slice", "CPUQuota=", "MemoryMax=75%", "TasksMax=60"),
    ]
    assert not kept.exists()
