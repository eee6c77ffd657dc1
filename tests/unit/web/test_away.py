"""Process types that are away."""

import os
import re

import pytest

from saltern.web import away


@pytest.fixture(autouse=True)
def marks(monkeypatch, tmp_path):
    monkeypatch.setattr(away, "MARK", f"{tmp_path}/away.")


@pytest.mark.parametrize(
    "order, expected",
    [({}, []), ({"web": "start-first"}, []), ({"web": "stop-first", "beat": "stop-first", "asgi": "stop-first"}, True)],
)
def test_what_listens_and_ends_first_is_away_in_a_release(order, expected):
    one = {"order": order, "site": {"routes": {"/ws/": {"process": "asgi"}}}}
    assert away.kinds(one) == (["asgi", "web"] if expected else [])


def test_it_is_away_from_the_first_word_until_the_last():
    away.begin("shop", ["web"])
    (mark,) = away.marks("shop").values()
    os.utime(mark, (0, os.stat(mark).st_mtime - 7))
    # Another run begins where one was interrupted.
    away.begin("shop", ["web", "asgi"])
    away.begin("shop-two", ["web"])
    assert [*away.marks("shop")] == ["asgi", "web"]
    seconds = away.end("shop")
    assert [int(each) for each in seconds.values()] == [0, 7]
    assert (away.end("shop"), [*away.marks("shop-two")]) == ({}, ["web"])
    said = away.told("shop", "web", seconds["web"])
    assert re.fullmatch(r"nginx answered 503 in the place of web for 7\.\d s \(app\.shop\.order\.web\)", said)
