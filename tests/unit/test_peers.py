"""Which app hosts are out: how saltern-peers asks them, and what it decides from their answers."""

import asyncio
import contextlib
import re

import pytest

from saltern.system import systemd


def records(peers_script, **answers):
    """Return each host's record after a row of answers.

    ``.`` is a good answer, ``x`` a bad one, ``d`` says that the host is drained; a leading ``-`` means out.
    """
    found = {}
    for name, said in answers.items():
        record = peers_script.Record(is_out=said.startswith("-"), outs=[0.0] if said.startswith("-") else [])
        for answer in said.removeprefix("-"):
            record.add({".": None, "d": peers_script.DRAINED, "x": "answers 503, not 200"}[answer])
        found[name] = record
    return found


DECIDED = {
    "nobody was asked yet": ({"a": "", "b": ""}, set(), set()),
    "all answer well": ({"a": "...", "b": "..."}, set(), set()),
    "one failure is none": ({"a": "..x", "b": "..."}, set(), set()),
    "two that are not in a row are none": ({"a": "x.x", "b": "..."}, set(), set()),
    "two in a row": ({"a": ".xx", "b": "..."}, set(), {"a"}),
    "out until it is ready three times": ({"a": "-..", "b": "..."}, set(), {"a"}),
    "in again": ({"a": "-...", "b": "..."}, set(), set()),
    "one failure between begins anew": ({"a": "-..x..", "b": "..."}, set(), {"a"}),
    "out, and not asked yet": ({"a": "-", "b": "..."}, set(), {"a"}),
    "both fail at once: neither is to blame": ({"a": "xx", "b": "xx"}, set(), set()),
    "the second one fails: it is the last": ({"a": "-xx", "b": "xxxx"}, set(), {"a"}),
    "the first one is in again: the last one is no longer": ({"a": "-...", "b": "xxxx"}, set(), {"b"}),
    "the last one fails and the first one is just back": ({"a": "-xx.", "b": "xxxx"}, set(), set()),
    "two of three": ({"a": "xx", "b": "xx", "c": "."}, set(), {"a", "b"}),
    "all others are drained": ({"a": "xx", "b": "..."}, {"b"}, set()),
    "the drained one fails": ({"a": "..", "b": "xx"}, {"b"}, {"b"}),
    "the drained one and the last one fail": ({"a": "xx", "b": "xx"}, {"b"}, {"b"}),
    "only one that is out is left": ({"a": "-xx", "b": "..."}, {"b"}, set()),
    "one says that it is drained": ({"a": "..d", "b": "..."}, set(), {"a"}),
    "one is drained no longer": ({"a": "-dd...", "b": "..."}, set(), set()),
    "one is drained and the last one fails": ({"a": "-dd", "b": "xx"}, set(), {"a"}),
    "all of them say that they are drained": ({"a": "d", "b": "d"}, set(), set()),
    "one alone": ({"a": "xxxx"}, set(), set()),
    "all are drained": ({"a": "..."}, {"a"}, set()),
}


@pytest.mark.parametrize("answers, drained, expected", DECIDED.values(), ids=DECIDED)
def test_who_is_out(peers_script, answers, drained, expected):
    assert peers_script.decided(records(peers_script, **answers), drained, 1.0) == expected


@pytest.mark.parametrize(
    "outs, now, expected",
    [([], 0, 3), ([0], 1, 3), ([0, 1], 2, 6), ([0, 1, 2], 3, 12), ([0] * 20, 3, 96), ([0] * 20, 700, 3)],
)
def test_a_host_that_goes_out_and_in_must_be_ready_for_longer(peers_script, outs, now, expected):
    assert peers_script.Record(is_out=True, outs=outs).passes(now) == expected


