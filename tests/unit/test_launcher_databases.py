"""APP-psql: which database is meant, and how psql comes to it without a password on its command line."""

import json
import sys
from types import SimpleNamespace

import pytest

OURS = "postgres://shop_3f9a01:p%2Fw%40@10.0.0.2:5432/shop?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem"
TO_OURS = {
    "PGHOST": "10.0.0.2",
    "PGPORT": "5432",
    "PGUSER": "shop_3f9a01",
    "PGPASSWORD": "p/w@",
    "PGDATABASE": "shop",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/etc/ssl/saltern/ca.pem",
}
URLS = {
    "ours": (OURS, TO_OURS),
    "a driver of a framework": ("postgresql+psycopg://u@db/x", {"PGHOST": "db", "PGUSER": "u", "PGDATABASE": "x"}),
    "several hosts": ("postgresql://a:1,b:2/x", {"PGHOST": "a,b", "PGPORT": "1,2", "PGDATABASE": "x"}),
    "an IPv6 address": ("postgis://u:p@[::1]:5433/x", {"PGHOST": "::1", "PGPORT": "5433"}),
    "a socket": ("postgres://%2Frun%2Fpostgresql/x", {"PGHOST": "/run/postgresql", "PGDATABASE": "x"}),
    "options": ("postgres://db/x?options=-c%20a%3Db&unknown=1", {"PGHOST": "db", "PGOPTIONS": "-c a=b"}),
    "a URL of something else": ("redis://db/0", None),
    "a text": ("postgres", None),
}


@pytest.mark.parametrize("text, expected", URLS.values(), ids=URLS)
def test_a_url_becomes_libpqs_variables(launcher, text, expected):
    found = launcher.databases.of_url(text)
    assert found is expected or expected.items() <= found.items()


def test_each_database_of_the_release_has_its_attachments_name(launcher):
    variables = {
        b"DATABASE_URL": OURS.encode(),
        b"GREETING": b"\xff",
        b"REDIS_URL": b"redis://db/0",
        b"DB_HOST": b"db",
        b"DB_PASSWORD": b"p/w",
        b"PGHOST": b"db2",
        b"PGPASSWORD": b"x",
        b"MORE_HOST": b"no database",
    }
    attached = {
        "DATABASE_URL": {"postgres": "shop"},
        "DB": {"postgres": "more", "as": "parts"},
        "PG": {"postgres": "most", "as": "parts"},
        "MORE": {"redis": "shop", "as": "parts"},
    }
    assert launcher.databases.databases(variables, attached) == {
        "DATABASE_URL": TO_OURS,
        "DB": {"PGHOST": "db", "PGPASSWORD": "p/w"},
        "PG": {"PGHOST": "db2", "PGPASSWORD": "x"},
    }


BOTH, OTHERS = ("DATABASE_URL", "REPORTS_URL"), ("ARCHIVE_URL", "REPORTS_URL")
CHOSEN = {
    "the only one": (["-c", "SELECT 1"], ("STOCK_URL",), ("STOCK_URL", ["-c", "SELECT 1"])),
    "the usual one of several": ([], BOTH, ("DATABASE_URL", [])),
    "one that is named": (["REPORTS_URL", "-c", "SELECT 1"], BOTH, ("REPORTS_URL", ["-c", "SELECT 1"])),
}


@pytest.mark.parametrize("words, known, expected", CHOSEN.values(), ids=CHOSEN)
def test_the_database_is_named_or_follows(launcher, words, known, expected):
    assert launcher.databases.chosen("shop", words, dict.fromkeys(known)) == expected


REFUSED = {
    "none": ([], (), "shop-psql: the current release of shop has no database of PostgreSQL"),
    "an unknown name": (
        ["NOSUCH", "-c", "x"],
        BOTH,
        "shop-psql: NOSUCH: no database has this name; expected one of DATABASE_URL, REPORTS_URL",
    ),
    "a name that commands a terminal": (
        ["\x1b[2J"],
        BOTH,
        "shop-psql: \\x1b[2J: no database has this name; expected one of DATABASE_URL, REPORTS_URL",
    ),
    "several and no usual one": (
        ["-c", "x"],
        OTHERS,
        "shop-psql: shop has several databases; expected one of ARCHIVE_URL, REPORTS_URL, before psql's own arguments",
    ),
}


@pytest.mark.parametrize("words, known, told", REFUSED.values(), ids=REFUSED)
def test_a_bad_name_is_told_in_one_line(launcher, words, known, told):
    with pytest.raises(SystemExit) as refused:
        launcher.databases.chosen("shop", words, dict.fromkeys(known))
    assert refused.value.code == told


