"""A fleet: hosts that converge from one master's tree, and orchestrations over several of them."""

import concurrent.futures
import json
import os
import re
import shlex
import shutil
import time

import pytest
import yaml

from lab import Lab, bootstrapped, machine
from lab.pillar import declare
from lab.worktree import commit
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.examples import PASSWORDS
from tests.hosts.readme import COMMANDS
from tests.hosts.rows import declare_hosts
from tests.hosts.stream import Stream

pytestmark = pytest.mark.alike("bookworm")
# `make fleet` runs these cases too; `make test` has no time for them.
whole = pytest.mark.skipif(os.environ.get("FLEET") != "whole", reason="needs FLEET=whole, and time: make fleet")

ROLES = {
    "master1": ["master"],
    "proxy1": ["proxy"],
    "app1": ["app"],
    "app2": ["app"],
    "db1": ["database", "cache"],
}
MINIONS = [name for name in ROLES if name != "master1"]
DEV = {"environment": "dev"}
FAQ = DEV | {"app": "faq"}
# The commands of docs/how-to/fleet.md.
SAID = {
    "converge": "salt-run state.orchestrate orch.converge pillar='{environment: production}'",
    "release": "salt-run state.orchestrate orch.release pillar='{app: shop, environment: production}'",
    "rollback": "salt-run state.orchestrate orch.rollback pillar='{app: shop, environment: production}'",
    "reboot": "salt-run state.orchestrate orch.reboot pillar='{environment: production}'",
    "verify": "salt-run state.orchestrate orch.verify pillar='{environment: production}'",
}
BOOTSTRAP_MASTER = "./bootstrap.sh --master"
BOOTSTRAP_MINION = "./bootstrap.sh --minion-of 10.77.2.5 --master-key 1f:3c:…"
ACCEPT = "salt-run minions.accept app1 8a:02:…"
KEY = re.compile(r"([0-9a-f]{2}:){31}[0-9a-f]{2}")


class Fleet:
    """The hosts and their lab.

    :param lab: the lab.
    :param hosts: its hosts, by id.
    """

    def __init__(self, lab, hosts):
        self.lab, self.hosts, self.master, self.first = lab, hosts, hosts["master1"], 0

    def run(self, *arguments):
        """Run salt-run on the master, and return its exit code and what it printed."""
        done = self.master.run("salt-run", *arguments, check=False)
        return done.returncode, done.stdout + done.stderr

    def orchestrate(self, name, *arguments, **pillar):
        """Run an orchestration, and return its exit code and its states by their IDs."""
        code, said = self.run("--out", "json", *said_of(name, pillar), *arguments)
        assert "Traceback" not in said, said
        (states,) = json.loads(said[said.index("{\n") : said.rindex("}") + 1])["data"].values()
        return code, {state["__id__"]: state for state in states.values()}

    def stream(self):
        """A stream of requests from outside, through the proxy."""
        self.first += 100_000
        return Stream(self.hosts["proxy1"].address, "faq.localhost", self.first)

    def serving(self):
        """Return which release of faq serves, by app host."""
        return {name: self.hosts[name].sh("readlink /srv/apps/faq/current").stdout.strip() for name in ("app1", "app2")}

    def build(self, tmp_path, path, old, new):
        """Build faq with an edit, and declare it."""
        copy = tmp_path / "faq"
        shutil.copytree(ROOT / "examples/faq", copy)
        file = copy / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        commit(copy)
        self.lab.build(copy, self.master.python, source="salt://")


def said_of(name, pillar):
    """Return salt-run's arguments for an orchestration, as the page has them, with another pillar."""
    assert SAID[name] in COMMANDS
    _, *arguments, given = shlex.split(SAID[name])
    assert set(yaml.safe_load(given.removeprefix("pillar="))) <= set(pillar)
    return [*arguments, "pillar={" + ", ".join(f"{key}: {value}" for key, value in pillar.items()) + "}"]


@pytest.fixture(scope="module")
def fleet(suite):
    """The hosts, bootstrapped: a master, and minions whose keys are not accepted yet."""
    with Lab.temporary(f"fleet-{suite}") as lab:
        declare_hosts(lab, ROLES)
        declare(lab.tree / "pillar", "dev", PASSWORDS)
        lab.issue_certificates()
        image = bootstrapped.ensure(suite)[0]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            booted = pool.map(lambda name: lab.boot(name, suite, image_name=image, reboots=True), ROLES)
            hosts = dict(zip(ROLES, booted, strict=True))
        for app in ("faq", "tickets"):
            lab.build(ROOT / "examples" / app, hosts["master1"].python, source="salt://")
        hosts["master1"].bootstrap(*shlex.split(BOOTSTRAP_MASTER)[1:])
        yield Fleet(lab, hosts)
        for host in hosts.values():
            host.remove()


