"""PgBouncer's configuration: what the pillar sets, and what PgBouncer refuses of it."""

import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import postgres_pool
from saltern.services import postgres_pool_config as config
from saltern.services.steps import Run
from tests.unit.conftest import ROOT

FILES = ROOT / "formulas/postgres/files"
TEMPLATES = [(FILES / name).read_text() for name in ("pool.ini.jinja", "pool-listen.ini.jinja")]


def test_whatever_the_formula_sets_itself_is_refused_and_its_setting_is_named():
    own = {name for text in TEMPLATES for name in re.findall(r"(?m)^([a-z_]+) = ", text)}
    assert len(own) > 10
    assert own <= config.OWN.keys()
    assert not config.OWN.keys() & {*config.USUAL, *config.AT_START}
    told = config.mistakes(
        {"pool_settings": {"max_client_conn": "9", "auth_type": "any", "default_pool_size": "1", "query_timeout": "3"}}
    )
    assert told == [
        "postgres.pool_settings.auth_type: is Saltern's own; expected another parameter",
        "postgres.pool_settings.default_pool_size: is postgres.databases.<database>.pool_size; expected it there",
        "postgres.pool_settings.max_client_conn: is postgres.pool_clients; expected it there",
    ]


PARAMETERS = {
    "none": ({}, "transaction", 13, {"max_prepared_statements": "200"}, {}),
    "before PgBouncer 1.21": ({}, "transaction", 12, {}, {}),
    "for sessions": ({}, "session", 13, {}, {}),
    "in the place of the usual": (
        {"log_stats": "1", "max_prepared_statements": "0"},
        "transaction",
        13,
        {"log_stats": "1", "max_prepared_statements": "0"},
        {},
    ),
    "beside what drivers say": (
        {"ignore_startup_parameters": "options, extra_float_digits"},
        "session",
        13,
        {"ignore_startup_parameters": "extra_float_digits, options"},
        {},
    ),
    "one that is read at the start": (
        {"so_reuseport": "1", "query_timeout": "9"},
        "session",
        12,
        {"query_timeout": "9"},
        {"so_reuseport": "1"},
    ),
}


@pytest.mark.parametrize("declared, way, debian, more, at_start", PARAMETERS.values(), ids=PARAMETERS)
def test_a_parameter_is_in_the_file_that_is_read_when_it_must_be(declared, way, debian, more, at_start):
    settings = {"pool_settings": declared}
    assert config.parameters(settings, way, debian) == {**config.USUAL, **more}
    assert config.at_start(settings) == at_start


@pytest.fixture
def live(monkeypatch, tmp_path):
    """A function that runs the step with parameters; it returns its comment, and what PgBouncer tried."""
    monkeypatch.setattr(config, "PROGRAM", str(tmp_path / "pgbouncer"))
    monkeypatch.setattr(postgres_pool, "CERTIFICATE", str(tmp_path / "pgbouncer"))
    monkeypatch.setattr(postgres_pool, "LISTEN", str(tmp_path / "listen.ini"))
    seen = []

    def run(declared, refused=None, written="", is_there=True):
        if is_there:
            (tmp_path / "pgbouncer").touch()
        (tmp_path / "transaction.ini").write_text(written)
        text = "[databases]\nshop = host=/x\n[pgbouncer]\n%include x\nauth_type = hba\n"
        text += "".join(f"{name} = {value}\n" for name, value in declared.items())
        monkeypatch.setattr(config, "rendered", lambda host, template, **_: text if template == config.TEMPLATE else "")

        def tried(text, port):
            seen.append(text)
            return next((why for name, why in (refused or {}).items() if not name or f"\n{name} = " in text), "")

        monkeypatch.setattr(config, "tried", tried)
        host = Host.of({}, {"postgres": {"pool_settings": declared}}, {})
        return config.judged(Run(host, [], lambda name: False), str(tmp_path / "transaction.ini")).comment, text, seen

    return run


def test_what_the_pillar_sets_is_tried_apart_from_postgresql_and_the_network(live):
    comment, _, (tried,) = live({"query_timeout": "9"})
    assert comment == "PgBouncer starts with these parameters"
    assert "\nquery_timeout = 9\n" in tried
    assert "shop" not in tried
    assert "hba" not in tried
    assert tried.endswith("\nlisten_addr = \nsyslog = 0\nauth_type = trust")


def test_what_is_the_same_or_not_there_is_not_tried(live):
    assert live({}, is_there=False)[::2] == ("PgBouncer has the parameters of the pillar", [])
    comment, text, seen = live({"query_timeout": "9"}, is_there=False)
    assert (comment.partition(":")[0], seen) == ("PgBouncer is not there yet", [])
    assert live({"query_timeout": "9"}, written=text)[::2] == ("PgBouncer has the parameters of the pillar", [])


REFUSED = {
    "each by its path": (
        {
            "bogus": "unknown parameter: pgbouncer/bogus",
            "query_timeout": 'invalid value "pool_mode 3s" for parameter query_timeout in configuration (/x:9)',
            "client_tls_ciphers": "invalid client_tls_ciphers: 3s",
        },
        [
            "postgres.pool_settings.bogus: this Debian's PgBouncer does not know it; expected another parameter",
            "postgres.pool_settings.client_tls_ciphers: PgBouncer refuses the value; expected one that it takes",
            "postgres.pool_settings.query_timeout: PgBouncer refuses the value; expected one that it takes",
        ],
    ),
    "none that is named": (
        {"": "it does not answer"},
        [
            "postgres.pool_settings: PgBouncer would not start: it does not answer; expected parameters with which it "
            "starts"
        ],
    ),
}


@pytest.mark.parametrize("refused, told", REFUSED.values(), ids=REFUSED)
def test_what_pgbouncer_refuses_is_told_by_path_without_its_value(live, refused, told):
    with pytest.raises(CommandExecutionError) as raised:
        live(dict.fromkeys((name for name in refused if name), "3s") or {"pkt_buf": "1"}, refused)
    assert str(raised.value).splitlines() == told
