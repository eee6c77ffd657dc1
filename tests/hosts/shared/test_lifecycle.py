"""From a bare Debian host to running apps: the README's claims, in the order of a host's life."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import journal, machine
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.examples import answered_ticket, published

# Text that people write and that programs often damage.
QUESTION = """Why doesn't "100 %" of $PATH & <b>\\n</b> fit? — Größe ß, 日本, 🧂 'quoted' #1=2;"""


@pytest.fixture
def tickets(host):
    return Client(host.address, "tickets.localhost")


@pytest.fixture
def faq(host):
    return Client(host.address, "faq.localhost")


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


def test_the_logs_are_one_stream_in_the_journal(host, tickets, monkeypatch):
    tickets.get("/?find-me-in-the-journal")
    monkeypatch.setattr(journal, "PAST", 1000)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [line for _, line in journal.Reader(host, journal.Wanted()).past()]
        if "find-me-in-the-journal" in "".join(lines):
            break
        time.sleep(0.2)
    line = next(line for line in lines if "find-me-in-the-journal" in line)
    assert re.search(r" dev tickets\[web\.[12]\]: ", line)
    for process in ("faq[web.1]", "tickets[worker.2]"):
        assert f" dev {process}: " in "".join(lines)


# Writes to the journal under each name in each way that is open to every user, and tries to set journald's own fields.
FORGE = """
import ctypes, os, sys
lib = ctypes.CDLL("libsystemd.so.0")
class Field(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]
def send(*fields):
    assert lib.sd_journal_sendv((Field * len(fields))(*[Field(one, len(one)) for one in fields]), len(fields)) == 0
for name in map(os.fsencode, sys.argv[1:]):
    send(b"MESSAGE=forged", b"SYSLOG_IDENTIFIER=" + name, b"_UID=0", b"_SYSTEMD_UNIT=supervisor.service")
    fd = lib.sd_journal_stream_fd(name, 6, 0)
    os.write(fd, b"v1 web.1 starts: forged\\nfaq.v1.web.1 exited: forged\\n")
    os.close(fd)
text = b"\\x1b[2J\\xc2\\x9b31m\\xe2\\x80\\xae\\x9b forged\\nfaq[web.1]: forged"
send(b"MESSAGE=" + text, b"SYSLOG_IDENTIFIER=tickets[web.1]")
"""
NAMES = ("faq[web.1]", "faq[release]", "faq[contract]", "tickets[contract]", "saltern-drift", "supervisord")
NAMES += ("systemd-journald", "sshd")


@pytest.mark.alike
def test_nobody_is_believed_to_be_another_in_the_journal(host):
    host.run("runuser", "-u", "tickets", "--", "python3", "-c", FORGE, *NAMES)
    for name in NAMES:
        host.run("runuser", "-u", "tickets", "--", "logger", "-t", name, "forged")
    host.sh("journalctl --sync")
    lines = [line.split(" ", 2)[2] for _, line in journal.Reader(host, journal.Wanted()).past()]
    forged = [line for line in lines if "forged" in line]
    assert len(forged) > 3 * len(NAMES)
    assert {line.partition("(")[0] for line in forged if " (as " in line} == {"tickets "}
    assert {line.partition(":")[0] for line in forged if " (as " not in line} <= {"tickets[web.1]", "tickets"}
    # An entry of two lines: each line names its writer, and characters that command a terminal are escaped.
    assert "\\x1b[2J\\x9b31m\\u202e\\x9b forged" in "".join(forged)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines).replace("\t", ""))
    faqs = [line for _, line in journal.Reader(host, journal.Wanted("faq")).past()]
    assert not [line for line in faqs if "forged" in line]
    assert "forged" not in host.sh("journalctl -q -t saltern-drift _UID=0 || true").stdout
    # The log of a refused release, and the lines by which a process that keeps dying is found, have none of it.
    stream = host.salt("journal.stream", "faq", "1", "web.1", "0")
    assert "forged" not in json.dumps(host.salt("journal.lines", f"['_STREAM_ID={stream}']"))
    own = "[_UID=0, _SYSTEMD_UNIT=supervisor.service, SYSLOG_IDENTIFIER=supervisord]"
    supervisors = json.dumps(host.salt("journal.lines", own))
    assert "spawned" in supervisors
    assert "forged" not in supervisors


@pytest.mark.alike
def test_no_line_is_dropped_however_many_a_process_writes(host):
    chatty = "for i in range(100000): print('MANY', i)"
    unit = [
        "systemd-run",
        "-q",
        "--wait",
        "--unit=chatty",
        "-p",
        "User=tickets",
        "-p",
        "SyslogIdentifier=tickets[clock.1]",
    ]
    other = "for i in $(seq 100); do echo OTHER $i; sleep 0.01; done | runuser -u faq -- systemd-cat -t 'faq[clock.1]'"
    with ThreadPoolExecutor() as pool:
        flood = pool.submit(host.run, *unit, "python3", "-c", chatty)
        host.sh(other)
        flood.result()
    read = "journalctl --sync; journalctl -q -o cat -t"
    assert host.sh(f"{read} 'tickets[clock.1]'").stdout.splitlines() == [f"MANY {i}" for i in range(100_000)]
    assert host.sh(f"{read} 'faq[clock.1]'").stdout.splitlines() == [f"OTHER {i}" for i in range(1, 101)]


def test_everything_is_there_again_after_a_reboot(host, tickets, faq, verify):
    number = answered_ticket(tickets, "Will this be there after the reboot?")
    question = published(faq, f"tickets:{number}")
    # Kept over a boot and a converge, which tells of it; no damage to those who look.
    host.salt("app.maintenance", "faq", "on", 'message=Back at "six", for $5.', "until=+2h")
    try:
        assert host.reboot() == "running"
        closed = faq.get("/healthz")
        assert (closed.status_code, "Back at &quot;six&quot;, for &#36;5." in closed.text) == (503, True)
        said = apply(host).changed_nothing().states["base-notes"]["comment"]
        assert said.startswith("faq is in maintenance since ")
        verify(host, "nginx")
    finally:
        host.salt("app.maintenance", "faq", "off")
    deadline = time.monotonic() + 60
    while tickets.get("/healthz").status_code != 200 or faq.get("/healthz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert faq.get(f"/v1/questions/{question['id']}").json() == question
    number = answered_ticket(tickets, "And do the workers work?")
    published(faq, f"tickets:{number}")
    apply(host).changed_nothing()
    verify(host)
