"""An app's config from a file: what is read of it, what is a secret, and where each value stands afterwards."""

import json

import pytest
import salt.utils.yaml
import yaml
from hypothesis import given
from hypothesis import strategies as st

from saltern.refusal import Refusal
from saltern.secrets import variables
from saltern.secrets.importing import _plain
from tests.unit.secrets.written import contents, messages

ENVIRONMENT = "pillar/environments/production.sls"

LINES = {
    "a word": ("A=b", {"A": "b"}),
    "none": ("A=", {"A": ""}),
    "spaces around": (" A = b ", {"A": "b"}),
    "export": ("export A=b\nexport B='c d'", {"A": "b", "B": "c d"}),
    "comments": ("# A=1\n\nA=b # more\nB='c # d'\nC=e#f", {"A": "b", "B": "c # d", "C": "e#f"}),
    "quotes": ("""A="it's"\nB='say "x"'\nC='it\\'s'""", {"A": "it's", "B": 'say "x"', "C": "it's"}),
    "a dollar": ("A=$HOME\nB=\"${A}\"\nC='$A'\nD=p%$$", {"A": "$HOME", "B": "${A}", "C": "$A", "D": "p%$$"}),
    "line breaks": ('A="b\nc"\nB="d\\ne"\nC=\'f\\ng\'', {"A": "b\nc", "B": "d\ne", "C": "f\\ng"}),
    "lines of DOS": ("A=b\r\nB=c\r\n", {"A": "b", "B": "c"}),
    "an equals sign": ("A=b=c==", {"A": "b=c=="}),
    "UTF-8": ("A=pä\u2028ß", {"A": "pä\u2028ß"}),
    "JSON": ('\n{"A": "b\\n", "B": "", "C": "\\u00e4"}', {"A": "b\n", "B": "", "C": "ä"}),
    "no line": ("", {}),
}


@pytest.mark.parametrize("text, values", LINES.values(), ids=LINES)
def test_what_a_file_sets(text, values):
    assert variables.parsed(text, ".env") == values


BAD = {
    "a name alone": ("A=b\nhunter2xyzzy\n", [".env: line 2: cannot be read; expected NAME=value, with quotes closed"]),
    "an open quote": (
        'A=b\n\nB="hunter2xyzzy\nC=d',
        [".env: line 3: cannot be read; expected NAME=value, with quotes"],
    ),
    "twice": ("A=b\nB=c\nA=hunter2xyzzy", [".env: line 3: A is there twice; expected it once"]),
    "several": ("A\nB=c\nC", [".env: line 1: cannot be read", ".env: line 3: cannot be read"]),
    "no JSON": ('{"A": "hunter2xyzzy",}', [".env: line 1: no JSON; expected what `heroku config --json` prints"]),
    "a number": ('{"A": 4242, "B": null}', [".env: A: no text; expected text in quotes", ".env: B: no text"]),
    "twice in JSON": ('{"A": "b", "A": "hunter2xyzzy"}', [".env: A: is there twice; expected it once"]),
}


