"""Contracts: an app provides an API, other apps attach it, and a build that would break them is refused.

faq provides v1 and v2. tickets attaches v1 and survey v2; each gets a URL in its config and nothing else.
"""

import json
import re
import shutil

import pytest

from lab.worktree import commit
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.load import Load

pytestmark = pytest.mark.alike("bookworm")

SURVEY = {
    "port": 8400,
    "formation": {"worker": 1},
    "attach": {"FAQ_API": {"service": "faq", "version": "v2"}},
}

# Runs as an app and calls the API as that app's code would.
POST = """
import os, requests, sys
answer = requests.post(os.environ['FAQ_API'] + '/create', data={"question": sys.argv[1], "source": sys.argv[2]})
print(answer.status_code, sorted(answer.json()))
"""

STATE = {"build": "app-build-faq", "release": "app-release-faq"}


@pytest.fixture(scope="module")
def new_build(host, lab, tmp_path_factory):
    """A function that declares a build of faq in which files are others: ``new_build({path: (old, new), …})``."""

    def make(changes: dict) -> None:
        code = tmp_path_factory.mktemp("build") / "faq"
        shutil.copytree(ROOT / "examples/faq", code)
        for name, (old, new) in changes.items():
            path = code / name
            if new is None:
                path.unlink()
                continue
            text = path.read_text() if path.exists() else ""
            assert old in text, f"{name} does not hold {old!r}"
            path.write_text(text.replace(old, new) if old else new)
        commit(code)
        lab.build(code, host.python)

    return make


@pytest.fixture(scope="module")
def faq(host, lab, pillar, new_build):
    """A client of faq, whose two versions other apps attach; the pillar and faq are put back after the module."""
    lab.build(ROOT / "tests/apps/survey", host.python)
    pillar.merge(app={"survey": SURVEY})
    apply(host).succeeded()
    yield Client(host.address, "faq.localhost")
    pillar.restore()
    apply(host).succeeded()
    apply(host).changed_nothing()


@pytest.fixture
def release(host):
    """A function that returns the number of faq's current release."""
    return lambda: int(host.sh("readlink /srv/apps/faq/current").stdout.strip().removeprefix("releases/"))


@pytest.fixture
def rows(host):
    """A function that counts faq's questions."""
    count = "cd / && runuser -u postgres -- psql -XAtq -d faq -c 'SELECT count(*) FROM questions_question'"
    return lambda: int(host.sh(count).stdout)


def checked(host):
    """Return the log lines about the contract checks of faq's releases."""
    return host.sh("journalctl -q -o cat -t 'faq[contract]'").stdout.splitlines()


def test_two_apps_use_two_versions_at_once(host, faq):
    fields = ["created_at", "id", "question", "source"]
    v1 = host.run("tickets-run", "python", "-c", POST, "Which one?", "tickets").stdout
    v2 = host.run("survey-run", "python", "-c", POST, "And which?", "survey").stdout
    assert v1 == f"201 {fields}\n"
    assert v2 == f"201 {sorted([*fields, 'related'])}\n"
    first = faq.get("/v2/questions").json()["questions"][0]["id"]
    made = json.loads(host.run("survey-run", "python", "survey.py", "Both?", str(first), str(first - 1)).stdout)
    assert made["related"] == [first - 1, first]
    assert "related" not in faq.get(f"/v1/questions/{made['id']}").json()


# Prints the control groups of the checking command once it runs as the app's user.
ASKER = "until pid=$(pgrep -u faq -f lib/saltern/contract); do sleep 0.05; done; cat /proc/$pid/cgroup >/tmp/asker"


def test_the_check_is_made_once_for_a_release(host, faq, release, rows, pillar):
    apply(host).changed_nothing()
    logged, before = checked(host), rows()
    apply(host).changed_nothing()
    assert checked(host) == logged
    pillar.merge(app={"faq": {"config": {"WEB_THREADS": "5"}}})
    host.sh(f"timeout 60 sh -c '{ASKER}' >/dev/null 2>&1 &")
    applied = apply(host).succeeded()
    # The checking command was started before the states that come before the release, and ended with the run.
    assert applied.states["app-contracts-begun"]["comment"] == "faq will be asked"
    assert host.run("pgrep", "-f", "lib/saltern/contract", check=False).stdout == ""
    # It runs within the app's limits, since the app's answers decide how much work it has.
    assert re.search(
        r":/app\.slice/app-faq\.slice/app-faq-contract-[0-9.]+\.scope$", host.sh("cat /tmp/asker").stdout, re.M
    )
    number = release()
    said = [re.sub(r": \d\d calls", ": calls", line) for line in checked(host)[len(logged) :]]
    assert said == [f"v{number} openapi/v{n}.yaml: calls, answered as it says" for n in (1, 2)]
    lines = host.sh("journalctl -q -o cat -n 1000 -t 'faq[web.1]'").stdout
    asked = re.findall(r'"([A-Z]+) \S+ HTTP', lines.rpartition(f"v{number} web.1 starts")[2])
    # No operation that creates a question was called.
    assert set(asked) == {"GET"}
    assert rows() == before