@contextlib.asynccontextmanager
async def answering(text, delay=0.0):
    """Serve one text to whoever comes, and take note of what is asked."""
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await asyncio.sleep(delay)
        writer.write(text.encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


ANSWERS = {
    "drained for a while": ("HTTP/1.1 423 \r\n\r\n", 0, "is drained"),
    "ready": ("HTTP/1.1 200 OK\r\n\r\n", 0, None),
    "no process": ("HTTP/1.1 502 Bad Gateway\r\n\r\n", 0, "answers 502, not 200"),
    "another good answer": ("HTTP/1.1 204 No Content\r\n\r\n", 0, "answers 204, not 200"),
    "nothing": ("", 0, "gives no answer"),
    "no HTTP": ("SSH-2.0-OpenSSH\r\n", 0, "gives no answer"),
    "a line without end": ("x" * 100_000, 0, "breaks the connection"),
    "late": ("HTTP/1.1 200 OK\r\n\r\n", 2, "does not answer within 1 s"),
}


@pytest.mark.parametrize("text, delay, expected", ANSWERS.values(), ids=ANSWERS)
def test_a_host_is_asked_whether_it_is_ready(peers_script, text, delay, expected):
    async def ask():
        async with answering(text, delay) as (port, asked):
            target = peers_script.Target("shop", "app1", f"127.0.0.1:{port}", 200, 1)
            return await peers_script.ask(target), asked

    reason, asked = asyncio.run(ask())
    assert reason == expected
    assert re.match(r"GET /\.saltern/ready HTTP/1\.0\r\nHost: 127\.0\.0\.1\r\n", asked[0])


FILE = """\
# saltern-peers asks each of them whether it is ready: 200 within 6 s.
server 127.0.0.1:1 max_fails=2 fail_timeout=2s; # app1
server 127.0.0.1:PORT max_fails=2 fail_timeout=2s; # app2
"""
KEPT = {
    "one is dead": (FILE, {"app1"}),
    "the dead one was out": (FILE.replace("app1", "app1 is out"), {"app1"}),
    "the one that is ready was out": (FILE.replace("app2", "app2 is out"), {"app1"}),
    "nobody can be asked": (FILE.replace("200 within", "within").replace("app1", "app1 is out"), {"app1"}),
    "no file any more": (None, None),
}


@pytest.mark.parametrize("text, expected", KEPT.values(), ids=KEPT)
def test_who_is_out_stands_in_the_file(peers_script, monkeypatch, tmp_path, text, expected):
    monkeypatch.setattr(peers_script, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(peers_script, "LOCK", str(tmp_path / "lock"))
    path = tmp_path / "shop.conf"
    path.write_text(FILE.replace("app1", "app1 is out"))

    async def run():
        async with answering("HTTP/1.1 200 OK\r\n\r\n") as (port, _):
            site = peers_script.Site("shop")
            if text is None:
                site.look()
                path.unlink()
            else:
                path.write_text(text.replace("PORT", str(port)))
            for _ in range(25):
                with contextlib.suppress(FileNotFoundError):
                    site.look()
                await asyncio.sleep(0.1)
            site.end()

    asyncio.run(run())
    assert expected == (peers_script.peers_out(path.read_text()) if path.exists() else None)


def test_a_host_that_takes_no_connection_is_told_from_one_that_is_slow(peers_script):
    # Nobody listens at port 1.
    target = peers_script.Target("shop", "app1", "127.0.0.1:1", 200, 1)
    assert asyncio.run(peers_script.ask(target)) == "takes no connection: Connection refused"


LISTED = """\
0      0         10.0.0.9:40001    10.0.0.1:8100  timer:(keepalive,1min,0)
0      0         10.0.0.9:40002    10.0.0.1:8100
0      312       10.0.0.9:40003    10.0.0.1:8100  timer:(on,1.2sec,3)
0      312       10.0.0.9:40004    10.0.0.1:8100  timer:(on,190ms,0)
0      900       10.0.0.9:40005    10.0.0.1:8100  timer:(on,400ms,2)
"""


def test_what_is_sent_again_and_again_is_stuck(peers_script):
    assert peers_script.stuck(LISTED) == [40003, 40005]
    assert peers_script.stuck("") == []


SWITCHED = {
    "to be started": ({"shop": {}}, False, {"old": "off", "new": "running"}, ["enable", "start"]),
    "runs": ({"shop": {}}, True, None, []),
    "to be stopped": ({}, True, {"old": "running", "new": "off"}, ["stop", "disable"]),
    "is off": ({}, False, None, []),
}


@pytest.mark.parametrize("test", [True, False], ids=["dry", "run"])
@pytest.mark.parametrize("peers, runs, change, steps", SWITCHED.values(), ids=SWITCHED)
def test_it_runs_where_there_is_one_to_choose(peers_states, dunders, monkeypatch, peers, runs, change, steps, test):
    done = []

    def doing(word):
        return lambda name: done.append(word) or True

    monkeypatch.setattr(systemd, "is_switched", lambda name, on, among: runs == on)
    salt = {f"service.{word}": doing(word) for word in ("enable", "start", "stop", "disable")}
    dunders(peers_states, salt=salt, pillar={"nginx": {"peers": peers}}, opts={"test": test})
    dunders(peers_states, context={}, instance_id="", lowstate=[], running={})
    ret = peers_states.watched("saltern-peers")
    assert ret["changes"] == ({"saltern-peers": change} if change else {})
    assert ret["result"] is (None if change and test else True)
    assert done == ([] if test else steps)
