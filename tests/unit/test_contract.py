"""Contracts: which builds are refused for what they would do to others, and what is asked of a new release."""

import contextlib
import http.server
import json
import re
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from salt.exceptions import CommandExecutionError

from saltern.contracts import openapi
from saltern.releases import plan, process, store

ROOT = Path(__file__).parents[2]
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
def test_a_build_is_judged(contract, uses, before, after, breaks, expected):
    provides = {"v1": {"path": "/v1"}, "v2": {"path": "/v2"}}
    assert contract.mistakes("faq", provides, SHA256, uses, before, after, breaks.__getitem__) == expected


def test_a_version_that_is_no_longer_declared_may_go(contract):
    assert contract.mistakes("faq", {"v2": {}}, SHA256, {}, BOTH, {"v2": {}}, NOTHING.__getitem__) == []


def test_who_attaches_a_service_is_listed_by_version(contract):
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
    assert contract.attached(apps, "faq") == {"v1": [("survey", "A"), ("tickets", "FAQ_API")], "v2": [("survey", "B")]}


def use(service, version, **more):
    return {"attach": {"FAQ_API": {"service": service, "version": version, **more}}}


@pytest.fixture
def judge(contract, dunders, monkeypatch):
    """Return a function that judges a build of faq whose documents are changed, on a host where another one serves."""
    texts = {version: (ROOT / f"examples/faq/openapi/{version}.yaml").read_text() for version in ("v1", "v2")}
    monkeypatch.setattr(contract, "_text", lambda app, sha256, version: texts[version])

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
        dunders(
            contract,
            salt={"release.plan": lambda app: {"number": plan}},
            pillar={"app": {"faq": faq, **pillar}, "hosts": {"web1": {"address": "10.0.0.1"}}},
            opts={"id": "web1", "test": test},
        )
        made = texts | documents
        after = {version: {} for version, text in made.items() if text}
        contract.judge("faq", SHA256, {"contracts": after}, made.__getitem__)

    return call


def test_a_build_that_keeps_what_is_used_is_taken(judge):
    judge({}, tickets=use("faq", "v1"), survey=use("faq", "v2"))
    judge({"v2": "openapi: 3.1.0\npaths: {/v2/x: {get: {}}}\n"}, tickets=use("faq", "v1"))


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
def test_a_build_is_refused_for(judge, version, text, message):
    with pytest.raises(CommandExecutionError) as raised:
        judge({version: text}, tickets=use("faq", "v1"))
    assert str(raised.value).startswith(message)


def running(value):
    return [("survey", 3, {"FAQ_API": value.encode(), "OTHER": b"http://[", "BYTES": b"\xff"})]


RUNS = "app.faq.build: drops v2, which survey v3 still has as FAQ_API; expected a build that keeps it until"


@pytest.mark.parametrize("value", ["http://127.0.0.1:8200/v2", "http://10.0.0.1:8200/v2/"])
def test_a_release_that_still_runs_keeps_what_it_uses(judge, value):
    without = {"provides": {"v1": {"path": "/v1"}}}
    for survey in ({"attach": {}}, use("faq", "v1"), use("faq", "v2", url="https://elsewhere/v2")):
        with pytest.raises(CommandExecutionError, match=RUNS):
            judge({"v2": ""}, running(value), faq=without, survey=survey)
    # One that is attached is told once.
    with pytest.raises(CommandExecutionError) as raised:
        judge({"v2": ""}, running(value), survey=use("faq", "v2"))
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8300/v2", "http://10.0.0.9:8200/v2", "http://127.0.0.1:8200/v1", "v2"]
)
def test_another_url_keeps_nothing(judge, value):
    judge({"v2": ""}, running(value), faq={"provides": {"v1": {"path": "/v1"}}}, survey={"attach": {}})


def test_a_dry_run_knows_which_releases_are_gone_by_then(judge):
    one = [("alpha", 3, {"FAQ_API": b"http://127.0.0.1:8200/v2"})]
    without = {"provides": {"v1": {"path": "/v1"}}}
    # Its turn is before faq's, and its next release does not have it.
    judge({"v2": ""}, one, test=True, plan=4, faq=without, alpha={"attach": {}})
    judge({"v2": ""}, running("http://127.0.0.1:8200/v2"), test=True, faq=without)
    for again in ({"test": True, "plan": 3}, {"test": False, "plan": 4}):
        with pytest.raises(CommandExecutionError, match="which alpha v3 still has"):
            judge({"v2": ""}, one, faq=without, alpha={"attach": {}}, **again)
    with pytest.raises(CommandExecutionError, match="which survey v3 still has"):
        judge({"v2": ""}, running("http://127.0.0.1:8200/v2"), test=True, plan=4, faq=without, survey={"attach": {}})