@pytest.mark.parametrize("text, messages", BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_read_is_refused_by_line_and_without_a_value(text, messages):
    with pytest.raises(Refusal) as refusal:
        variables.parsed(text, ".env")
    lines = str(refusal.value).split("\n")
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(message)
        assert "hunter2xyzzy" not in line and "4242" not in line


@pytest.mark.parametrize(
    "name, value, is_secret",
    [
        ("SECRET_KEY", "x", True),
        ("SECRET_KEY", "", False),
        ("AWS_ACCESS_KEY_ID", "AKIA", True),
        ("apikey", "x", True),
        ("DB_PASS", "x", True),
        ("SENTRY_DSN", "https://x@errors.example.com/1", True),
        ("MAIL_URL", "smtp://me:pw@mail.example.com", True),
        ("MAIL_URL", "smtp://mail.example.com:25", False),
        ("BROKEN_URL", "http://[me:pw@x", True),
        ("TLS", "-----BEGIN PRIVATE KEY-----\nx", True),
        ("STRIPE", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", True),
        ("WEBHOOK", "https://hooks.example.com/T0/8f14e45fceea167a5a36dedd4bea2543", True),
        ("BYPASS_CACHE", "1", False),
        ("MONKEY", "see", False),
        ("ALLOWED_HOSTS", "shop.example.com,www.example.com", False),
        ("DJANGO_SETTINGS_MODULE", "shop.settings.production", False),
        ("PATHS", "/srv/one/two/three/four/five", False),
        ("TIME_ZONE", "America/Argentina/Buenos_Aires", False),
        ("DIGITS", "12345678901234567890123", False),
        ("CURRENCIES", "EUR, USD, CHF", False),
    ],
)
def test_a_secret_is_known_by_its_name_or_its_form(name, value, is_secret):
    assert variables.is_secret(name, value) is is_secret


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_value_in_clear_is_read_by_salt_byte_for_byte(value):
    text = _plain("app:\n  shop:\n    config:\n      A: b\n", {("app", "shop", "config", "A"): value}, "")
    assert salt.utils.yaml.safe_load(text)["app"]["shop"]["config"]["A"] == value


ENV = b"""\
# Of the old server.
export SECRET_KEY='hunter2 "$HOME" %'
ALLOWED_HOSTS=tickets.example.com
GREETING="100 %\\n"
BRACES={{ 7 * 7 }}
PORT=8000
DATABASE_URL=postgres://u:hunter2@old/db
"""
OPTIONS = ("import", "--app", "tickets", "--environment", "production")


def test_secrets_are_encrypted_and_all_else_is_in_the_environments_file(tree, keys, run):
    done = run(*OPTIONS, "-", value=ENV)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "DATABASE_URL is left out: app.tickets.attach.DATABASE_URL sets it",
        "PORT is left out: Saltern sets it",
        "pillar/secrets/production.sls: BRACES, SECRET_KEY written; they can be read by host web1, operator alice, "
        "operator bob",
        f"{ENVIRONMENT}: ALLOWED_HOSTS, GREETING written",
    ]
    found = {path.rpartition(".")[2]: keys["web1"].decrypt(message) for path, message in messages(tree).items()}
    assert found == {"SECRET_KEY": b'hunter2 "$HOME" %', "BRACES": b"{{ 7 * 7 }}"}
    text = (tree / ENVIRONMENT).read_text()
    assert "# What differs in production." in text, "comments stay"
    config = yaml.safe_load(text)["app"]["tickets"]["config"]
    assert config == {"ALLOWED_HOSTS": "tickets.example.com", "GREETING": "100 %\n"}
    before = (tree / ENVIRONMENT).read_text()
    assert run(*OPTIONS, "-", value=ENV).returncode == 0
    assert (tree / ENVIRONMENT).read_text() == before, "a second time changes nothing there"


def test_names_can_be_said_and_a_secret_leaves_the_file_where_it_stood_in_clear(tree, keys, run):
    done = run(*OPTIONS, "--secret", "ALLOWED_HOSTS", "--plain", "API_KEY", "-", value=b"ALLOWED_HOSTS=a\nAPI_KEY=b")
    assert done.returncode == 0, done.stderr.decode()
    said = f"{ENVIRONMENT}: ALLOWED_HOSTS is removed; whoever could read it there has had it"
    assert said in done.stdout.decode().splitlines()
    assert yaml.safe_load((tree / ENVIRONMENT).read_text())["app"]["tickets"]["config"] == {"API_KEY": "b"}
    assert [keys["web1"].decrypt(message) for message in messages(tree).values()] == [b"a"]
    # What is encrypted stays so.
    assert run(*OPTIONS, "-", value=b"ALLOWED_HOSTS=c").returncode == 0
    assert [keys["web1"].decrypt(message) for message in messages(tree).values()] == [b"c"]


def test_an_environment_whose_hosts_are_thrown_away_has_all_in_clear(tree, run, tmp_path):
    file = tmp_path / "config.json"
    values = {"SECRET_KEY": "hunter2\n", "BRACES": "{{ x }}", "on": "1"}
    file.write_text("\ufeff" + json.dumps(values))
    done = run("import", "--app", "tickets", "--environment", "dev", file)
    assert (done.returncode, done.stderr) == (0, b"")
    text = (tree / "pillar/secrets/dev.sls").read_text()
    assert text.startswith("#!yaml\n")
    assert salt.utils.yaml.safe_load(text) == {"app": {"tickets": {"config": values}}}


REFUSED = {
    "an app that is not there": (
        ("import", "--app", "tikets", "--environment", "production", "-"),
        b"A=b",
        ["app.tikets: unknown setting; did you mean 'tickets'?"],
    ),
    "an environment that is not there": (
        ("import", "--app", "tickets", "--environment", "prod", "-"),
        b"A=b",
        ["ENV: no environment has this name; expected one of dev, production, staging"],
    ),
    "a file that is not there": (
        (*OPTIONS, "/nowhere/.env"),
        b"",
        ["/nowhere/.env: No such file or directory; nothing was changed, mend that"],
    ),
    "another encoding": ((*OPTIONS, "-"), b"A=\xe9", ["-: not in UTF-8; expected text in UTF-8"]),
    "names that cannot be": (
        (*OPTIONS, "-"),
        b"SUPERVISOR_X=hunter2\nmy-name=hunter2\nC=d",
        [
            "app.tickets.config.SUPERVISOR_X: a name that cannot be used here; expected ",
            "app.tickets.config.my-name: a name that cannot be used here; expected ",
        ],
    ),
    "NUL": ((*OPTIONS, "-"), b"A=hunter2\0", ["app.tickets.config.A: not acceptable; expected text without NUL"]),
    "a secret with a line break at its end": (
        (*OPTIONS, "-"),
        b'SECRET_KEY="hunter2\\n"',
        ["SECRET_KEY: ends with an empty line, which would not reach the host; expected a value without it"],
    ),
    "a name that the file does not set": (
        (*OPTIONS, "--secret", "B", "--plain", "C", "-"),
        b"A=b",
        [
            "B: --secret names it, and - does not set it; expected one that it sets",
            "C: --plain names it, and - does not set it; expected one that it sets",
        ],
    ),
    "a name as both": (
        (*OPTIONS, "--secret", "A", "--plain", "A", "-"),
        b"A=b",
        ["A: is named as secret and as plain; expected one of it"],
    ),
}


@pytest.mark.parametrize("arguments, value, expected", REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_each_variable_and_changes_nothing(refused, arguments, value, expected):
    lines = refused(*arguments, value=value)
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)
        assert "hunter2" not in line


def test_a_file_that_jinja_renders_is_not_written(tree, run, refused):
    path = tree / ENVIRONMENT
    path.write_text(path.read_text() + "# {{ grains.id }}\n")
    [line] = refused(*OPTIONS, "-", value=b"A=b")
    assert line.startswith(f"{ENVIRONMENT}: holds Jinja, beside which A cannot be written; expected ")
    assert run(*OPTIONS, "--secret", "A", "-", value=b"A=b").returncode == 0


def test_a_secret_does_not_come_to_stand_in_clear(run, refused, tree):
    assert run(*OPTIONS, "-", value=b"API_KEY=b").returncode == 0
    before = contents(tree)
    [line] = refused(*OPTIONS, "--plain", "API_KEY", "-", value=b"API_KEY=b")
    assert line == (
        "API_KEY: stands encrypted in pillar/secrets/production.sls; remove it there first, with make secret-remove"
    )
    assert contents(tree) == before


@pytest.mark.parametrize(
    "length, is_taken", [("16", True), ("1024", True), ("15", False), ("1025", False), ("x", False)]
)
def test_a_value_is_invented(tree, keys, run, length, is_taken):
    done = run("set", "--environment", "production", "--generate", length, "app.tickets.config.SECRET_KEY")
    assert done.returncode == (0 if is_taken else 2)
    if not is_taken:
        assert b"expected a number of characters from 16 to 1024" in done.stderr
        return
    [value] = [keys["web1"].decrypt(message) for message in messages(tree).values()]
    assert len(value) == int(length) and value.isalnum() and len(set(value)) > 8
    assert value not in done.stdout + done.stderr