ATTACHED = "which tickets attaches as FAQ_API"
KEEP = "expected a build that keeps it and adds another version, or detach it first"
VIEWS = "questions/views.py"
REFUSED = {
    "drops v1": (
        {"openapi/v1.yaml": ("", None)},
        "build",
        f"app.faq.build: drops v1, {ATTACHED}; expected a build that keeps it, or detach it first",
    ),
    "drops a field of v1 from its document": (
        {
            "openapi/v1.yaml": (
                "[id, question, source, created_at]\n      properties:\n        id: {type: integer, minimum: 1}\n"
                "        question: {type: string, minLength: 1, maxLength: 500}\n"
                "        source: {type: string, minLength: 1, maxLength: 150}\n",
                "[id, question, created_at]\n      properties:\n        id: {type: integer, minimum: 1}\n"
                "        question: {type: string, minLength: 1, maxLength: 500}\n",
            )
        },
        "build",
        f"app.faq.build: breaks v1, {ATTACHED}: POST /v1/create: answer 201: source is gone; POST /v1/create: answer "
        f"200: source is gone; GET /v1/questions: answer 200: questions[].source is gone and 1 more; {KEEP}",
    ),
    "asks for more in v2": (
        {"openapi/v2.yaml": ("required: [question, source]\n", "required: [question, source, related]\n")},
        "build",
        "app.faq.build: breaks v2, which survey attaches as FAQ_API: POST /v2/create: request: related is required; "
        + KEEP,
    ),
    "answers something else than v1 says": (
        {VIEWS: ('            "source": question.source,\n', "")},
        "release",
        "openapi/v1.yaml: GET /v1/questions?offset=0: expected source in questions[0]; came 200 with another",
    ),
    "answers with a status that v2 does not have": (
        {
            VIEWS: (
                "limit = page",
                "if self.version > 1:\n            raise Refused(409, no='No.')\n        limit = page",
            )
        },
        "release",
        "openapi/v2.yaml: GET /v2/questions?offset=0: expected status 200 or 400; came 409",
    ),
    "fails": (
        {VIEWS: ("        limit = page", "        raise RuntimeError('on its way')\n        limit = page")},
        "release",
        "openapi/v1.yaml: GET /v1/questions?offset=0: expected no status from 500 on; came 500",
    ),
}


@pytest.fixture
def declared(tree):
    """The declared build, which is declared again after the test."""
    path = tree / "pillar/builds/dev.sls"
    text = path.read_text()
    yield
    path.write_text(text)


@pytest.mark.parametrize("what", REFUSED)
def test_a_build_is_refused_that(what, host, faq, new_build, declared, release, rows):
    changes, state, message = REFUSED[what]
    number, before, serving = release(), rows(), faq.get("/v1/questions").json()
    # A refused release has a number too.
    new = 1 + max(map(int, host.sh("ls /srv/apps/faq/releases").stdout.split()))
    builds = host.sh("ls -A /srv/apps/faq/builds").stdout
    new_build(changes)
    if state == "build":
        applied = apply(host)
        assert applied.failed[STATE[state]] == message
        # A dry run refuses it too, since it can read the tarball, and changes nothing.
        assert apply(host, "test=True").failed == applied.failed
        assert applied.changed == set()
        assert host.sh("ls -A /srv/apps/faq/builds").stdout == builds
    else:
        load = Load(host, "faq.localhost", "/v1/questions?limit=1", requests=200, rate=50)
        try:
            applied = apply(host)
        finally:
            answers = load.finish()
        assert applied.failed.keys() == {STATE[state]}
        said, _, logged = applied.failed[STATE[state]].partition(". faq[web.1] logged last:\n")
        assert said == f"v{new} was refused at the step contract: {message}; v{number} goes on serving"
        assert logged
        assert checked(host)[-1] == f"v{new} {message}"
        for one in answers:
            assert (one.statuses.keys(), one.errors) == ({200}, {})
    print(f"{host.suite}: {what}: {applied.failed[STATE[state]]}")
    assert (release(), rows(), faq.get("/v1/questions").json()) == (number, before, serving)


def test_what_was_refused_leaves_nothing_to_do(host, faq):
    apply(host).changed_nothing()


def test_a_version_that_nobody_attaches_may_go_and_come_again(host, faq, lab, new_build, pillar, release):
    pillar.merge(app={"survey": {"formation": {"worker": 0}, "attach": {"FAQ_API": {"version": "v1"}}}})
    apply(host).succeeded()
    new_build({"openapi/v2.yaml": ("", None)})
    lacking = re.compile(
        r"app\.faq\.provides\.v2: build [0-9a-f]{12} has no openapi/v2\.yaml; expected the OpenAPI document "
    )
    assert lacking.match(apply(host, "test=True").failed[STATE["build"]])
    pillar.merge(app={"faq": {"provides": {"v2": None}}})
    apply(host).succeeded()
    without = release()
    # A build that keeps v1 and adds v2 is accepted.
    pillar.merge(app={"faq": {"provides": {"v2": {"path": "/v2"}}}})
    assert lacking.match(apply(host).failed[STATE["release"]])
    lab.build(ROOT / "examples/faq", host.python)
    apply(host).succeeded()
    assert release() == without + 1
    pillar.merge(app={"survey": {"formation": {"worker": 1}, "attach": {"FAQ_API": {"version": "v2"}}}})
    apply(host).succeeded()
    done = host.run("salt-call", "release.rollback", "faq", str(without), check=False)
    assert done.returncode != 0
    said = f"faq: v{without} lacks v2, which survey attaches as FAQ_API. If it can do without, go back with force=True"
    assert said in done.stdout + done.stderr
    apply(host).changed_nothing()
