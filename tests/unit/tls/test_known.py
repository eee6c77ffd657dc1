"""What a host has read in certificates, and when it reads one again."""

import datetime
import json
import pathlib

import pytest

from saltern.tls import known
from tests.unit.tls.moments import NOW, after

UNTIL = after(days=10)


@pytest.fixture
def ask():
    """A function that answers, and notes how often it was asked."""

    def answered(until=UNTIL):
        answered.count += 1
        return ["an answer"], until

    answered.count = 0
    return answered


CASES = {
    "the same again": (["text"], NOW, 1),
    "just before its end": (["text"], UNTIL - datetime.timedelta(seconds=1), 1),
    "at its end": (["text"], UNTIL, 2),
    "another text": (["texts"], NOW, 2),
    "no text": ([None], NOW, 2),
    "the same text in two parts": (["te", "xt"], NOW, 2),
}


@pytest.mark.parametrize("texts, now, asked", CASES.values(), ids=CASES)
def test_an_answer_is_known_until_its_end_for_the_same_texts(ask, texts, now, asked):
    assert known.answer("a question", ["text"], NOW, ask) == ["an answer"]
    assert known.answer("a question", texts, now, ask) == ["an answer"]
    assert ask.count == asked


def test_another_question_and_an_answer_without_an_end_are_asked_again(ask):
    for question in ("one", "two"):
        known.answer(question, ["text"], NOW, ask)
    for _ in range(2):
        known.answer("three", ["text"], NOW, lambda: ask(None))
    assert ask.count == 4
    # Of what is over, nothing is kept.
    known.answer("four", ["text"], UNTIL, lambda: ask(after(days=20)))
    assert len(json.loads(pathlib.Path(known.PATH).read_text())) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": []}', '{"a": [1, "x"]}', "\xff"])
def test_a_damaged_file_is_as_none(ask, text):
    pathlib.Path(known.PATH).write_text(text, encoding="latin-1")
    for _ in range(2):
        assert known.answer("a question", ["text"], NOW, ask) == ["an answer"]
    assert ask.count == 1


def test_who_may_not_write_there_is_answered(ask, monkeypatch, tmp_path):
    monkeypatch.setattr(known, "PATH", str(tmp_path / "none/known"))
    assert known.answer("a question", ["text"], NOW, ask) == ["an answer"]
