"""How long a run waits for a release's processes: until they answer, and then until supervisor reports RUNNING."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from saltern.host import Host
from saltern.releases import health, scopes, steps, store, supervisor
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal
from saltern.system import journal, listener

WEB = {"state": "STARTING", "pid": 7, "up": 0, "exit": "exit status 3"}
HEALTH = {"health": {"grace": 5, "settle": 2}, "site": {"routes": {}}}


@pytest.fixture
def step(monkeypatch):
    """Return a function that takes a step of a release with one web process, with these answers of supervisor."""
    monkeypatch.setattr(health, "ask", lambda settings, app, number, process, port: None)
    monkeypatch.setattr(health, "POLL", 0)
    strangers, told_last = {}, {}

    def lines(run, matches, grep, **options):
        said = [text for process, text in told_last.items() if f"SYSLOG_IDENTIFIER=shop[{process}]" in matches]
        return [{"MESSAGE": text} for text in said if text.startswith(grep.removeprefix("^"))]

    def take(functions, *told, left=1):
        info = ({"shop.v2.web.1": WEB | one} for one in told)
        monkeypatch.setattr(supervisor, "info", lambda app, number: next(info))
        monkeypatch.setattr(listener, "stranger", lambda port, pids: strangers.get(port))
        monkeypatch.setattr(store, "created", lambda app, number: 0)
        monkeypatch.setattr(journal, "lines", lines)
        move = Move(Host.of({}, {}, {}), "shop", 2, {"web.1": 8101}, left, HEALTH)
        for each in functions:
            getattr(steps, each)(move)
        return len(list(info))

    take.strangers, take.told_last = strangers, told_last
    return take


def test_a_process_that_answers_has_requests_before_supervisor_calls_it_running(step):
    assert step(["health"], {}, {}) == 1


def test_its_predecessor_stays_until_supervisor_does(step):
    assert step(["running"], {}, {}, {"state": "RUNNING", "up": 1}) == 0


@pytest.mark.parametrize("end", [{"state": "BACKOFF", "pid": 0}, {"state": "EXITED", "pid": 0}, {"pid": 8}])
def test_one_that_ends_in_its_first_second_is_refused(step, end):
    with pytest.raises(Refusal, match=r"web\.1 ended by itself, exit status 3"):
        step(["running"], {}, end, {"state": "RUNNING"})


def test_one_that_ends_before_it_is_looked_at_again_is_refused(step):
    with pytest.raises(Refusal, match=r"web\.1 ended by itself, exit status 3"):
        step(["health", "running"], {}, {"pid": 8, "state": "RUNNING"})


def test_the_launcher_tells_how_a_process_ended_after_supervisor_has_restarted_it(step):
    step.told_last["web.1"] = "v2 web.1 has ended: exit status 1"
    with pytest.raises(Refusal, match=r"^web\.1 ended by itself, exit status 1$"):
        step(["running"], {}, {"pid": 8, "exit": "exit status 0"})


def test_one_of_the_serving_release_has_its_grace(step):
    told = ({}, {"state": "BACKOFF", "pid": 0}, {"pid": 8}, {"pid": 8, "state": "RUNNING"})
    assert step(["running"], *told, left=2) == 0


def test_who_has_the_port_of_one_that_ended_is_told(step):
    step.strangers[8101] = "shop v1 web.1, PID 812 (python3.11)"
    with pytest.raises(Refusal, match=r"exit status 3; port 8101 is taken by shop v1 web\.1, PID 812"):
        step(["health"], {"state": "BACKOFF", "pid": 0})


def test_a_health_path_that_redirects_is_refused_at_once(step, monkeypatch):
    monkeypatch.setattr(health, "ask", lambda *asked: health.Redirect("/healthz answered 302"))
    with pytest.raises(Refusal, match=r"^/healthz answered 302$"):
        step(["health"], {})


LISTENS = {
    "a port of its own choice": (
        [8000],
        "; it listens on port 8000, and is expected at 127.0.0.1:{} (the variable PORT)",
    ),
    "::1 alone": (
        ["its"],
        "; it listens on port {0} of another address, and is expected at 127.0.0.1:{0} (the variable PORT)",
    ),
    "none": ([], "; it listens on no port, and is expected at 127.0.0.1:{} (the variable PORT)"),
}


@pytest.mark.parametrize("found, said", LISTENS.values(), ids=LISTENS)
def test_where_one_listens_that_does_not_answer_is_told(monkeypatch, found, said):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        ports = [port if one == "its" else one for one in found]
        monkeypatch.setattr(scopes, "pids", lambda *names: [7])
        monkeypatch.setattr(listener, "ports", lambda pids: ports)
        assert health.elsewhere("shop", 2, "web.1", port) == said.format(port)
        assert health.elsewhere("shop", 2, "worker.1", None) == ""
        server.listen()
        assert health.elsewhere("shop", 2, "web.1", port) == ""


@pytest.mark.parametrize(
    "state, said",
    [
        ("BACKOFF", "ends right after its start, and is started again and again"),
        ("RUNNING", "runs"),
        ("UNKNOWN", "UNKNOWN"),
        (None, "is not known to supervisor"),
    ],
)
def test_the_state_of_a_process_is_known_without_supervisor(state, said):
    assert health.in_words(state) == said


def test_who_has_the_port_of_an_app_is_not_asked(monkeypatch):
    looked_up, strangers, asked = [], [], []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    def stranger(port, pids):
        looked_up.append(pids)
        return strangers[0] if strangers else None

    monkeypatch.setattr(listener, "stranger", stranger)
    monkeypatch.setattr(scopes, "pids", lambda *process: [process])
    live = {"process": "asgi", "health": {"path": "/live/healthz"}}
    settings = {
        "health": {"path": "/", "status": 200, "timeout": 5},
        "domains": [],
        "site": {"routes": {"/live/": live}},
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert health.ask(settings, "shop", 3, "web.1", port) is None
        strangers.append("user evil, PID 7 (nc)")
        assert health.ask(settings, "shop", 3, "web.1", port) == f"port {port} is taken by user evil, PID 7 (nc)"
        assert health.ask(settings, "shop", 3, "asgi.1", port) == f"port {port} is taken by user evil, PID 7 (nc)"
        strangers.clear()
        assert health.ask(settings, "shop", 3, "asgi.1", port) is None
        server.shutdown()
    assert health.ask(settings, "shop", 3, "web.1", port) == "/ cannot be asked (ConnectionRefusedError)"
    # If nobody listens, the listener is not looked up.
    assert looked_up == [[("shop", 3, "web.1")]] * 2 + [[("shop", 3, "asgi.1")]] * 2
    assert asked == ["/", "/live/healthz"]


LEADS = {
    "what was asked for": (200, None, None),
    "another status": (503, None, "/healthz answered 503, not 200"),
    "a redirect to nowhere": (304, None, "/healthz answered 304, not 200"),
    "another page": (302, "/login/?next=/healthz", "/healthz answered 302, which leads to /login/; expected 200"),
    "a page of another host": (
        301,
        "https://u:secret@a.example.com/b?c#d",
        "/healthz answered 301, which leads to /b;",
    ),
    "its own path": (302, "/healthz", "leads to itself; expected 200 from itself"),
    "its own path at HTTPS": (308, "https://a/healthz", "leads to itself, at another address; expected 200"),
    "a host alone": (307, "https://a.example.com", "leads to /; expected"),
    "what commands a terminal": (302, "/\x1b[31m\r\nx", "leads to /?[31m"),
    "what is no address": (302, "http://[a", "leads to http://[a; expected"),
    "no end": (302, "/" + "a" * 9000, f"leads to /{'a' * 99}; expected"),
}


@pytest.mark.parametrize("status, location, expected", LEADS.values(), ids=LEADS)
def test_a_health_path_leads_to(status, location, expected):
    found = health.answered("app.shop.health.path", {"path": "/healthz", "status": 200}, status, location)
    assert expected in found if expected else found is None
    assert isinstance(found, health.Redirect) == (expected is not None and "leads" in expected)
    assert ("secret" not in str(found) and "app.shop.health.path" in str(found)) or location is None


def test_a_redirect_may_be_what_a_healthy_process_answers():
    assert health.answered("", {"path": "/", "status": 302}, 302, "/login") is None
