"""What an operator must know of a host."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern import notes as noted
from saltern.fleet import drain
from saltern.releases import plan

ROLLED = {"release": 1, "from": 2, "until": "another", "time": "12:00", "who": "ann", "declared": False}
HELD = {"release": 1, "from": None, "until": "unhold", "time": "12:00", "who": "ann"}

HOLDS = {
    "a rollback": (
        ROLLED,
        "faq is held at v1, and what the pillar declares does not serve: v2 was rolled back by ann at 12:00; declare "
        "another build or config, or release.unhold faq",
    ),
    "a hold of what is declared": (
        HELD | {"declared": True},
        "faq is held at v1, and what the pillar declares serves: it is held by ann at 12:00, until release.unhold faq",
    ),
    "a hold of something else": (
        HELD | {"declared": False},
        "faq is held at v1, and what the pillar declares does not serve: it is held by ann at 12:00, until "
        "release.unhold faq",
    ),
}


@pytest.mark.parametrize("held, note", HOLDS.values(), ids=HOLDS)
def test_a_hold_is_told(held, note):
    assert noted.held_note("faq", held) == note


HOSTS = {
    "app1": {"environment": "production", "roles": ["app"], "drain": True},
    "app2": {"environment": "production", "roles": ["app"]},
    "app3": {"environment": "staging", "roles": ["app"], "drain": True},
    "proxy1": {"environment": "production", "roles": ["proxy"]},
}
AT = "2023-11-14T22:13:20+00:00"
AWHILE = f"app2 takes no requests since {AT}: an orchestration has it so, or drain.end ends it"
DRAINED = {
    "the host itself": (
        "app1",
        0,
        ["app1 is drained (drain: true in pillar/hosts.yaml): the proxies send it no requests"],
    ),
    "no host": ("app2", 0, []),
    "for a while": (
        "app2",
        1_700_000_000,
        [AWHILE],
    ),
    "a proxy's": ("proxy1", 0, ["app1 is drained (drain: true in pillar/hosts.yaml): proxy1 sends it no requests"]),
}


@pytest.mark.parametrize("own, since, found", DRAINED.values(), ids=DRAINED)
def test_a_host_that_takes_no_requests_is_told(own, since, found):
    assert noted.drained(HOSTS, own, since) == found


def test_a_certificate_that_ends_soon_is_told():
    said = noted.ending(
        {"/etc/ssl/saltern/ca.pem": "2026-01-02", "/etc/ssl/saltern/sites/faq.pem": "2026-01-03"}, "staging"
    )
    assert said == [
        "/etc/ssl/saltern/ca.pem was not renewed in time and ends on 2026-01-02: make certificates ENV=staging, and "
        "converge its hosts",
        "/etc/ssl/saltern/sites/faq.pem was not renewed in time and ends on 2026-01-03: salt-call state.apply says why",
    ]


def test_all_of_a_host_is_told_and_an_app_that_cannot_be_asked_hides_none(notes, dunders, monkeypatch):
    def held(host, app):
        if app == "broken":
            raise CommandExecutionError("app.broken.config: missing")
        return ROLLED if app == "faq" else {}

    monkeypatch.setattr(plan, "held", held)
    monkeypatch.setattr(drain, "since", lambda: 1_700_000_000)
    pillar = {"hosts": HOSTS, "app": {app: {"jobs": {}} for app in ("broken", "faq", "shop")}}
    dunders(notes, salt={"certificate.expiring": dict}, pillar=pillar, opts={"id": "app2"})
    assert notes.of_host() == [HOLDS["a rollback"][1], AWHILE]
    assert notes.of_host(for_a_while=False) == [HOLDS["a rollback"][1]]


@pytest.mark.parametrize(
    "opts, shown",
    [
        ({"outputter_dirs": ["ours"]}, True),
        ({"outputter_dirs": ["ours"], "output": "highstate"}, True),
        ({"outputter_dirs": ["ours"], "output": "json"}, False),
        ({"outputter_dirs": ["ours"], "output": "quiet"}, False),
        # A host that was bootstrapped before this existed.
        ({}, False),
    ],
)
@pytest.mark.parametrize("found", [[], ["tickets is held"]])
def test_where_no_report_shows_it_standard_error_does(
    notes, notes_states, dunders, tmp_path, capsys, opts, shown, found
):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/highstate.py").write_text("")
    opts = opts | {"outputter_dirs": [str(tmp_path / name) for name in opts.get("outputter_dirs", [])]}
    dunders(notes, opts=opts)
    salt = {"notes.of_host": lambda for_a_while: found, "notes.tell": notes.tell}
    dunders(notes_states, salt=salt, opts={"__cli": "salt-call"})
    ret = notes_states.told("x")
    assert (ret["result"], ret["changes"], ret.get("warnings", [])) == (True, {}, found)
    assert capsys.readouterr().err == ("" if shown or not found else "note: tickets is held\n")
