"""PostgreSQL's configuration: what the pillar sets, what PostgreSQL refuses of it, and what it restarts for."""

import json
from types import SimpleNamespace

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import postgres_config as config
from saltern.services import postgres_extensions, postgres_questions, postgres_server
from saltern.services.steps import Run
from saltern.system import systemd
from tests.unit.conftest import ROOT

TEMPLATE = (ROOT / "formulas/postgres/files/postgresql.conf.jinja").read_text()


def test_whatever_the_formula_sets_itself_is_refused_and_its_setting_is_named():
    own = {name for name, _ in config.LINE.findall(TEMPLATE) if not name.startswith("{{")}
    assert len(own) > 15
    assert own <= config.OWN.keys()
    told = config.mistakes({"settings": {"shared_buffers": "1GB", "port": "5433", "jit": "off"}})
    assert told == [
        "postgres.settings.port: is Saltern's own; expected another parameter",
        "postgres.settings.shared_buffers: is postgres.shared_buffers; expected it there",
    ]


VALUES = {
    "a number": ("1.1", "'1.1'"),
    "text": ("4GB", "'4GB'"),
    "an empty text": ("", "''"),
    "quotes and a backslash": ('it\'s \\ "x"', "'it''s \\\\ \"x\"'"),
}


@pytest.mark.parametrize("value, expected", VALUES.values(), ids=VALUES)
def test_a_value_is_written_as_postgresql_reads_it(monkeypatch, value, expected):
    monkeypatch.setattr(postgres_extensions, "libraries", lambda host: [])
    host = Host.of({}, {"postgres": {"settings": {"x": value}, "databases": {}}}, {})
    assert config.parameters(host) == {"x": expected}


@pytest.mark.parametrize(
    "loaded, given, expected",
    [
        ([], None, {}),
        (["pgaudit"], None, {"shared_preload_libraries": "'pgaudit'"}),
        (["pgaudit"], "auto_explain, pgaudit", {"shared_preload_libraries": "'pgaudit, auto_explain'"}),
        ([], "auto_explain", {"shared_preload_libraries": "'auto_explain'"}),
    ],
)
def test_libraries_of_the_pillar_come_beside_those_of_extensions(monkeypatch, loaded, given, expected):
    monkeypatch.setattr(postgres_extensions, "libraries", lambda host: loaded)
    settings = {"shared_preload_libraries": given} if given else {}
    assert config.parameters(Host.of({}, {"postgres": {"settings": settings}}, {})) == expected


IN_FILE = 'in file "/var/tmp/postgres-candidate-x/conf.d/saltern.conf" line 30'
REASONS = {
    "an unknown parameter": (
        f'2026-01-02 03:04:05.678 GMT [7] LOG:  unrecognized configuration parameter "work_memx" {IN_FILE}\n'
        '2026-01-02 03:04:05.678 GMT [7] FATAL:  configuration file "/var/tmp/x/saltern.conf" contains errors\n',
        ['unrecognized configuration parameter "work_memx"'],
    ),
    "a value, which is not told": (
        '[7] LOG:  invalid value for parameter "max_wal_size": "secret"\n[7] HINT:  Valid units are "kB" and "MB".\n',
        ['invalid value for parameter "max_wal_size" (Valid units are "kB" and "MB")'],
    ),
    "several": (
        '[7] LOG:  invalid value for parameter "a": "x"\n[7] LOG:  unrecognized configuration parameter "b"\n',
        ['invalid value for parameter "a"', 'unrecognized configuration parameter "b"'],
    ),
    "what the kernel says": (
        "LOG:  starting PostgreSQL 17\nFATAL:  could not map anonymous shared memory: Cannot allocate memory\n",
        ["could not map anonymous shared memory: Cannot allocate memory"],
    ),
    "nothing": ("", ["it gave no reason"]),
}


@pytest.mark.parametrize("output, expected", REASONS.values(), ids=REASONS)
def test_the_reasons_are_postgresqls_without_values_and_scratch_files(output, expected):
    assert config.reasons(output) == expected