POOLED = OURS.replace(":5432/", ":6432/")
PAST = {
    "a URL": ("DATABASE_URL", {"pool": "transaction"}, {"DATABASE_URL": POOLED}, {"DATABASE_URL": OURS}),
    "an IPv6 address": (
        "U",
        {"pool": "session"},
        {"U": "postgres://u:p@[::1]:6433/x"},
        {"U": "postgres://u:p@[::1]:5432/x"},
    ),
    "parts": ("DB", {"pool": "session", "as": "parts"}, {"DB_HOST": "db", "DB_PORT": "6433"}, {"DB_PORT": "5432"}),
    "libpq's own parts": ("PG", {"pool": "session", "as": "parts"}, {"PGPORT": "6433"}, {"PGPORT": "5432"}),
    "without a pool": ("DATABASE_URL", {}, {"DATABASE_URL": POOLED}, {"DATABASE_URL": POOLED}),
    "taken out by hand": ("DATABASE_URL", {"pool": "session"}, {"PORT": "1"}, {"PORT": "1"}),
    "another value by hand": ("DATABASE_URL", {"pool": "session"}, {"DATABASE_URL": "none"}, {"DATABASE_URL": "none"}),
}


@pytest.mark.parametrize("name, target, variables, expected", PAST.values(), ids=PAST)
def test_what_needs_a_session_goes_past_a_pool(launcher, name, target, variables, expected):
    found = {key.encode(): value.encode() for key, value in variables.items()}
    launcher.release.past_pools(found, {"attached": {name: {"postgres": "shop"} | target}})
    assert found == {key.encode(): value.encode() for key, value in (variables | expected).items()}


@pytest.fixture
def became(launcher, monkeypatch, tmp_path):
    """A function that runs psql for an app, and returns its command line and its environment."""
    release = {"attached": {"DATABASE_URL": {"postgres": "shop", "pool": "session"}}}
    monkeypatch.setattr(launcher.databases, "serving", lambda app, number, what: (str(tmp_path), release))
    variables = {b"DATABASE_URL": POOLED.encode(), b"SECRET_KEY": b"canary"}
    monkeypatch.setattr(launcher.databases, "environment", lambda *release: variables)
    monkeypatch.setattr(launcher.databases.os, "chdir", lambda path: None)
    said = []

    def run(*words, error=None):
        def execve(*become):
            said.append(become)
            raise error or SystemExit

        monkeypatch.setattr(launcher.databases.os, "execve", execve)
        with pytest.raises(SystemExit) as ended:
            launcher.databases.psql("shop", "7", *words)
        return said, ended.value.code

    return run


def test_the_password_is_in_the_environment_alone_and_nothing_else_of_the_config(became, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    ((program, words, variables),), _ = became("-c", "SELECT 1")
    assert (program, words) == ("/usr/bin/psql", ["psql", "-c", "SELECT 1"])
    assert TO_OURS.items() <= variables.items()
    assert variables["PGAPPNAME"] == "shop-psql"
    assert variables["TERM"] == "xterm"
    assert "canary" not in str(variables)


def test_a_host_without_psql_says_so(became):
    assert "/usr/bin/psql is not there" in became(error=FileNotFoundError())[1]


def test_an_app_without_a_release_says_so(launcher):
    with pytest.raises(SystemExit) as refused:
        launcher.databases.psql("nosuch-app", "current")
    assert refused.value.code == "nosuch-app-psql: no release of nosuch-app serves; converge first"


def test_root_becomes_the_apps_user_first_in_a_scope_that_shows_no_arguments(launcher, monkeypatch):
    became = []
    monkeypatch.setattr(launcher.command.os, "geteuid", lambda: 0)
    monkeypatch.setattr(launcher.command.os.path, "realpath", lambda path: "/srv/apps/my-shop/releases/7")
    monkeypatch.setattr(launcher.command.os, "execvp", lambda program, words: became.extend(words) or sys.exit())
    with pytest.raises(SystemExit):
        launcher.command.psql("my-shop", "-c", "SELECT '$x'")
    shown = became[: became.index("--")]
    assert any(word.endswith(".v7.scope") for word in shown), "the release stays while it runs"
    assert "--description=my-shop-psql" in shown
    assert json.loads(became[-1]) == ["psql", "my-shop", "7", "-c", "SELECT '$x'"]
    assert "$" not in became[-1]
    run = []
    monkeypatch.setattr(launcher.command, "hide_others", lambda: None)
    monkeypatch.setattr(launcher.command.os, "execv", lambda program, words: run.extend(words))
    launcher.command.run_there(became[-1])
    assert run[1:] == ["my-shop", launcher.command.ENTRY, "--psql-of", "my-shop", "7", "-c", "SELECT '$x'"]


def test_another_user_is_told_to_be_root(launcher, monkeypatch):
    monkeypatch.setattr(launcher.command.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(launcher.command.pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=1))
    with pytest.raises(SystemExit) as refused:
        launcher.command.psql("shop")
    assert refused.value.code == "shop-psql: not root: run it with sudo"
