"""Mail: the states and files of its hosts."""

import json

import pytest

from .minion import BUILD, SUITES, Host, certificates

PASSWORD = "canary'\"\\<&>%$#{}!:@/"
APPS = {"shop": {"build": BUILD, "port": 8000, "formation": {"web": 1}, "attach": {"EMAIL_URL": {"mail": "default"}}}}
SMART = {"host": "smtp.example.com", "user": "shop", "password": PASSWORD, "domain": "shop.example.com"}


def host_of(directory, relay, suite="bookworm", apps=APPS, **settings):
    """Return a host of all roles, with an app that attaches the relay."""
    host = Host(directory, "one", suite)
    row = {"roles": ["mail", "app", "proxy"], "address": "10.0.0.1", "environment": "dev"}
    host.declare("hosts.yaml", {"one": row})
    host.declare("common.sls", {"app": apps})
    mail = {"mail": {"relays": {"default": relay}, **settings}} if relay else {}
    host.declare("environments/dev.sls", {"ephemeral": True} | mail)
    host.declare("certificates/dev/one.sls", {"certificates": certificates("one", "10.0.0.1")})
    return host


def rendered(host, template):
    return host.ask("slsutil.renderer", f"path=salt://{template}", "default_renderer=jinja")


@pytest.mark.parametrize("suite", SUITES)
def test_the_relay_takes_mail_before_a_release_starts_and_ends_after_it(tmp_path, suite):
    states = host_of(tmp_path, SMART, suite).states()
    ids = [state["__id__"] for state in states]
    assert len(set(ids)) == len(ids)
    assert ids.index("mail-served") < ids.index("app-release-shop") < ids.index("mail-retired")
    assert "canary" not in json.dumps(states)


def test_without_an_attachment_only_what_is_left_of_it_is_looked_for(tmp_path):
    apps = {"shop": {word: value for word, value in APPS["shop"].items() if word != "attach"}}
    ids = [state["__id__"] for state in host_of(tmp_path, None, apps=apps).states()]
    assert [one for one in ids if one.startswith("mail-")] == ["mail-stock-off", "mail-package", "mail-retired"]


def test_the_smart_host_is_verified_and_told_the_password(tmp_path):
    host = host_of(tmp_path, SMART)
    text = rendered(host, "mail/files/main.cf.jinja")
    for line in (
        "myhostname = one.shop.example.com",
        "inet_interfaces = loopback-only",
        "relayhost = [smtp.example.com]:587",
        "smtp_tls_security_level = secure",
        "smtp_tls_wrappermode = no",
        "smtp_sasl_auth_enable = yes",
        "message_size_limit = 26214400",
        "maximal_queue_lifetime = 120h",
    ):
        assert f"\n{line}\n" in text
    assert "canary" not in text
    assert rendered(host, "mail/files/password.jinja").splitlines()[-1] == f"[smtp.example.com]:587 shop:{PASSWORD}"
    at_once = host_of(tmp_path / "2", SMART | {"port": 465})
    assert "\nsmtp_tls_wrappermode = yes\n" in rendered(at_once, "mail/files/main.cf.jinja")


def test_a_parameter_of_the_pillar_takes_the_place_of_the_usual_one(tmp_path):
    settings = {"queue_run_delay": "5m", "always_bcc": "archive@example.com"}
    lines = rendered(host_of(tmp_path, SMART, settings=settings), "mail/files/main.cf.jinja").splitlines()
    names = [line.partition(" =")[0] for line in lines if line and line[0] != "#"]
    assert sorted(names) == sorted(set(names))
    assert {"queue_run_delay = 5m", "always_bcc = archive@example.com", "minimal_backoff_time = 1m"} <= set(lines)


def test_a_parameter_that_is_read_at_the_start_alone_restarts_the_relay(tmp_path):
    texts = [
        rendered(host_of(tmp_path / name, SMART, settings=settings), "mail/files/master.cf.jinja")
        for name, settings in (("none", {"biff": "yes"}), ("one", {"inet_protocols": "ipv4"}))
    ]
    assert set(texts[1].splitlines()) - set(texts[0].splitlines()) == {"# inet_protocols = ipv4"}
    assert "\nsmtp      inet  n " in texts[0]


def test_a_catcher_gets_it_in_clear_on_this_host(tmp_path):
    host = host_of(tmp_path, SMART | {"catch": True})
    text = rendered(host, "mail/files/main.cf.jinja")
    for line in (
        "relayhost = [127.0.0.1]:1025",
        "smtp_tls_security_level = none",
        "smtp_sasl_auth_enable = no",
    ):
        assert f"\n{line}\n" in text
    assert "canary" not in rendered(host, "mail/files/password.jinja")