@pytest.mark.parametrize(
    "amount, unit, huge_pages, told",
    [
        (900, "MB", "", ""),
        (2000, "MB", "", 'parameter "shared_buffers": it needs 2000 MB, and the host has 1000 MB'),
        (78, "pages", "on", 'parameter "huge_pages": it needs 78 huge pages (vm.nr_hugepages), and the host has 10'),
        (10, "pages", "on", ""),
        (78, "pages", "try", ""),
    ],
)
def test_memory_that_the_host_does_not_have_is_refused(monkeypatch, amount, unit, huge_pages, told):
    monkeypatch.setattr(config, "read", lambda path: "MemTotal:  1024000 kB\nHugePages_Total:      10\n")
    assert config._too_much(amount, unit, huge_pages) == told


@pytest.fixture
def live(monkeypatch, tmp_path):
    """A function that runs the step with a live and another configuration; it returns what PostgreSQL tried."""
    path = tmp_path / "17/main/conf.d/saltern.conf"
    path.parent.mkdir(parents=True)
    (path.parent.parent / "postgresql.conf").write_text("")
    monkeypatch.setattr(postgres_extensions, "libraries", lambda host: [])
    real = config.os.path.exists
    monkeypatch.setattr(config.os.path, "exists", lambda name: name.endswith("bin/postgres") or real(name))
    seen = []

    def run(text, refused=(), settings=None, dry=False):
        path.write_text("jit = 'on'\n")
        monkeypatch.setattr(config, "candidate", lambda host: text)
        monkeypatch.setattr(config, "tried", lambda directory, programs, text: seen.append(text) or list(refused))
        host = Host.of({}, {"postgres": {"settings": settings or {}}}, {"test": dry})
        return config.judged(Run(host, [], lambda name: False), str(path)), seen

    return run


def test_a_configuration_that_is_the_same_is_not_tried(live):
    step, seen = live("jit = 'on'\n\n")
    assert (step.changes, seen) == ({}, [])


def test_another_one_is_tried_in_a_dry_run_too(live):
    assert live("jit = 'off'\n", dry=True)[1] == ["jit = 'off'\n"]
    # The package of an extension's library is not there yet. One that the pillar names must be.
    text = "shared_preload_libraries = 'timescaledb, auto_explain'\n"
    assert live(text, dry=True)[1][-1] == "shared_preload_libraries = 'auto_explain'\n"
    assert live(text)[1][-1] == text


BY_PATH = {
    "a parameter of the pillar": (
        'unrecognized configuration parameter "foo"',
        {"foo": 1},
        'postgres.settings.foo: PostgreSQL would not start: unrecognized configuration parameter "foo"; expected a '
        "value that it takes",
    ),
    "one of the formula": (
        'parameter "shared_buffers": it needs 9 MB, and the host has 8 MB',
        {},
        'postgres.shared_buffers: PostgreSQL would not start: parameter "shared_buffers": it needs 9 MB, and the host '
        "has 8 MB; expected a value that it takes",
    ),
    "a library": (
        'could not access file "nosuch": No such file or directory',
        {"shared_preload_libraries": "nosuch"},
        "postgres.settings.shared_preload_libraries: PostgreSQL would not start: could not access file "
        '"nosuch": No such file or directory; expected a library that is installed',
    ),
    "none that is named": (
        "no valid ciphers available",
        {"ssl_ciphers": "x"},
        "postgres.settings: PostgreSQL would not start: no valid ciphers available; expected parameters with which it "
        "starts",
    ),
}


@pytest.mark.parametrize("why, settings, told", BY_PATH.values(), ids=BY_PATH)
def test_what_postgresql_refuses_is_told_by_path(live, why, settings, told):
    with pytest.raises(CommandExecutionError) as refused:
        live("jit = 'off'\n", [why], settings)
    assert str(refused.value) == told


