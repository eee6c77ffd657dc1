"""Leases: one host holds a name, until its deadline; the same cases for etcd's and for the host's own."""

import json

import pytest

from saltern import etcd as inventory
from saltern import leases
from saltern.leases import Entry, Etcd, Local, Unreachable, base, etcd
from tests.unit.leases.etcd import Store, member

NAME = "process/beat.1"


@pytest.fixture
def store(monkeypatch):
    """etcd's store, whose clock is the hosts' too."""
    made = Store()
    for module in (base, etcd):
        monkeypatch.setattr(module, "now", lambda: 1000 + made.time)
    return made


@pytest.fixture
def hosts(store):
    """Leases of the app shop on two hosts, by etcd."""
    with member(store) as port:
        yield [Etcd("shop", host, {"db1": "127.0.0.1"}, port=port, scheme="http") for host in ("app1", "app2")]


@pytest.fixture
def alone(tmp_path):
    """Leases of the app shop on one host, for two of its programs."""
    return [Local("shop", "app1", f"{tmp_path}/run", f"{tmp_path}/lib") for _ in range(2)]


@pytest.fixture(params=["hosts", "alone"])
def both(request):
    return request.getfixturevalue(request.param)


def test_a_lease_is_held_once_until_it_is_given_back(both):
    first, second = both
    assert first.read(NAME) is None
    lease = first.take(NAME, 30, "v3")
    assert lease
    assert second.take(NAME, 30, "v4") is None
    assert first.take(NAME, 30, "v4") is None, "not by the same host either"
    assert second.read(NAME) == first.read(NAME) == Entry("v3", "app1")
    assert lease.renew()
    lease.give_back()
    assert second.read(NAME) is None
    other = second.take(NAME, 30, "4")
    assert other and first.read(NAME) == Entry("4", second.host), "what was longer before leaves nothing"
    assert not lease.renew()


def test_names_are_apart(both):
    first, second = both
    assert first.take("job/a", 30, "") and second.take("job/b", 30, "")


def test_apps_are_apart(hosts, alone, store, tmp_path):
    assert hosts[0].take(NAME, 30, "") and alone[0].take(NAME, 30, "")
    other = Etcd("faq", "app1", {"db1": "127.0.0.1"}, port=hosts[0].port, scheme="http")
    assert other.take(NAME, 30, "")
    assert Local("faq", "app1", f"{tmp_path}/run", f"{tmp_path}/lib").take(NAME, 30, "")


@pytest.mark.parametrize("name", ["", "..", "job/../x", "/job", "job//a", "job/a\n", "job/é", "job/" + "a" * 200])
def test_a_name_that_could_be_another_path_is_refused(both, name):
    for ask in (
        lambda: both[0].read(name),
        lambda: both[0].take(name, 30, ""),
        lambda: both[0].advance(name, None, ""),
    ):
        with pytest.raises(ValueError, match="no name of a lease"):
            ask()


def test_a_kept_value_advances_once_from_each_value(both):
    first, second = both
    assert not first.advance("job/report", "2026-11-29T03:15", "2026-11-30T03:15"), "there is none yet"
    assert first.advance("job/report", None, "2026-11-29T03:15")
    assert not second.advance("job/report", None, "2026-11-29T03:15")
    assert second.read("job/report") == Entry("2026-11-29T03:15")
    assert second.advance("job/report", "2026-11-29T03:15", "2026-11-30T03:15")
    assert not first.advance("job/report", "2026-11-29T03:15", "2026-11-30T03:15")
    assert first.read("job/report") == Entry("2026-11-30T03:15")


# --- Deadlines --------------------------------------------------------------------------------------------------------


def test_a_lease_ends_for_its_holder_before_another_host_may_take_it(hosts, store):
    first, second = hosts
    # Each answer takes a second after etcd has done what it was asked.
    store.lag = lambda method: store.pass_(1)
    began = base.now()
    lease = first.take(NAME, 10, "")
    ended = next(iter(store.leases.values()))[1]
    assert began < lease.deadline <= 1000 + ended
    store.pass_(5)
    assert lease.renew()
    assert lease.deadline <= 1000 + next(iter(store.leases.values()))[1]
    store.lag = lambda method: None
    store.pass_(lease.deadline - base.now() - 0.1)
    assert second.take(NAME, 10, "") is None
    store.pass_(2)
    assert second.take(NAME, 10, "")
    assert not lease.renew(), "what is lost does not come back"