def bootstrap(host, *options):
    """Run bootstrap.sh, and return all that it said."""
    return host.run("/srv/saltern/bootstrap.sh", "--id", host.id, *options, env=machine.index_environment()).stdout


def test_a_minion_is_accepted_by_its_fingerprint_and_told_nothing_before(fleet):
    assert {BOOTSTRAP_MASTER, BOOTSTRAP_MINION, ACCEPT} <= set(COMMANDS)
    key = KEY.search(bootstrap(fleet.master))[0]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        options = BOOTSTRAP_MINION.replace("10.77.2.5", fleet.master.address).replace("1f:3c:…", key).split()[1:]
        said = list(pool.map(lambda name: bootstrap(fleet.hosts[name], *options), MINIONS))
    verb = ACCEPT.split()[1]
    commands = [re.search(rf"salt-run ({verb} \S+ \S+)$", one, re.MULTILINE)[1].split() for one in said]
    refused = fleet.hosts["app1"].run("salt-call", "pillar.items", check=False)
    assert refused.returncode
    assert "Traceback" not in refused.stdout + refused.stderr
    code, told = fleet.run("minions.accept", "app1", key)
    assert code
    assert "has another fingerprint" in told
    for name, command in zip(MINIONS, commands, strict=True):
        assert fleet.run(*command) == (0, f"{name} is accepted\n")
    assert fleet.run(*commands[0]) == (0, f"{MINIONS[0]} is accepted already\n")
    assert "nothing to do" in bootstrap(fleet.hosts["app1"])


@whole
def test_a_minion_that_has_not_the_key_that_was_told_meets_no_other_master(fleet):
    wrong = ":".join(["00"] * 32)
    host = fleet.hosts["proxy1"]
    right = host.sh("sed -n 's/^master_finger: //p' /etc/salt/minion").stdout.strip()
    host.run("/srv/saltern/bootstrap.sh", "--minion-of", fleet.master.address, "--master-key", wrong, check=False)
    assert host.run("salt-call", "pillar.items", check=False).returncode
    bootstrap(host, "--minion-of", fleet.master.address, "--master-key", right)
    assert host.salt("pillar.get", "hosts:proxy1:roles", "unmask=True") == ["proxy"]


def test_the_fleet_converges_in_order_and_then_has_nothing_to_do(fleet):
    apply(fleet.master).succeeded()
    code, states = fleet.orchestrate("converge", **DEV)
    assert code == 0, {name: state["comment"] for name, state in states.items()}
    by_run = sorted(states.values(), key=lambda state: state["__run_num__"])
    converged = [state["__id__"] for state in by_run if state["__sls__"] == "orch.converge" and state["changes"]]
    assert converged == [f"orch-converge-{name}" for name in ("db1", "app1", "app2", "proxy1")]
    # The firewalls' rules are loaded now, and every minion still answers.
    code, states = fleet.orchestrate("converge", **DEV)
    assert code == 0, {name: state["comment"] for name, state in states.items()}
    assert {name: state["changes"] for name, state in states.items() if state["changes"]} == {}
    assert Client(fleet.hosts["proxy1"].address, "faq.localhost").get("/healthz").status_code == 200


def streamed(fleet, orchestration, **pillar):
    """Run an orchestration under load; return its exit code, its states and the requests."""
    stream = fleet.stream()
    started = time.monotonic()
    code, states = fleet.orchestrate(orchestration, **pillar)
    seconds = time.monotonic() - started
    sent = stream.finish()
    failed, slowest = [one for one in sent if one.failed], max(one.seconds for one in sent)
    print(f"{orchestration}: {seconds:.0f} s, {len(sent)} requests, {len(failed)} failed, slowest {slowest:.1f} s")
    assert failed == []
    return code, states


def wrong(states):
    """Return the comments of failed states, by ID."""
    return {name: state["comment"] for name, state in states.items() if state["result"] is False}


def migrations(fleet):
    """Return how often the process type release of faq has been run, by app host."""
    return {
        name: int(
            fleet.hosts[name].sh("journalctl -q -t 'faq[release]' -o cat | grep -c ' release starts' || true").stdout
        )
        for name in ("app1", "app2")
    }


def test_a_rolling_release_fails_no_request_and_migrates_once(fleet, tmp_path):
    before, ran = fleet.serving(), migrations(fleet)
    fleet.build(tmp_path, "questions/views.py", "DEFAULT_LIMIT = 20\n", f"DEFAULT_LIMIT = 20  # {time.time()}\n")
    code, states = streamed(fleet, "release", **FAQ)
    assert (code, wrong(states)) == (0, {})
    after = fleet.serving()
    assert all(after[name] != before[name] for name in before)
    assert sum(migrations(fleet).values()) == sum(ran.values()) + 1


