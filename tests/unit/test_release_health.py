"""How long a release's processes are waited for: until they answer, and then until supervisor calls them running."""

import socket

import pytest

WEB = {"state": "STARTING", "pid": 7, "up": 0, "exit": "exit status 3"}
HEALTH = {"health": {"grace": 5, "settle": 2}}


@pytest.fixture
def step(release, dunders, monkeypatch):
    """Return a function that takes a step of a release with one web process, as supervisor tells of it each time."""
    monkeypatch.setattr(release, "_ask", lambda app, number, process, port: None)
    monkeypatch.setattr(release, "POLL", 0)
    strangers, told_last = {}, {}

    def lines(matches, grep, **options):
        said = [text for process, text in told_last.items() if f"SYSLOG_IDENTIFIER=shop[{process}]" in matches]
        return [{"MESSAGE": text} for text in said if text.startswith(grep.removeprefix("^"))]

    def take(functions, *told, left=1):
        info = ({"shop.v2.web.1": WEB | one} for one in told)
        asks = {
            "process.info": lambda app, number: next(info),
            "listener.stranger": lambda port, pids: strangers.get(port),
            "release_store.created": lambda app, number: 0,
            "journal.lines": lines,
        }
        dunders(release, salt=asks)
        move = release.Move("shop", 2, {"web.1": 8101}, left, HEALTH)
        for each in functions:
            getattr(release, each)(move)
        return len(list(info))

    take.strangers, take.told_last = strangers, told_last
    return take


def test_a_process_that_answers_has_requests_before_supervisor_calls_it_running(step):
    assert step(["_health"], {}, {}) == 1


def test_its_predecessor_stays_until_supervisor_does(step):
    assert step(["_running"], {}, {}, {"state": "RUNNING", "up": 1}) == 0


@pytest.mark.parametrize("end", [{"state": "BACKOFF", "pid": 0}, {"state": "EXITED", "pid": 0}, {"pid": 8}])
def test_one_that_ends_in_its_first_second_is_refused(step, release, end):
    with pytest.raises(release.Refusal, match=r"web\.1 ended by itself, exit status 3"):
        step(["_running"], {}, end, {"state": "RUNNING"})


def test_one_that_ends_before_it_is_looked_at_again_is_refused(step, release):
    with pytest.raises(release.Refusal, match=r"web\.1 ended by itself, exit status 3"):
        step(["_health", "_running"], {}, {"pid": 8, "state": "RUNNING"})


def test_how_one_ended_is_told_by_its_launcher_once_supervisor_has_started_it_again(step, release):
    step.told_last["web.1"] = "v2 web.1 has ended: exit status 1"
    with pytest.raises(release.Refusal, match=r"^web\.1 ended by itself, exit status 1$"):
        step(["_running"], {}, {"pid": 8, "exit": "exit status 0"})


def test_one_of_the_serving_release_has_its_grace(step):
    told = ({}, {"state": "BACKOFF", "pid": 0}, {"pid": 8}, {"pid": 8, "state": "RUNNING"})
    assert step(["_running"], *told, left=2) == 0


def test_who_has_the_port_of_one_that_ended_is_told(step, release):
    step.strangers[8101] = "shop v1 web.1, PID 812 (python3.11)"
    with pytest.raises(release.Refusal, match=r"exit status 3; port 8101 is taken by shop v1 web\.1, PID 812"):
        step(["_health"], {"state": "BACKOFF", "pid": 0})


def test_a_health_path_that_redirects_is_refused_at_once(step, release, monkeypatch):
    monkeypatch.setattr(release, "_ask", lambda *asked: release.Redirect("/healthz answered 302"))
    with pytest.raises(release.Refusal, match=r"^/healthz answered 302$"):
        step(["_health"], {})


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
def test_where_one_listens_that_does_not_answer_is_told(release, dunders, found, said):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        ports = [port if one == "its" else one for one in found]
        asks = {"process.pids": lambda *names: [7], "listener.ports": lambda pids: ports}
        dunders(release, salt=asks)
        assert release._elsewhere("shop", 2, "web.1", port) == said.format(port)
        assert release._elsewhere("shop", 2, "worker.1", None) == ""
        server.listen()
        assert release._elsewhere("shop", 2, "web.1", port) == ""