# --- What is asked of a release ---------------------------------------------------------------------------------------


@pytest.fixture
def served():
    """Return a function that serves what a function answers to a path, and returns the port and what was called."""
    servers = []

    def serve(answer):
        calls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def respond(self):
                calls.append((self.command, self.path, self.headers["Host"], self.headers["X-Forwarded-Proto"]))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content, kind = answer(urlsplit(self.path).path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Location", "/v1/questions/1")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = respond

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port, calls

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


QUESTION = {"id": 1, "question": "Why?", "source": "s", "created_at": "2026-01-01T00:00:00Z"}


def honest(path):
    """Answer as faq's first version does."""
    if path == "/v1/questions":
        return 200, json.dumps({"questions": [QUESTION], "total": 1, "limit": 20, "offset": 0}).encode(), JSON
    if path == "/v1/create":
        return 201, json.dumps(QUESTION).encode(), JSON
    return 404, b'{"errors": {"id": "None."}}', JSON


JSON = "application/json"


@pytest.fixture
def asked(contract_command, served):
    """Return a function that asks a server what faq's first document says; its answer, and what was called."""

    def ask(answer, safe=False, seconds=30):
        port, calls = served(answer)
        document = openapi.parse((ROOT / "examples/faq/openapi/v1.yaml").read_text())
        if safe:
            document["paths"]["/v1/create"]["post"]["x-safe"] = True
        question = {
            "app": "faq",
            "release": 2,
            "documents": {"v1": openapi.tried(document)},
            "origins": {"v1": f"http://127.0.0.1:{port}"},
            "host": "127.0.0.1:8200",
            "timeout": 2,
            "seconds": seconds,
        }
        return contract_command.main(question), calls

    return ask


def test_what_answers_as_its_document_says_is_right_and_the_calls_are_the_same_each_time(asked):
    answer, calls = asked(honest)
    assert answer == {"calls": {"v1": 12}, "end": True, "wrong": None}
    assert {call[0] for call in calls} == {"GET"}
    assert {call[2:] for call in calls} == {("127.0.0.1:8200", "http")}
    assert {urlsplit(call[1]).path for call in calls} == {"/v1/questions", "/v1/questions/0", "/v1/questions/1"}
    assert asked(honest)[1] == calls


def test_what_is_said_to_be_safe_is_called_too(asked):
    answer, calls = asked(honest, safe=True)
    assert answer["wrong"] is None
    assert {call[0] for call in calls} == {"GET", "POST"}


def changed(**fields):
    def answer(path):
        status, content, kind = honest(path)
        if path == "/v1/questions":
            shown = json.loads(content) | fields
            content = json.dumps({name: value for name, value in shown.items() if value is not None}).encode()
        return status, content, kind

    return answer


WRONG = {
    "a field is missing": (changed(total=None), "total in the body", "200 with another"),
    "a field has another type": (changed(total="canary"), "total of type integer", "200 with another"),
    "a field is too many": (changed(canary=1), "the body without canary", "200 with another"),
    "a field inside is missing": (
        changed(questions=[QUESTION | {"id": 2}, {"id": 1, "question": "x", "created_at": "2026-01-01T00:00:00Z"}]),
        "source in questions[1]",
        "200 with another",
    ),
    "a field is out of its bounds": (changed(total=-1), "total with minimum 0", "200 with another"),
    "a status is not in it": (lambda path: (418, b"{}", JSON), "status 200 or 400", "418"),
    "it leads elsewhere": (lambda path: (302, b"", JSON), "status 200 or 400", "302"),
    "it fails": (lambda path: (500, b"canary", "text/plain"), "no status from 500 on", "500"),
    "it is text": (lambda path: (200, b"canary", "text/plain"), JSON, "200 with text/plain"),
    "it is no JSON": (lambda path: (200, b"canary", JSON), "JSON", "200 with something else"),
}


@pytest.mark.parametrize("answer, expected, came", WRONG.values(), ids=WRONG)
def test_an_answer_is_wrong_when(asked, answer, expected, came):
    interval = sys.getswitchinterval()
    # The thread that reads the outcome of a call gets no turn before the next call would be made.
    sys.setswitchinterval(1)
    try:
        found, calls = asked(answer)
    finally:
        sys.setswitchinterval(interval)
    call = "GET /v1/questions?offset=0"
    assert found["wrong"] == {"version": "v1", "call": call, "expected": expected, "came": came}
    # It ends there, and shows nothing of what was answered.
    assert len(calls) == found["calls"]["v1"] <= 2
    assert "canary" not in json.dumps(found["wrong"]).replace("without canary", "")


def test_no_answer_is_wrong(asked):
    waiting = threading.Event()
    found, _ = asked(lambda path: waiting.wait(5) or honest(path))
    waiting.set()
    wrong = {"version": "v1", "call": "GET /v1/questions", "expected": "an answer within 2 s", "came": "none"}
    assert found["wrong"] == wrong


def test_it_ends_when_its_time_is_over(asked):
    waiting = threading.Event()
    found, calls = asked(lambda path: waiting.wait(0.5) or honest(path), seconds=1)
    assert (found["end"], found["wrong"]) == (False, None)
    assert 0 < len(calls) < 12


def test_what_came_of_it_is_told_in_lines(contract):
    wrong = {"version": "v2", "call": "GET /", "expected": "JSON", "came": "200"}
    question = {"release": 3, "seconds": 5}
    assert list(contract.lines(question, {"calls": {"v1": 2, "v2": 1}, "end": True, "wrong": wrong})) == [
        "v3 openapi/v1.yaml: 2 calls, answered as it says",
        "v3 openapi/v2.yaml: GET /: expected JSON; came 200",
    ]
    assert list(contract.lines(question, {"calls": {"v1": 2}, "end": False, "wrong": None})) == [
        "v3 openapi/v1.yaml: 2 calls, answered as it says",
        "v3: what is left was not called: 5 s are over",
    ]


@pytest.fixture
def says(contract, dunders, monkeypatch, tmp_path):
    """Return a function that has another command in the place of the one that asks, and asks it."""
    dunders(contract, salt={})

    def answer(output, errors=b""):
        (tmp_path / "output").write_bytes(output)
        (tmp_path / "errors").write_bytes(errors)
        script = f"cat >/dev/null; cat {tmp_path}/output; cat {tmp_path}/errors >&2"
        monkeypatch.setattr(contract, "_command", lambda app: ["sh", "-c", script])
        with contextlib.closing(contract.Asker("faq")) as asker:
            return asker.answer({"seconds": 5, "documents": {"v1": {}}})

    return answer


def test_a_command_that_says_nothing_is_told(says):
    with pytest.raises(CommandExecutionError, match=r"No module named 'schemathesis'; run bootstrap\.sh again$"):
        says(b"", b"Traceback\nModuleNotFoundError: No module named 'schemathesis'\n")


def test_a_command_that_does_not_answer_is_told_and_ended(contract, monkeypatch):
    monkeypatch.setattr(contract, "_command", lambda app: ["sleep", "60"])
    monkeypatch.setattr(contract, "START", 0)
    asker = contract.Asker("faq")
    with contextlib.closing(asker), pytest.raises(CommandExecutionError, match="no answer after 1 s"):
        asker.answer({"seconds": 1, "documents": {}})
    assert asker.process.returncode == -9


def test_what_was_begun_and_not_asked_is_ended(contract, monkeypatch):
    monkeypatch.setattr(contract, "_command", lambda app: ["cat"])
    asker = contract.Asker("faq")
    asker.close()
    asker.close()
    assert asker.process.returncode == -9


@pytest.mark.parametrize("happens", ["nothing", "the command is another", "it has ended"])
def test_what_was_begun_ahead_is_taken_while_it_is_good(contract, dunders, monkeypatch, tmp_path, happens):
    monkeypatch.setattr(contract, "_command", lambda app: ["cat"])
    monkeypatch.setattr(contract, "COMMAND", str(tmp_path / "contract"))
    (tmp_path / "contract").write_text("one")
    dunders(contract, context={}, pillar={"app": {"faq": {"provides": {"v1": {}}}, "shop": {"provides": {}}}})
    assert contract.begin("shop", ahead=True) is None
    ahead = contract.begin("faq", ahead=True)
    if happens == "the command is another":
        (tmp_path / "new").write_text("another")
        (tmp_path / "new").rename(tmp_path / "contract")
    if happens == "it has ended":
        ahead.process.terminate()
        ahead.process.wait()
    with contextlib.closing(contract.begin("faq")) as asker:
        assert (asker is ahead) is (happens == "nothing")
        with contextlib.closing(contract.begin("faq")) as another:
            assert another is not asker
    assert ahead.process.returncode is not None


DUE = {"faq": False, "shop": CommandExecutionError("no secret"), "survey": True, "tickets": True, "web": True}


@pytest.mark.parametrize("test, begun", [(False, ["tickets"]), (True, [])])
def test_early_in_a_run_the_first_app_that_is_due_is_begun(contract_states, dunders, monkeypatch, test, begun):
    found = []

    def is_due(host, app):
        if isinstance(DUE[app], Exception):
            raise DUE[app]
        return DUE[app]

    apps = {app: {"provides": {} if app == "survey" else {"v1": {}}} for app in DUE}
    monkeypatch.setattr(plan, "is_due", is_due)
    salt = {"contract.begin": lambda app, ahead: found.append(app)}
    dunders(contract_states, salt=salt, pillar={"app": apps}, opts={"test": test})
    ret = contract_states.begun("the command", sorted(apps))
    assert (ret["result"], ret["changes"], found) == (True, {}, begun)


WRONG = {"version": "v1", "call": "GET /", "expected": "JSON", "came": "200"}


@pytest.mark.parametrize(
    "answer, wrong",
    [({"wrong": None}, None), ({"wrong": WRONG}, WRONG), ({"wrong": WRONG | {"more": 1}}, WRONG)],
)
def test_what_the_command_answers(says, answer, wrong):
    assert says(json.dumps(answer).encode())["wrong"] == wrong


def test_what_the_command_says_cannot_command_a_terminal_and_has_an_end(says):
    wrong = says(json.dumps({"wrong": WRONG | {"call": "GET /\x1b[2J\r\n\u202e", "came": "x" * 9000}}).encode())
    assert wrong["wrong"] == WRONG | {"call": "GET /\\x1b[2J\\x0d\\n\\u202e", "came": "x" * 300 + "..."}


@pytest.mark.parametrize("what", [b"\xff", None])
def test_a_document_that_cannot_be_read_is_told(contract, tmp_path, what):
    (tmp_path / "openapi").mkdir()
    if what:
        (tmp_path / "openapi/v1.yaml").write_bytes(what)
    else:
        (tmp_path / "openapi/v1.yaml").mkdir()
    with pytest.raises(
        CommandExecutionError, match=r"^app\.faq\.build: openapi/v1\.yaml: cannot be read \(.*Error\); "
    ):
        contract.text_of("faq", str(tmp_path), "v1")


def test_the_command_has_bounds_of_its_own(contract):
    command = contract._command("faq")
    assert command[command.index("prlimit") : command.index("setpriv")] == [
        "prlimit",
        "--fsize=65536",
        "--as=1073741824",
        "--core=0",
    ]
    # The app's processes may have it do what they want: no more than they may.
    assert "--no-new-privs" in command[: command.index("--pdeathsig")]


@pytest.mark.parametrize(
    "output",
    [
        *(b"", b"[]", b"null", b"7", b'{"wrong": []}', b'{"wrong": {"version": 1}}', b"\xff\xfe", b"[" * 60_000),
        json.dumps({"wrong": WRONG | {"version": "v9"}}).encode(),
        b'{"wrong": null' + b" " * 100_000 + b"}",
    ],
    ids=range(10),
)
def test_what_an_app_may_have_made_of_its_answer_is_refused(says, output):
    with pytest.raises(CommandExecutionError, match="contract: it said: "):
        says(output)


DROPPED = {
    "all are in it": ({"v1": {}, "v2": {}}, []),
    "one that is attached is not in it": ({"v2": {}}, ["v1, which tickets attaches as FAQ_API"]),
    "one that nobody attaches is not in it": ({"v1": {}}, []),
    "it is from before there were contracts": (None, []),
}


@pytest.mark.parametrize("known, expected", DROPPED.values(), ids=DROPPED)
def test_a_rollback_knows_what_the_earlier_build_lacks(contract, dunders, monkeypatch, known, expected):
    build = {} if known is None else {"contracts": known}
    pillar = {"app": {"faq": {"attach": {}}, "tickets": use("faq", "v1")}}
    monkeypatch.setattr(store, "build", lambda app, sha256: build)
    dunders(contract, pillar=pillar)
    assert contract.dropped("faq", SHA256) == expected


def test_the_command_has_the_limits_of_the_app_that_it_asks(contract):
    command = contract._command("my-shop")
    assert command[:4] == ["systemd-run", "--quiet", "--collect", "--scope"]
    assert re.fullmatch(r"--unit=app-my\\x2dshop-contract-[0-9]+\.[0-9]+\.scope", command[4])
    assert command[5] == "--slice=app-my\\x2dshop.slice"
    # Root's until it is there: its user may not move it.
    assert command.index("setpriv") > command.index("choom") > 5


def test_a_command_that_is_killed_is_told(contract, monkeypatch):
    monkeypatch.setattr(contract, "_command", lambda app: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(CommandExecutionError, match=r"it was killed; expected that app\.faq\.limits\.memory leaves"):
        contract.Asker("faq").answer({"seconds": 1, "documents": {}})
