"""From a bare Debian host to running apps: the claims of the README, in the order in which a host lives."""

import json
import re
import time

import pytest

from tests.lab import machine

from .applied import apply
from .client import Client

# What people write, and what programs trip over.
QUESTION = """Why doesn't "100 %" of $PATH & <b>\\n</b> fit? — Größe ß, 日本, 🧂 'quoted' #1=2;"""


@pytest.fixture
def tickets(host):
    return Client(host.address, "tickets.localhost")


@pytest.fixture
def faq(host):
    return Client(host.address, "faq.localhost")


def answered_ticket(tickets, question):
    """Open a ticket and answer it; return its number."""
    path = tickets.submit("/tickets/new", "/tickets/new", question=question)
    number = re.fullmatch("/tickets/([0-9]+)", path)[1]
    tickets.submit(path, f"{path}/answer", answer="Because.")
    return number


def published(faq, source):
    """Wait until the FAQ has a question from a source, and return it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [one for one in faq.get("/v1/questions?limit=100").json()["questions"] if one["source"] == source]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"the FAQ has no question from {source} after 60 s")


def test_bootstrap_says_what_to_do_next(story):
    assert story.bootstrap == "bootstrap.sh: dev is ready; converge it with: salt-call state.apply"


def test_bootstrap_run_again_changes_nothing(host):
    def fingerprint():
        return host.sh("find /opt/saltern /etc/salt /usr/local/bin -printf '%p %T@ %s\\n' | sort | sha256sum").stdout

    before = fingerprint()
    assert host.bootstrap() == "bootstrap.sh: dev is ready; nothing to do"
    assert fingerprint() == before


def test_bootstrap_makes_a_key_for_secrets_once_that_root_alone_can_use(host):
    show = "gpg --homedir /etc/salt/gpgkeys --armor --export"
    said = host.run("/srv/saltern/bootstrap.sh", env=machine.index_environment()).stdout
    assert f"the key by which dev reads secrets: {show}\n" in said
    assert "BEGIN PGP" not in said
    assert "-----BEGIN PGP PUBLIC KEY BLOCK-----" in host.sh(show).stdout
    encrypt = "gpg --homedir /etc/salt/gpgkeys --recipient dev --encrypt"
    assert (
        host.sh(f"echo hunter2 | {encrypt} | gpg --homedir /etc/salt/gpgkeys --quiet --decrypt").stdout == "hunter2\n"
    )
    host.sh("gpgconf --homedir /etc/salt/gpgkeys --kill gpg-agent")
    assert host.sh("stat --format='%U %a' /etc/salt/gpgkeys").stdout == "root 700\n"


def test_a_dry_run_of_a_bare_host_fails_nothing_and_tells_what_would_change(story):
    assert story.dry.succeeded().changed == story.first.changed


def test_the_first_converge_succeeds(story):
    story.first.succeeded()


def test_a_second_converge_changes_nothing(story):
    story.second.changed_nothing()


def test_a_dry_run_of_a_converged_host_would_change_nothing(host):
    apply(host, "test=True").changed_nothing()


def test_the_host_is_what_was_declared(host, verify):
    print(verify(host).splitlines()[-1])


def test_a_ticket_opened_through_nginx_is_answered_and_comes_into_the_faq(host, tickets, faq):
    number = answered_ticket(tickets, QUESTION)
    assert published(faq, f"tickets:{number}")["question"] == QUESTION
    row = host.run(
        *("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", "faq", "-c"),
        f"SELECT to_json(question) FROM questions_question WHERE source = 'tickets:{number}'",
    )
    assert json.loads(row.stdout) == QUESTION


def test_both_versions_of_the_api_are_served(faq):
    first = faq.post("/v1/create", json={"question": "one?", "source": "test:1"}).json()
    second = faq.post("/v2/create", json={"question": "two?", "source": "test:2", "related": [first["id"]]}).json()
    assert faq.get(f"/v2/questions/{second['id']}").json()["related"] == [first["id"]]
    assert "related" not in faq.get(f"/v1/questions/{second['id']}").json()


def test_the_logs_are_one_stream_in_the_journal(host, tickets):
    tickets.get("/?find-me-in-the-journal")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = host.sh("journalctl -q -u supervisor -o short-iso -n 1000").stdout
        if "find-me-in-the-journal" in lines:
            break
        time.sleep(0.2)
    line = next(line for line in lines.splitlines() if "find-me-in-the-journal" in line)
    assert re.search(r"dev tickets\[web\.[12]\]\[\d+\]: ", line)
    for process in ("faq[web.1]", "tickets[worker.4]"):
        assert f" dev {process}[" in lines


def test_everything_is_there_again_after_a_reboot(host, tickets, faq, verify):
    number = answered_ticket(tickets, "Will this be there after the reboot?")
    question = published(faq, f"tickets:{number}")
    assert host.reboot() == "running"
    deadline = time.monotonic() + 60
    while tickets.get("/healthz").status_code != 200 or faq.get("/healthz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert faq.get(f"/v1/questions/{question['id']}").json() == question
    number = answered_ticket(tickets, "And do the workers work?")
    published(faq, f"tickets:{number}")
    apply(host).changed_nothing()
    verify(host)
