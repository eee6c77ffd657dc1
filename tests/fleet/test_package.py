"""Saltern's package is edited in the tree of a running master: everything after the edit uses the new code."""

import pytest

from .claim import asked_by_hand

# Code that is appended to the inventory's module: each host's row then has these keys too.
EDIT = """
_unedited_row, _unedited_environment = row, environment


def row(hosts, minion_id):
    own = _unedited_row(hosts, minion_id)
    return {{minion_id: own[minion_id] | {{"edit": {edit!r}, "worker": os.getpid()}}}}


def environment(hosts, minion_id, pillar_roots):
    return {edit!r} if minion_id == "nobody" else _unedited_environment(hosts, minion_id, pillar_roots)
"""
# Salt's default number of a master's workers.
WORKERS = 5


@pytest.fixture
def edit(tree):
    """A function that edits the package; the edit is undone after the test."""
    path = tree / "salt/_utils/saltern/inventory.py"
    own = path.read_text()
    yield lambda name: path.write_text(own + EDIT.format(edit=name))
    path.write_text(own)


def edits_by_worker(daemon):
    """Ask for a pillar until every worker has compiled one; return each worker's edit."""
    edits = {}
    for _ in range(20 * WORKERS):
        row = asked_by_hand(daemon, "proxy1")["hosts"]["proxy1"]
        edits[row["worker"]] = row["edit"]
        if len(edits) == WORKERS:
            break
    return edits


def test_an_edit_counts_in_the_next_pillar_of_each_worker_and_in_the_next_run_of_a_minion(master, minion, edit):
    cli = master.salt_cli()

    def answer():
        """Have the minion converge, which brings it the master's modules, and ask the package there."""
        states = cli.run("state.highstate", "mock=True", "test=True", minion_tgt="proxy1", _timeout=120)
        assert isinstance(states.data, dict), states
        return cli.run("inventory.environment", "{}", "nobody", minion_tgt="proxy1", _timeout=60).data

    with minion("proxy1") as daemon:
        assert answer() == ""
        for name in ("the first", "the second one"):
            edit(name)
            edits = edits_by_worker(daemon)
            assert len(edits) == WORKERS
            assert set(edits.values()) == {name}
            assert answer() == name