def test_a_release_that_fails_stops_at_its_first_host(fleet, tmp_path):
    before = fleet.serving()
    path = fleet.lab.tree / "pillar/builds/dev.sls"
    declared = path.read_text()
    fleet.build(tmp_path, "faq_site/wsgi.py", "import os\n", "import os\n\nraise SystemExit('out of order')\n")
    code, states = streamed(fleet, "release", **FAQ)
    assert code
    assert fleet.serving() == before
    told = wrong(states)
    assert told.keys() == {"orch-release-done-app1", "orch-release-stopped-done-app1"}
    first, second = told["orch-release-stopped-done-app1"].splitlines()
    assert first == "app1: takes requests again, with the releases from before"
    assert second == "What failed is told above. Not moved: app2. Mend it, and run orch.release again"
    path.write_text(declared)


def drained(host):
    """Wait until an orchestration has drained a host."""
    deadline = time.monotonic() + 300
    while host.run("test", "-e", "/run/saltern-drained", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@whole
def test_a_release_that_was_ended_is_taken_up_by_the_next_one(fleet, tmp_path):
    before = fleet.serving()
    fleet.build(tmp_path, "questions/views.py", "DEFAULT_LIMIT = 20\n", f"DEFAULT_LIMIT = 20  # {time.time()}\n")
    code, states = fleet.orchestrate("release", "test=True", **FAQ)
    assert (code, wrong(states), fleet.serving()) == (0, {}, before)
    stream = fleet.stream()
    command = shlex.join(["salt-run", *said_of("release", FAQ)])
    fleet.master.sh(f"setsid {command} >/root/release.txt 2>&1 </dev/null &")
    drained(fleet.hosts["app1"])
    code, states = fleet.orchestrate("converge", **DEV)
    assert code
    (comment,) = wrong(states).values()
    assert comment == "dev: another orchestration is under way; nothing was touched. Run this again after it"
    drained(fleet.hosts["app2"])
    fleet.master.sh("pkill -KILL -f '[s]tate.orchestrate'")
    serving = fleet.serving()
    assert (serving["app1"] != before["app1"], serving["app2"]) == (True, before["app2"])
    code, states = fleet.orchestrate("reboot", all=True, **DEV)
    assert code
    (comment,) = wrong(states).values()
    assert comment.startswith("app2: takes no requests: an orchestration is under way, or one that failed or ended")
    code, states = fleet.orchestrate("release", **FAQ)
    assert (code, wrong(states)) == (0, {})
    assert all(number != before[name] for name, number in fleet.serving().items())
    assert [name for name in before if fleet.hosts[name].salt("drain.is_drained")] == []
    assert [one for one in stream.finish() if one.failed] == []


@whole
def test_a_rollback_goes_host_by_host_and_holds_until_another_build_is_declared(fleet):
    before = fleet.serving()
    code, states = streamed(fleet, "rollback", **FAQ)
    assert (code, wrong(states)) == (0, {})
    gone_back = fleet.serving()
    assert all(gone_back[name] != before[name] for name in before)
    notes = states["orch-rollback-noted"]["warnings"]
    assert {note.partition(" is held at ")[0] for note in notes} == {"app1: faq", "app2: faq"}
    # A second run does not go back any further.
    code, states = fleet.orchestrate("rollback", **FAQ)
    assert (code, wrong(states), fleet.serving()) == (0, {}, gone_back)
    code, states = fleet.orchestrate("release", **FAQ)
    assert code
    # Each host is asked before any host has the build, and before one runs the migrations.
    assert "Function release.movable" in wrong(states)["orch-release-movable"]
    assert "orch-release-build" not in states
    answers = states["orch-release-movable"]["changes"]["ret"]
    assert all("is held" in answers[name] for name in ("app1", "app2"))


# The passwords that each minion gets, written by hand.
TOLD = {
    "proxy1": set(),
    "app1": {"a database's", "a Redis instance's"},
    "app2": {"a database's", "a Redis instance's"},
    "db1": {"a database's", "a Redis instance's"},
}


def test_a_host_has_only_the_secrets_that_its_roles_need(fleet):
    secrets = {
        "a database's": PASSWORDS["postgres"]["databases"]["faq"]["password"],
        "a Redis instance's": PASSWORDS["redis"]["instances"]["tickets"]["password"],
    }
    own = {name: (fleet.lab.tree / f"pillar/certificates/dev/{name}.sls").read_text() for name in MINIONS}
    keys = {name: yaml.safe_load(text)["certificates"]["key"].split("\n")[1] for name, text in own.items()}
    for name in MINIONS:
        pillar = json.dumps(fleet.hosts[name].salt("pillar.items", "unmask=True"))
        assert {what for what, secret in secrets.items() if secret in pillar} == TOLD[name]
        assert {whose for whose, key in keys.items() if key in pillar} == {name}
        assert not fleet.hosts[name].salt("publish.publish", "app1", "test.ping")


@whole
def test_a_minion_that_is_down_stops_it_before_another_is_touched(fleet):
    fleet.hosts["app2"].sh("systemctl stop salt-minion")
    try:
        for name, asked in (("release", FAQ), ("rollback", FAQ), ("converge", DEV), ("reboot", DEV), ("verify", DEV)):
            code, states = fleet.orchestrate(name, **asked)
            assert code, name
            (comment,) = wrong(states).values()
            assert comment.startswith("app2: no answer within 10 s; nothing was touched"), name
            assert [state["changes"] for state in states.values() if state["changes"]] == []
    finally:
        fleet.hosts["app2"].sh("systemctl start salt-minion")


@whole
def test_hosts_with_a_reason_are_rebooted_one_after_the_other(fleet):
    code, states = fleet.orchestrate("reboot", **DEV)
    assert (code, wrong(states)) == (0, {})
    assert states["orch-reboot-nothing"]["comment"] == "No host of dev has a reason to be rebooted"
    boots = {name: fleet.hosts[name].salt("reboot.boot")["id"] for name in MINIONS}
    for name in ("app1", "app2"):
        fleet.hosts[name].sh("touch /run/reboot-required")
    code, states = streamed(fleet, "reboot", **DEV)
    assert (code, wrong(states)) == (0, {})
    changed = {name for name in MINIONS if fleet.hosts[name].salt("reboot.boot")["id"] != boots[name]}
    assert changed == {"app1", "app2"}


@whole
def test_the_whole_fleet_is_asked_whether_it_is_what_is_declared(fleet, tmp_path):
    fleet.build(tmp_path, "questions/views.py", "DEFAULT_LIMIT = 20\n", f"DEFAULT_LIMIT = 20  # {time.time()}\n")
    code, states = fleet.orchestrate("release", batch=2, **FAQ)
    assert (code, wrong(states)) == (0, {})
    fleet.hosts["db1"].sh("systemctl disable saltern-firewall")
    code, said = fleet.run(*said_of("verify", DEV))
    fleet.hosts["db1"].sh("systemctl enable saltern-firewall")
    print(said)
    rows = re.findall(r"^│ (\S+) +│ ([a-z, ]+?) +│ +(\d+) +│ +(\d+) +│", said, re.MULTILINE)
    assert {name: roles for name, roles, *_ in rows} == {name: ", ".join(roles) for name, roles in ROLES.items()}
    assert {name: int(failed) for name, *_, failed in rows} == dict.fromkeys(ROLES, 0) | {"db1": 1}
    assert all(int(passed) > 20 for *_, passed, _ in rows)
    assert code
    assert "Comment: db1: test_it_is_loaded_at_every_boot_before_there_is_a_network: " in said


@whole
def test_an_app_that_answers_nowhere_is_mended_by_a_release(fleet, tmp_path):
    before, names = fleet.serving(), ("app1", "app2")
    fleet.build(tmp_path, "questions/views.py", "DEFAULT_LIMIT = 20\n", f"DEFAULT_LIMIT = 20  # {time.time()}\n")
    for name in names:
        fleet.hosts[name].sh("supervisorctl status | awk '/^faq\\./ {print $1}' | xargs supervisorctl stop")
    proxy = Client(fleet.hosts["proxy1"].address, "faq.localhost")
    assert proxy.get("/healthz").status_code >= 500
    code, states = fleet.orchestrate("release", drain=False, **FAQ)
    assert (code, wrong(states)) == (0, {})
    assert all(number != before[name] for name, number in fleet.serving().items())
    assert proxy.get("/healthz").status_code == 200


@whole
def test_without_its_master_a_host_serves_and_converges_from_the_same_tree(fleet):
    host, proxy = fleet.hosts["app1"], Client(fleet.hosts["proxy1"].address, "faq.localhost")
    fleet.master.sh("systemctl stop salt-master")
    try:
        refused = host.run("salt-call", "state.apply", check=False)
        assert refused.returncode
        assert "Traceback" not in refused.stdout + refused.stderr
        bootstrap(host, "--masterless")
        apply(host).changed_nothing()
        assert proxy.get("/healthz").status_code == 200
    finally:
        fleet.master.sh("systemctl start salt-master")
    key = KEY.search(bootstrap(fleet.master))[0]
    said = bootstrap(host, "--minion-of", fleet.master.address, "--master-key", key)
    assert "salt-run minions.accept app1" in said
    apply(host).changed_nothing()
