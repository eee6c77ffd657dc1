"""Judging a build: a build that would break other apps is refused."""

from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltern.contracts import judge
from saltern.host import Host
from saltern.releases import process, store

ROOT = Path(__file__).parents[3]
SHA256 = "0123456789ab" + "0" * 52
BOTH = {"v1": {}, "v2": {}}
TICKETS, SURVEY = ("tickets", "FAQ_API"), ("survey", "API")
STILL = ("tickets v3", "FAQ_API")
DROPS = "app.faq.build: drops v1, which"
KEEP = "expected a build that keeps it"
MISSING = (
    f"app.faq.provides.v2: build {SHA256[:12]} has no openapi/v2.yaml; expected the OpenAPI document of that version "
    "in the app's tree, and a build that bin/build made of it"
)
NOTHING = {"v1": [], "v2": []}
MISTAKES = {
    "nobody uses anything": ({}, BOTH, BOTH, NOTHING, []),
    "both are used and there": ({"v1": [TICKETS], "v2": [SURVEY]}, BOTH, BOTH, NOTHING, []),
    "the first build": ({"v1": [TICKETS]}, {}, BOTH, NOTHING, []),
    "one that is used and new": ({"v2": [SURVEY]}, {"v1": {}}, BOTH, NOTHING, []),
    "one that nobody uses is broken": ({"v1": [TICKETS]}, BOTH, BOTH, {"v1": [], "v2": ["GET /v2/x is gone"]}, []),
    "one that is used is gone": (
        {"v1": [TICKETS, SURVEY]},
        BOTH,
        {"v2": {}},
        NOTHING,
        [
            f"{DROPS} tickets attaches as FAQ_API; {KEEP}, or detach it first",
            f"{DROPS} survey attaches as API; {KEEP}, or detach it first",
        ],
    ),
    "one that a release still has is gone": (
        {"v1": [STILL]},
        BOTH,
        {"v2": {}},
        NOTHING,
        [f"{DROPS} tickets v3 still has as FAQ_API; {KEEP} until that release is gone"],
    ),
    "one that is declared and was never there": ({}, {}, {"v1": {}}, NOTHING, [MISSING]),
    "one that is declared and is gone": ({}, BOTH, {"v1": {}}, NOTHING, [MISSING]),
    "one that is used is broken": (
        {"v1": [TICKETS]},
        BOTH,
        BOTH,
        {"v1": ["a", "b", "c", "d", "e"]},
        [
            "app.faq.build: breaks v1, which tickets attaches as FAQ_API: a; b; c and 2 more; "
            f"{KEEP} and adds another version, or detach it first"
        ],
    ),
}


