"""Calling a new release: what is called, which answers are wrong, and the command that calls."""

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

from saltern.contracts import ask, openapi
from saltern.host import Host
from saltern.releases import plan

ROOT = Path(__file__).parents[3]


@pytest.fixture
def served():
    """Return a function that serves a function's answers by path; it returns the port and a list of the calls."""
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
    """Return a function that checks a server against faq's first document; it returns the outcome and the calls."""

    def call(answer, safe=False, seconds=30):
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

    return call


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
    # The thread that reads a call's outcome gets no turn before the next call is due.
    sys.setswitchinterval(1)
    try:
        found, calls = asked(answer)
    finally:
        sys.setswitchinterval(interval)
    call = "GET /v1/questions?offset=0"
    assert found["wrong"] == {"version": "v1", "call": call, "expected": expected, "came": came}
    # The check ends there and shows nothing of the answer.
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


def test_the_outcome_is_told_in_lines():
    wrong = {"version": "v2", "call": "GET /", "expected": "JSON", "came": "200"}
    question = {"release": 3, "seconds": 5}
    assert list(ask.lines(question, {"calls": {"v1": 2, "v2": 1}, "end": True, "wrong": wrong})) == [
        "v3 openapi/v1.yaml: 2 calls, answered as it says",
        "v3 openapi/v2.yaml: GET /: expected JSON; came 200",
    ]
    assert list(ask.lines(question, {"calls": {"v1": 2}, "end": False, "wrong": None})) == [
        "v3 openapi/v1.yaml: 2 calls, answered as it says",
        "v3: what is left was not called: 5 s are over",
    ]


@pytest.fixture
def says(monkeypatch, tmp_path):
    """Return a function that runs the check with another command in place of the real one."""

    def answer(output, errors=b""):
        (tmp_path / "output").write_bytes(output)
        (tmp_path / "errors").write_bytes(errors)
        script = f"cat >/dev/null; cat {tmp_path}/output; cat {tmp_path}/errors >&2"
        monkeypatch.setattr(ask, "_command", lambda app: ["sh", "-c", script])
        with contextlib.closing(ask.Asker("faq")) as asker:
            return asker.answer({"seconds": 5, "documents": {"v1": {}}})

    return answer


def test_a_command_that_says_nothing_is_told(says):
    with pytest.raises(CommandExecutionError, match=r"No module named 'schemathesis'; run bootstrap\.sh again$"):
        says(b"", b"Traceback\nModuleNotFoundError: No module named 'schemathesis'\n")


def test_a_command_that_does_not_answer_is_told_and_ended(monkeypatch):
    monkeypatch.setattr(ask, "_command", lambda app: ["sleep", "60"])
    monkeypatch.setattr(ask, "START", 0)
    asker = ask.Asker("faq")
    with contextlib.closing(asker), pytest.raises(CommandExecutionError, match="no answer after 1 s"):
        asker.answer({"seconds": 1, "documents": {}})
    assert asker.process.returncode == -9


def test_what_was_begun_and_not_asked_is_ended(monkeypatch):
    monkeypatch.setattr(ask, "_command", lambda app: ["cat"])
    asker = ask.Asker("faq")
    asker.close()
    asker.close()
    assert asker.process.returncode == -9


@pytest.mark.parametrize("happens", ["nothing", "the command is another", "it has ended"])
def test_what_was_begun_ahead_is_taken_while_it_is_good(monkeypatch, tmp_path, happens):
    monkeypatch.setattr(ask, "_command", lambda app: ["cat"])
    monkeypatch.setattr(ask, "COMMAND", str(tmp_path / "contract"))
    (tmp_path / "contract").write_text("one")
    host, context = Host.of({}, {"app": {"faq": {"provides": {"v1": {}}}, "shop": {"provides": {}}}}, {}), {}
    assert ask.begin(host, "shop", context, ahead=True) is None
    ahead = ask.begin(host, "faq", context, ahead=True)
    if happens == "the command is another":
        (tmp_path / "new").write_text("another")
        (tmp_path / "new").rename(tmp_path / "contract")
    if happens == "it has ended":
        ahead.process.terminate()
        ahead.process.wait()
    with contextlib.closing(ask.begin(host, "faq", context)) as asker:
        assert (asker is ahead) is (happens == "nothing")
        with contextlib.closing(ask.begin(host, "faq", context)) as another:
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
    monkeypatch.setattr(ask, "begin", lambda host, app, context, ahead: found.append(app))
    dunders(contract_states, salt={}, pillar={"app": apps}, opts={"test": test}, context={})
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


def test_the_command_has_bounds_of_its_own():
    command = ask._command("faq")
    assert command[command.index("prlimit") : command.index("setpriv")] == [
        "prlimit",
        "--fsize=65536",
        "--as=1073741824",
        "--core=0",
    ]
    # The app's answers control the command, so it may do no more than the app's processes may.
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


def test_the_command_has_the_limits_of_the_app_that_it_asks():
    command = ask._command("my-shop")
    assert command[:4] == ["systemd-run", "--quiet", "--collect", "--scope"]
    assert re.fullmatch(r"--unit=app-my\\x2dshop-contract-[0-9]+\.[0-9]+\.scope", command[4])
    assert command[5] == "--slice=app-my\\x2dshop.slice"
    # It belongs to root until it has joined the group, since its user may not move processes.
    assert command.index("setpriv") > command.index("choom") > 5


def test_a_command_that_is_killed_is_told(monkeypatch):
    monkeypatch.setattr(ask, "_command", lambda app: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(CommandExecutionError, match=r"it was killed; expected that app\.faq\.limits\.memory leaves"):
        ask.Asker("faq").answer({"seconds": 1, "documents": {}})
