"""One login as PostgreSQL's operator answers the questions of all states of a run."""

import json
import pwd
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.host import Host
from saltern.services import postgres_access, postgres_database, postgres_server
from saltern.system.systemd import SETTLED, Among
from tests.unit.rows import host

POSTGRES = services.formulas()["postgres"]
PASSWORD = 'it\'s-"a"-\\-$$-password'


def on(**owners):
    """Return a host with an app for each owner of a database."""
    databases = {name: {"owner": owner, "connections": 48, "password": PASSWORD} for name, owner in owners.items()}
    return Host("one", {"postgres": {"databases": databases}, "hosts": {"one": host()}}, "", False, None)


@pytest.fixture
def psql(monkeypatch):
    """The calls of psql, each as command, input and options; and its answer: an exit code and two texts."""
    asked, answer = [], [0, '{"role": null, "logins": [], "database": null}\n', ""]

    def run(command, input, **options):
        asked.append((command, input, options))
        return subprocess.CompletedProcess(command, *answer)

    monkeypatch.setattr(postgres_server.subprocess, "run", run)
    monkeypatch.setattr(postgres_server.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(postgres_server.pwd, "getpwnam", lambda name: pwd.getpwuid(0))
    return asked, answer


def test_names_and_values_are_quoted_and_the_password_is_on_no_command_line(psql):
    asked, _ = psql
    _, statements = postgres_database.plan(POSTGRES, on(**{"it's": "o'shop"}), "it's", "o'shop", 48)
    postgres_server.run(statements)
    assert "rolname = 'o''shop'" in asked[0][1]
    assert "datname = 'it''s'" in asked[0][1]
    for command, _, options in asked:
        assert PASSWORD not in str(command)
        assert "SCRAM" not in str(command)
        assert (options["user"], options["group"]) == (pwd.getpwuid(0).pw_uid, pwd.getpwuid(0).pw_gid)
        assert PASSWORD not in str(options["env"])


CHUNKS = [
    {"state": "postgres_attachment", "fun": "present", "name": "stock", "owner": "shop"},
    {"state": "postgres_attachment", "fun": "present", "name": "news", "owner": "press"},
    {"state": "postgres_attachment", "fun": "retired", "name": "/etc/postgresql/pg_hba.conf", "databases": ["stock"]},
    {"state": "file", "fun": "managed", "name": "/etc/hosts"},
]


def test_one_login_answers_all_states(psql, monkeypatch, tmp_path):
    asked, answer = psql
    # The owner writes the comment: a Unicode line separator in it does not end an answer.
    database = {"owner": "x", "public": False, "mark": None, "comment": "a\u2028b", "limit": 7}
    state = json.dumps({"role": None, "logins": [], "database": database}, ensure_ascii=False)
    # Beside the two databases: what is kept, and which other logins there are.
    answer[1] = '{"at": 9e18, "pending": []}\n' + f"{state}\n" * 4
    its_host, among = on(stock="shop", news="press"), Among("a run", CHUNKS, [])
    assert postgres_access.is_read(POSTGRES, its_host, "15", "main", str(tmp_path), among)
    for name, owner in (("stock", "shop"), ("news", "press")):
        changes, _ = postgres_database.plan(POSTGRES, its_host, name, owner, 48, among)
        assert changes["connections"]["old"] == 7
    assert len(asked) == 1
    # After a change each question is asked alone, and after two seconds all are asked again.
    answer[1] = f"{state}\n"
    postgres_database.plan(POSTGRES, its_host, "stock", "shop", 48)
    assert len(asked) == 2
    later = postgres_server.time.monotonic() + SETTLED + 1
    monkeypatch.setattr(postgres_server.time, "monotonic", lambda: later)
    answer[1] = f"{state}\n" * 4
    postgres_database.plan(POSTGRES, its_host, "stock", "shop", 48, among)
    assert len(asked) == 3


def test_postgres_own_message_is_told(psql):
    psql[1][:] = 3, "", "ERROR:  no\n"
    with pytest.raises(CommandExecutionError, match=r"^psql: ERROR:  no$"):
        postgres_server.run(["SELECT 1;"])
