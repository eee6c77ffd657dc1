"""Taking the steps of a move, and what an ended move leaves."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.releases import history, report, serving, store, take
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal
from saltern.web import in_flight

MOVED = {
    "before the link": ("health", 1, ["taken back"]),
    "at the link": ("point", 1, ["taken back"]),
    "after the link": ("point", 2, ["counted", "point", "workers", "stop", "prune"]),
    "while requests are waited for": ("drain", 2, ["counted", "stop", "prune"]),
    "while the old processes stop": ("stop", 2, ["counted", "stop", "prune"]),
}


@pytest.mark.parametrize("step, serves, done", MOVED.values(), ids=MOVED)
def test_a_run_that_a_signal_ends_leaves_one_release_running(monkeypatch, step, serves, done):
    taken = []

    def signalled(_):
        raise SystemExit(143)

    def taking(name):
        return lambda _: taken.append(name)

    steps = {name: taking(name) for name in ("health", "point", "workers", "drain", "stop", "prune")}
    # A step that a signal interrupts is taken again and succeeds.
    tries = iter([signalled, taking(step)])
    steps[step] = lambda move: next(tries)(move)
    monkeypatch.setattr(store, "current", lambda _: serves)
    monkeypatch.setattr(history, "note", lambda *_, **__: None)
    monkeypatch.setattr(in_flight, "drain", lambda *_: taken.append("counted") or {})
    host = Host.of({}, {}, {})
    monkeypatch.setattr(take, "_take_back", lambda *_, **__: taken.append("taken back"))
    monkeypatch.setattr(report, "message", lambda *_: "")
    monkeypatch.setattr(serving, "leaving", lambda _: [])
    monkeypatch.setattr(serving, "cut_off", lambda *_: "")
    before = list(steps)[: list(steps).index(step)]
    with pytest.raises(SystemExit):
        take.take(steps, Move(host, "shop", 2, {}, 1, {}), "serves")
    assert taken[len(before) :] == done


def test_a_refusal_tells_what_it_has_cost(monkeypatch):
    def refuse(move):
        move.told.append("v1: 1 request cut off")
        raise Refusal("web.1 ended by itself")

    def take_back(move, reason):
        move.told.append("nginx answered 503 in the place of web for 2.0 s")

    monkeypatch.setattr(report, "message", lambda move, name, error, started: f"v2 was refused at the step {name}")
    monkeypatch.setattr(take, "_take_back", take_back)
    said = "v2 was refused at the step health\nv1: 1 request cut off\nnginx answered 503 in the place of web for 2.0 s"
    with pytest.raises(CommandExecutionError, match=f"^{said}$"):
        take.take({"health": refuse}, Move(Host.of({}, {}, {}), "shop", 2, {}, 1, {}))
