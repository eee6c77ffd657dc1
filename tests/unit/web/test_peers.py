"""The peers of a site: how a converge and saltern-peers write which of them are out."""

import pytest

from saltern.web import peers
from tests.unit.web.sites import site

HEAD = "# saltern-peers asks each of them whether it is ready: 200 within 6 s.\n"


PEERS = {
    "all are in": (
        site(),
        set(),
        "server 10.0.0.1:8100 max_fails=2 fail_timeout=2s; # app1\n"
        "server 10.0.0.2:8100 max_fails=2 fail_timeout=2s; # app2\n"
        "server 10.0.0.3:8100 max_fails=2 fail_timeout=2s; # app3\n",
    ),
    "one is drained": (
        site("app1"),
        set(),
        "# server 10.0.0.1:8100 down; # app1 is drained\n"
        "server 10.0.0.2:8100 max_fails=2 fail_timeout=2s; # app2\n"
        "server 10.0.0.3:8100 max_fails=2 fail_timeout=2s; # app3\n",
    ),
    "the last one is never passed over": (
        site("app1"),
        {"app1", "app3"},
        "# server 10.0.0.1:8100 down; # app1 is drained is out\n"
        "server 10.0.0.2:8100 max_fails=0; # app2\n"
        "# server 10.0.0.3:8100 down; # app3 is out\n",
    ),
    "one host": (site(hosts=["app1"]), set(), "server 10.0.0.1:8100 max_fails=0; # app1\n"),
}


@pytest.mark.parametrize("one, out, expected", PEERS.values(), ids=PEERS)
def test_peers_are_written_alike_by_a_converge_and_by_what_asks_them(peers_script, one, out, expected):
    text = peers.mark(peers.written(one), out)
    assert text == HEAD + expected
    assert peers_script.mark(peers.written(one), out) == text
    assert peers.out(text) == peers_script.peers_out(text) == out
    assert peers.mark(text, set()) == peers.written(one)
    drained = {one["id"] for one in one["servers"] if one["drained"]}
    assert peers.serving(text) == {one["id"] for one in one["servers"]} - drained - out
    found = [(target.id, target.address, target.status, target.timeout) for target in peers_script.targets("x", text)]
    assert found == [(one["id"], one["address"], 200, 6) for one in one["servers"]]


def test_without_an_app_host_there_is_no_peer(peers_script):
    assert peers.written(site(hosts=[])) == peers.NO_PROCESS
    assert peers_script.targets("x", peers.NO_PROCESS) == []