def test_the_lease_of_a_lock_has_no_deadline(alone):
    assert alone[0].take(NAME, 10, "").deadline == float("inf")


def test_waiting_for_a_lease_writes_nothing(hosts, store):
    first, second = hosts
    first.take(NAME, 10, "")
    store.asked.clear()
    assert second.take(NAME, 10, "") is None
    assert store.asked == ["kv/range"]


# --- What cannot be asked ---------------------------------------------------------------------------------------------


def test_a_renewal_that_fails_leaves_the_deadline(hosts, store):
    lease = hosts[0].take(NAME, 10, "")
    before = lease.deadline
    store.pass_(3)
    store.lost = 9
    with pytest.raises(Unreachable):
        lease.renew()
    assert lease.deadline == before


def test_the_lease_of_an_answer_that_was_lost_is_given_back(hosts, store):
    asked = store.kv_txn

    def lost(question):
        store.lost = 1
        return asked(question)

    store.kv_txn = lost
    with pytest.raises(Unreachable):
        hosts[0].take(NAME, 10, "")
    assert store.leases == {} and hosts[1].read(NAME) is None


def test_a_second_member_is_asked_what_the_first_may_have_done(hosts, store, monkeypatch):
    hosts[0].members = {"db1": "127.0.0.1", "db2": "127.0.0.1"}
    asked, done = store.kv_txn, []

    def lost(question):
        store.lost = 0 if done else 1
        done.append(question)
        return asked(question)

    store.kv_txn = lost
    assert hosts[0].take(NAME, 10, "v3"), "the key is bound to its own lease"
    assert len(done) == 2 and len(store.leases) == 1
    # Of a value without a lease nobody can tell who has written it.
    done.clear()
    with pytest.raises(Unreachable):
        hosts[0].advance("job/report", None, "1")
    assert len(done) == 1


def test_members_are_asked_until_one_answers_and_that_one_comes_first(hosts, store):
    # Nobody listens at the first address.
    hosts[0].members = {"gone": "127.0.0.2", "db1": "127.0.0.1"}
    assert hosts[0].take(NAME, 10, "")
    assert list(hosts[0].members) == ["db1", "gone"]


def test_nobody_who_answers_is_told_by_host_with_what_to_do(hosts):
    hosts[0].members = {"db1": "127.0.0.2", "db2": "127.0.0.3"}
    with pytest.raises(Unreachable) as told:
        hosts[0].read(NAME)
    assert "etcd does not answer: db1 (127.0.0.2): Connection refused; db2 (127.0.0.3)" in str(told.value)
    assert "systemctl status etcd" in str(told.value)


@pytest.mark.parametrize(
    "answer",
    [{"error": "etcdserver: no leader", "code": 14}, {"error": {"message": "etcdserver: no leader"}}, []],
    ids=["no leader", "in a stream", "no mapping"],
)
def test_an_error_of_etcd_is_no_answer(hosts, store, answer):
    store.kv_range = lambda question: answer
    with pytest.raises(Unreachable, match="no leader" if answer else "ValueError"):
        hosts[0].read(NAME)


def test_what_somebody_else_has_written_is_a_value_that_nobody_holds(hosts, store):
    assert [Entry.parsed(text) for text in ("7", "by hand", '{"value": "1"}')] == [
        Entry("7"),
        Entry("by hand"),
        Entry('{"value": "1"}'),
    ]


# --- Who asks ---------------------------------------------------------------------------------------------------------


def test_nobody_takes_a_lease_before_each_app_host_asks_here(hosts):
    first, second = hosts
    for host in hosts:
        host.apps = ["app1", "app2"]
    assert first.missing(NAME, is_clear=True) == ["app2"]
    # It still runs there by other leases.
    assert second.missing(NAME, is_clear=False) == ["app2"]
    assert first.missing(NAME, is_clear=True) == ["app2"]
    assert second.missing(NAME, is_clear=True) == []
    assert first.missing(NAME, is_clear=False) == [], "what is left here is ended by who holds the lease"
    # A host that comes later is not waited for.
    first.apps.append("app3")
    assert first.missing(NAME, is_clear=True) == []


def test_the_only_app_host_waits_for_nobody(alone):
    assert alone[0].missing(NAME, is_clear=False) == []


