"""Postfix's configuration: what the pillar sets, and what Postfix refuses of it."""

import re
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.services import mail_config as config
from saltern.services.steps import Run
from tests.unit.conftest import ROOT

TEMPLATE = (ROOT / "formulas/mail/files/main.cf.jinja").read_text()
PROGRAMS = (ROOT / "formulas/mail/files/master.cf.jinja").read_text().partition("endfor %}\n")[2]


def test_whatever_the_formula_sets_itself_is_refused_and_its_setting_is_named():
    own = set(re.findall(r"(?m)^(\w+) =", TEMPLATE))
    assert len(own) > 15
    assert own <= config.OWN.keys()
    assert not config.OWN.keys() & config.USUAL.keys()
    assert config.mistakes({"settings": {"relayhost": "x", "mynetworks": "0.0.0.0/0", "always_bcc": "x"}}) == [
        "mail.settings.mynetworks: is Saltern's own; expected another parameter",
        "mail.settings.relayhost: is mail.relays.default.host; expected it there",
    ]


def test_a_parameter_of_the_pillar_takes_the_place_of_the_usual_one():
    found = config.parameters({"settings": {"biff": "yes", "always_bcc": "archive@example.com"}})
    assert found == {**config.USUAL, "biff": "yes", "always_bcc": "archive@example.com"}


def test_a_scratch_relay_reaches_no_network():
    lines = [line.split() for line in config._apart(PROGRAMS).splitlines() if not line.startswith("#")]
    assert not [line for line in lines if line[1] == "inet"]
    assert {line[0]: line[-1] for line in lines if line[-1] in ("smtp", "discard", "smtpd")} == {
        "smtpd": "smtpd",
        "smtp": "discard",
        "smtp-client": "smtp",
        "relay": "discard",
        "relay-client": "smtp",
        "discard": "discard",
    }
    assert len(lines) == len([line for line in PROGRAMS.splitlines() if not line.startswith("#")]) + 2


@pytest.fixture
def live(monkeypatch, tmp_path):
    """A function that runs the step with parameters; it returns its comment, and what Postfix tried."""
    seen = []

    def run(declared, refused=(), written="", is_there=True):
        text = "".join(f"{name} = {value}\n" for name, value in declared.items())
        (tmp_path / "main.cf").write_text(written)
        monkeypatch.setattr(config, "rendered", lambda host, template: text if template == config.TEMPLATE else "")
        monkeypatch.setattr(config.shutil, "which", lambda name: name if is_there else None)
        monkeypatch.setattr(config, "tried", lambda text, programs, declared: seen.append(text) or list(refused))
        host = Host.of({}, {"mail": {"settings": declared}}, {})
        return config.judged(Run(host, [], lambda name: False), str(tmp_path / "main.cf")).comment, text, seen

    return run


def test_what_is_the_same_or_not_there_is_not_tried(live):
    assert live({})[::2] == ("Postfix has the parameters of the pillar", [])
    comment, text, seen = live({"always_bcc": "x"}, is_there=False)
    assert (comment.partition(":")[0], seen) == ("Postfix is not there yet", [])
    assert live({"always_bcc": "x"}, written=text)[::2] == ("Postfix has the parameters of the pillar", [])
    assert live({"always_bcc": "x"})[::2] == ("Postfix takes mail with these parameters", [text])
    with pytest.raises(CommandExecutionError, match=r"^one\ntwo$"):
        live({"always_bcc": "x"}, ["one", "two"])


SECRET = "a-secret"
TOLD = {
    "by name": (f"parameter queue_run_delay: bad time value or unit: {SECRET}", "queue_run_delay"),
    "as a number": (f"bad numerical configuration: default_process_limit = {SECRET}", "default_process_limit"),
    "by value": (f'Invalid TLS level "{SECRET}"', "always_bcc"),
    "a table": (
        f"the relay answers 451 4.3.0 Temporary lookup failure; hash:{SECRET} is unavailable. open database",
        "transport_maps",
    ),
}
DECLARED = {
    "always_bcc": SECRET,
    "default_process_limit": "1",
    "queue_run_delay": "1",
    "transport_maps": f"hash:{SECRET}",
}


@pytest.mark.parametrize("why, name", TOLD.values(), ids=TOLD)
def test_what_postfix_refuses_is_told_by_path_without_its_value(why, name):
    told = f"mail.settings.{name}: Postfix refuses the value; expected one that it takes"
    assert config._told(why, DECLARED) == told


def test_a_reason_that_names_no_parameter_is_told_without_values():
    assert config._told(f'unknown service "{SECRET}"; more', {"always_bcc": "x"}) == (
        "mail.settings: Postfix would not take mail: unknown service a value; expected parameters with which it does"
    )


def test_a_parameter_that_postfix_does_not_know_is_told(monkeypatch):
    said = "postconf: warning: /x/main.cf: unused parameter: nope=a-secret\n"
    said += "postconf: warning: /x/main.cf: undefined parameter: nosuch\n"
    monkeypatch.setattr(config, "_run", lambda *command: subprocess.CompletedProcess(command, 0, "", said))
    monkeypatch.setattr(config.shutil, "chown", lambda *_: None)
    assert config.tried("", PROGRAMS, {"nope": "a-secret", "always_bcc": "x"}) == [
        "mail.settings.nope: no part of the relay knows it; expected a parameter of Postfix"
    ]