WAITS = {
    "a parameter that is read at a reload": ("jit = 'off'", {}, "", False),
    "one that is read at the start": ("max_worker_processes = '12'", {"max_worker_processes": "8"}, "12", True),
    "the same value in other words": ("shared_buffers = 131072kB", {"shared_buffers": "16384"}, "16384", False),
    "one that goes": ("", {"max_worker_processes": "12"}, "", True),
    "a library": ("shared_preload_libraries = 'x'", {}, "", True),
}


@pytest.mark.parametrize("text, at_start, would_be, expected", WAITS.values(), ids=WAITS)
def test_a_dry_run_knows_what_waits_for_a_restart(monkeypatch, tmp_path, text, at_start, would_be, expected):
    path = tmp_path / "saltern.conf"
    path.write_text("max_worker_processes = '12'\n" if not text else "")
    monkeypatch.setattr(config, "candidate", lambda host: text)
    monkeypatch.setattr(postgres_server, "run", lambda statements: json.dumps(at_start))
    monkeypatch.setattr(config.pwd, "getpwnam", lambda name: None)
    monkeypatch.setattr(config, "run_as", lambda user, *command: SimpleNamespace(stdout=f"{would_be}\n"))
    assert config.waits(None, str(path)) is expected


@pytest.fixture
def loaded(postgres_cluster, dunders, monkeypatch, tmp_path):
    """A function that runs the state; it returns its answer, and what was done to the server."""
    path = tmp_path / "saltern.conf"
    path.write_text("")
    newer, older = (path.stat().st_mtime_ns // 1000 + seconds * 1_000_000 for seconds in (9, -9))

    def run(answers, dry=False, waits=False, runs=True):
        did, answers = [], [(newer if is_read else older, pending) for is_read, pending in answers]
        monkeypatch.setattr(postgres_questions, "loaded", lambda *asked: answers.pop(0))
        monkeypatch.setattr(postgres_server, "run", did.append)
        monkeypatch.setattr(config, "waits", lambda host, path: waits)
        monkeypatch.setattr(systemd, "started", lambda name, among: 1 if runs else None)
        monkeypatch.setattr(systemd, "restart", lambda name: did.append(name))
        state = {"context": {}, "running": {}, "lowstate": [], "instance_id": "x", "salt": {}, "pillar": {}}
        dunders(postgres_cluster, opts={"test": dry}, **state)
        done = postgres_cluster.loaded("postgresql@17-main", str(path))
        return done["result"], [one["new"] for one in done["changes"].values()], did, done["comment"]

    return run


RELOAD = ["SELECT pg_reload_conf();"]


def test_a_server_restarts_only_for_what_waits_for_a_restart(loaded):
    assert loaded([(True, [])])[:3] == (True, [], [])
    assert loaded([(False, []), (False, []), (True, [])])[:3] == (True, ["reloaded"], [RELOAD])
    result, changes, did, comment = loaded([(False, []), (True, ["wal_level"])])
    assert (result, changes, did) == (True, ["restarted"], [RELOAD, "postgresql@17-main"])
    assert comment == "postgresql@17-main was restarted, for wal_level"
    # An earlier run was interrupted between the two.
    assert loaded([(True, ["wal_level"])])[1:3] == (["restarted"], ["postgresql@17-main"])
    assert loaded([], runs=False)[:3] == (True, [], [])


def test_a_dry_run_tells_the_same_and_does_nothing(loaded):
    assert loaded([(False, [])], dry=True)[:3] == (None, ["reloaded"], [])
    assert loaded([(False, [])], dry=True, waits=True)[:3] == (None, ["restarted"], [])
    assert loaded([(True, ["wal_level"])], dry=True)[:3] == (None, ["restarted"], [])
    assert loaded([(True, [])], dry=True)[:3] == (True, [], [])


def test_a_server_that_does_not_read_its_configuration_is_told(loaded, monkeypatch, postgres_cluster):
    monkeypatch.setattr(postgres_cluster.time, "sleep", lambda seconds: None)
    result, changes, _, comment = loaded([(False, [])] * 60)
    assert (result, changes) == (False, [])
    assert comment.startswith("PostgreSQL does not read its configuration; see its log")
