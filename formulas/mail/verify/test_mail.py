"""Mail: the relay of the host takes mail from this host alone, and mail does not pile up in its queue."""

import json
import time

import pytest

# Greets the relay as a process would, by the URL or the parts that it has.
GREET = """
import json, smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=10) as relay:
    code, said = relay.ehlo()
    print(json.dumps([code, relay.mail("verify@example.com")[0], relay.rcpt("verify@example.com")[0], relay.rset()[0]]))
"""


@pytest.fixture(scope="module")
def relay(roles, settings):
    if "mail" not in roles:
        pytest.skip("the host does not have the role mail")
    found = {name: one for name, one in settings["mail"]["relays"].items() if one.get("owner")}
    if not found:
        pytest.skip("no app attaches the relay")
    return found["default"]


@pytest.fixture(scope="module")
def queue(host):
    """What Postfix says of each mail that is queued."""
    return [json.loads(line) for line in host.check_output("postqueue -j").splitlines()]


def test_it_runs_now_and_at_every_boot(host, relay):
    assert host.service("saltern-mail").is_running
    assert host.service("saltern-mail").is_enabled
    # Debian's own server would take mail from everybody.
    assert not host.service("postfix").is_running


def test_it_takes_mail_of_this_host_and_listens_to_no_other(host, relay):
    answers = json.loads(host.check_output("python3 -c %s 127.0.0.1 25", GREET))
    assert answers == [250, 250, 250, 250]
    addresses = host.check_output("ss -Hltn 'sport = :25'").split()[3::5]
    assert {address.rpartition(":")[0] for address in addresses} <= {"127.0.0.1", "[::1]"}


def test_it_hands_mail_on_as_is_declared(host, relay):
    wanted = {
        "relayhost": f"[{relay['host']}]:{relay['port']}",
        "smtp_tls_security_level": "none" if relay["catch"] else "secure",
        "smtp_sasl_auth_enable": "yes" if relay["user"] else "no",
        "mydestination": "",
        "inet_interfaces": "loopback-only",
    }
    for name, value in wanted.items():
        assert host.check_output("postconf -hx %s", name) == value, name

    for name, value in relay["parameters"].items():
        assert host.check_output("postconf -h %s", name) == value, name

    file = host.file("/etc/postfix/saltern-password")
    assert (file.user, file.mode) == ("root", 0o600)


def test_mail_is_not_queued_for_long(relay, queue):
    ages = [round((time.time() - one["arrival_time"]) / 60) for one in queue]
    reasons = {reason for one in queue for reason in (to.get("delay_reason") for to in one["recipients"]) if reason}
    assert not ages or max(ages) <= relay["late"], (
        f"{len(ages)} mails are queued, the oldest for {max(ages)} minutes: {'; '.join(sorted(reasons))}"
    )