@pytest.mark.parametrize("uses, before, after, breaks, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_build_is_judged(uses, before, after, breaks, expected):
    provides = {"v1": {"path": "/v1"}, "v2": {"path": "/v2"}}
    assert judge.mistakes("faq", provides, SHA256, uses, before, after, breaks.__getitem__) == expected


def test_a_version_that_is_no_longer_declared_may_go():
    assert judge.mistakes("faq", {"v2": {}}, SHA256, {}, BOTH, {"v2": {}}, NOTHING.__getitem__) == []


def test_who_attaches_a_service_is_listed_by_version():
    apps = {
        "faq": {"attach": {"DATABASE_URL": {"postgres": "faq"}}},
        "tickets": {"attach": {"FAQ_API": {"service": "faq", "version": "v1"}}},
        "survey": {
            "attach": {
                "B": {"service": "faq", "version": "v2"},
                "A": {"service": "faq", "version": "v1"},
                "OTHER": {"service": "shop", "version": "v1"},
                "ELSEWHERE": {"service": "faq", "version": "v1", "url": "https://faq.example.com/v1"},
            }
        },
    }
    assert judge.attached(apps, "faq") == {"v1": [("survey", "A"), ("tickets", "FAQ_API")], "v2": [("survey", "B")]}


def use(service, version, **more):
    return {"attach": {"FAQ_API": {"service": service, "version": version, **more}}}


@pytest.fixture
def judged(monkeypatch):
    """Return a function that judges a build of faq with changed documents, on a host where another build serves."""
    texts = {version: (ROOT / f"examples/faq/openapi/{version}.yaml").read_text() for version in ("v1", "v2")}
    monkeypatch.setattr(judge, "text", lambda app, sha256, version: texts[version])

    def call(documents, running=(), test=False, plan=1, **pillar):
        provides = {"v1": {"path": "/v1"}, "v2": {"path": "/v2"}}
        faq = {"port": 8200, "provides": provides, "attach": {}} | pillar.pop("faq", {})
        environs = {(app, number): environ for app, number, environ in running}
        monkeypatch.setattr(process, "releases", lambda: list(environs))
        monkeypatch.setattr(store, "current", lambda app: 1)
        had = {"build": "old", "provides": {"v1": "/v1", "v2": "/v2"}}
        monkeypatch.setattr(store, "record", lambda app, number: had)
        monkeypatch.setattr(store, "build", lambda app, sha256: {"contracts": BOTH})
        monkeypatch.setattr(store, "environ", lambda app, number: environs[app, number])
        host = Host.of(
            {"release.plan": lambda app: {"number": plan}},
            {"app": {"faq": faq, **pillar}, "hosts": {"web1": {"address": "10.0.0.1"}}},
            {"id": "web1", "test": test},
        )
        made = texts | documents
        after = {version: {} for version, text in made.items() if text}
        judge.judge(host, "faq", SHA256, {"contracts": after}, made.__getitem__)

    return call


def test_a_build_that_keeps_what_is_used_is_taken(judged):
    judged({}, tickets=use("faq", "v1"), survey=use("faq", "v2"))
    judged({"v2": "openapi: 3.1.0\npaths: {/v2/x: {get: {}}}\n"}, tickets=use("faq", "v1"))


REFUSED = {
    "a document without what is used": ("v1", "paths: {/v1/x: {get: {}}}", "app.faq.build: breaks v1, which tickets "),
    "no document": ("v1", "", f"{DROPS} tickets attaches as FAQ_API; "),
    "a document that is none": ("v1", "a: [", "app.faq.build: openapi/v1.yaml: line "),
    "a document that is nested too deep": ("v2", "[" * 50_000, "app.faq.build: openapi/v2.yaml: line 1: more than 100"),
    "a document that is no OpenAPI": ("v1", "paths: [a]", "app.faq.build: openapi/v1.yaml: cannot be read (Attr"),
    "a document that nobody uses and that is no OpenAPI": (
        "v2",
        "paths: {/v2/x: [a]}",
        "app.faq.build: openapi/v2.yaml: cannot be read (AttributeError); build it again",
    ),
    "a document of another path": (
        "v2",
        "paths: {/v3/x: {get: {}}}",
        "app.faq.provides.v2.path: nothing of openapi/v2.yaml is below it; expected what its paths start with",
    ),
}


@pytest.mark.parametrize("version, text, message", REFUSED.values(), ids=REFUSED)
def test_a_build_is_refused_for(judged, version, text, message):
    with pytest.raises(CommandExecutionError) as raised:
        judged({version: text}, tickets=use("faq", "v1"))
    assert str(raised.value).startswith(message)


def running(value):
    return [("survey", 3, {"FAQ_API": value.encode(), "OTHER": b"http://[", "BYTES": b"\xff"})]


RUNS = "app.faq.build: drops v2, which survey v3 still has as FAQ_API; expected a build that keeps it until"


@pytest.mark.parametrize("value", ["http://127.0.0.1:8200/v2", "http://10.0.0.1:8200/v2/"])
def test_a_release_that_still_runs_keeps_what_it_uses(judged, value):
    without = {"provides": {"v1": {"path": "/v1"}}}
    for survey in ({"attach": {}}, use("faq", "v1"), use("faq", "v2", url="https://elsewhere/v2")):
        with pytest.raises(CommandExecutionError, match=RUNS):
            judged({"v2": ""}, running(value), faq=without, survey=survey)
    # A version that is attached is named once.
    with pytest.raises(CommandExecutionError) as raised:
        judged({"v2": ""}, running(value), survey=use("faq", "v2"))
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8300/v2", "http://10.0.0.9:8200/v2", "http://127.0.0.1:8200/v1", "v2"]
)
def test_another_url_keeps_nothing(judged, value):
    judged({"v2": ""}, running(value), faq={"provides": {"v1": {"path": "/v1"}}}, survey={"attach": {}})


def test_a_dry_run_knows_which_releases_are_gone_by_then(judged):
    one = [("alpha", 3, {"FAQ_API": b"http://127.0.0.1:8200/v2"})]
    without = {"provides": {"v1": {"path": "/v1"}}}
    # Its release comes before faq's and no longer attaches the version.
    judged({"v2": ""}, one, test=True, plan=4, faq=without, alpha={"attach": {}})
    judged({"v2": ""}, running("http://127.0.0.1:8200/v2"), test=True, faq=without)
    for again in ({"test": True, "plan": 3}, {"test": False, "plan": 4}):
        with pytest.raises(CommandExecutionError, match="which alpha v3 still has"):
            judged({"v2": ""}, one, faq=without, alpha={"attach": {}}, **again)
    with pytest.raises(CommandExecutionError, match="which survey v3 still has"):
        judged({"v2": ""}, running("http://127.0.0.1:8200/v2"), test=True, plan=4, faq=without, survey={"attach": {}})


@pytest.mark.parametrize("what", [b"\xff", None])
def test_a_document_that_cannot_be_read_is_told(tmp_path, what):
    (tmp_path / "openapi").mkdir()
    if what:
        (tmp_path / "openapi/v1.yaml").write_bytes(what)
    else:
        (tmp_path / "openapi/v1.yaml").mkdir()
    with pytest.raises(
        CommandExecutionError, match=r"^app\.faq\.build: openapi/v1\.yaml: cannot be read \(.*Error\); "
    ):
        judge.text_of("faq", str(tmp_path), "v1")


DROPPED = {
    "all are in it": ({"v1": {}, "v2": {}}, []),
    "one that is attached is not in it": ({"v2": {}}, ["v1, which tickets attaches as FAQ_API"]),
    "one that nobody attaches is not in it": ({"v1": {}}, []),
    "it is from before there were contracts": (None, []),
}


@pytest.mark.parametrize("known, expected", DROPPED.values(), ids=DROPPED)
def test_a_rollback_knows_what_the_earlier_build_lacks(monkeypatch, known, expected):
    build = {} if known is None else {"contracts": known}
    pillar = {"app": {"faq": {"attach": {}}, "tickets": use("faq", "v1")}}
    monkeypatch.setattr(store, "build", lambda app, sha256: build)
    assert judge.dropped(Host.of({}, pillar, {}), "faq", SHA256) == expected