def test_a_member_of_another_cluster_is_not_believed(hosts, store):
    store.cluster = "7"
    hosts[0].cluster = "7"
    assert hosts[0].take(NAME, 10, "").renew()
    hosts[0].cluster = "8"
    with pytest.raises(Unreachable, match=r"db1 .* is not one of these members alone: converge it"):
        hosts[0].read(NAME)


def test_the_number_of_a_cluster_is_etcds():
    # As etcd 3.5.16 said it in its log: "cluster-id":"35a8fe8fe07a9a32".
    assert inventory.number(["10.78.0.12"], "saltern-5e82a3a65aa3") == str(0x35A8FE8FE07A9A32)


ROWS = {
    name: {"environment": "production", "roles": [role], "address": f"10.0.0.{index}"}
    for index, (name, role) in enumerate(
        [("app1", "app"), ("app2", "app"), *((f"db{count}", "etcd") for count in range(6))]
    )
}


@pytest.mark.parametrize("count, is_right", [(0, True), (1, True), (2, False), (3, True), (4, False), (6, False)])
def test_as_many_hosts_decide_as_can_lose_one_for_each_two_beside_the_first(count, is_right):
    rows = {name: row for name, row in ROWS.items() if name[:2] != "db" or int(name[2:]) < count}
    found = inventory.mistakes(rows, "app1")
    expected = f"hosts.db{count - 1}.roles: {count} hosts of production have the role etcd"
    assert (found == []) is is_right and all(message.startswith(expected) for message in found)
    assert "expected 1, 3 or 5" in "".join(found) or is_right


def test_other_members_are_another_cluster():
    three = {name: row for name, row in ROWS.items() if name not in ("db3", "db4", "db5")}
    one = {name: row for name, row in three.items() if name not in ("db1", "db2")}
    found = [inventory.derived(rows, host) for rows in (one, three) for host in ("app1", "db0")]
    assert found[0] == found[1] and found[2] == found[3]
    assert found[0].keys() == {"members", "cluster", "id", "apps"}
    assert all(found[0][word] != found[2][word] for word in ("members", "cluster", "id"))


# --- Which kind -------------------------------------------------------------------------------------------------------

SAID = {"host": "app1", "etcd": {}, "alone": True, "drained": False}
SAID |= {"apps": ["app1"], "cluster": "1"}


@pytest.mark.parametrize(
    "said, kind",
    [
        ({}, Local),
        ({"etcd": {"db1": "10.77.2.10"}, "alone": False}, Etcd),
        # A second app host can then come without a moment at which both are alone.
        ({"etcd": {"db1": "10.77.2.10"}}, Etcd),
    ],
)
def test_etcd_decides_where_there_is_one_and_the_host_itself_where_it_is_alone(tmp_path, said, kind):
    path = tmp_path / "leases.json"
    path.write_text(json.dumps(SAID | said))
    found = leases.opened("shop", str(path))
    assert (type(found), found.app, found.host) == (kind, "shop", "app1")


def test_several_hosts_without_etcd_are_told_the_way_out(tmp_path):
    path = tmp_path / "leases.json"
    path.write_text(json.dumps(SAID | {"alone": False}))
    with pytest.raises(Unreachable, match="several hosts have apps, and none has the role etcd; give"):
        leases.opened("shop", str(path))


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_settings_that_are_missing_or_broken_let_nobody_be_alone(tmp_path, text):
    path = tmp_path / "leases.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Unreachable, match=r"leases\.json: cannot be read .*; converge this host"):
        leases.opened("shop", str(path))


def test_a_certificate_that_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(etcd, "AUTHORITIES", f"{tmp_path}/ca.pem")
    with pytest.raises(Unreachable, match=r"ca\.pem: cannot be read"):
        Etcd("shop", "app1", {"db1": "127.0.0.1"}).read(NAME)


@pytest.mark.parametrize(
    "said, is_marked, is_drained",
    [
        ({"alone": False}, False, False),
        ({"alone": False, "drained": True}, False, True),
        ({"alone": False}, True, True),
        # It has nobody to leave it to.
        ({"alone": True}, True, False),
    ],
)
def test_a_drained_host_leaves_to_others_what_is_done_once(tmp_path, said, is_marked, is_drained):
    path, mark = tmp_path / "leases.json", tmp_path / "drained"
    assert not leases.is_drained(str(path), str(mark)), "without settings nothing is known"
    path.write_text(json.dumps(SAID | said))
    if is_marked:
        mark.touch()
    assert leases.is_drained(str(path), str(mark)) is is_drained
