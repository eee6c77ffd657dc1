"""Mutations of valid pillars: each is refused by path, or its highstate compiles. None ends in a traceback."""

import collections
import copy
import json
import logging
import multiprocessing
import re
import traceback
from concurrent.futures import ProcessPoolExecutor

import pytest
import salt.config
import salt.loader
import salt.pillar
import salt.state
import yaml

from saltern import environments

from .everything import EVERYTHING
from .minion import ALONE, BUILDS, ROOT, Host, certificates
from .mutations import CANARY, CANARY_NUMBER, KINDS, mutations, written

ENVIRONMENTS = environments.names([str(ROOT / "pillar")])

# The number of mutations of each kind in each environment.
COUNT = 24

# Laid over EVERYTHING.
NO_SECRETS = {
    "app": {
        "tickets": {
            "attach": {"MAIL_URL": {"url": f"smtp://mail.example.com/{CANARY}"}},
            "site": {"access": {"users": None}},
        }
    },
    "postgres": {"databases": None},
    "redis": {"instances": None},
}

PREFIX = "Failed to load ext_pillar settings: "
FORMULAS = "|".join(sorted(path.parent.name for path in (ROOT / "formulas").glob("*/settings.yaml")))
BY_PATH = rf"(pillar/[a-z/]+\.(sls|yaml)|(hosts|{FORMULAS})(\.'.*'|\.[^ ]+|\[\d+\])*): .*(expected|did you mean) .+"
UNKNOWN = r"('.*'|[^ ]+): (unknown setting; (expected|did you mean) .+|YAML reads this name as .+; put it in quotes)"
# Salt's own messages about a file, besides ours.
OF_SALT = (
    r"Rendering SLS '.+' failed\. Please see master log for details\.|SLS '.+' does not render to a dictionary|"
    r"Include Declaration in SLS '.+' is not formed as a list"
)


class Subject:
    """A host whose valid pillar has every setting; it is compiled in this process.

    :param directory: an empty directory.
    :param environment: the host's environment. In dev a second host has the services, so that passwords must be
        declared. Elsewhere secrets would be encrypted, so this pillar has none there; see ``test_secrets.py``.
    """

    def __init__(self, directory, environment):
        hosts = copy.deepcopy(ALONE)
        minion_id = next(name for name, row in hosts.items() if row["environment"] == environment)
        self.host = Host(directory, minion_id)
        self.host.merge(EVERYTHING, environment)
        secrets = {}
        if environments.is_ephemeral([str(ROOT / "pillar")], environment):
            hosts[minion_id]["roles"] = ["app", "proxy"]
            hosts["second"] = {"environment": environment, "roles": ["database", "cache"], "address": "10.77.1.11"}
            secrets = {"app": {name: {"config": {"TOKEN": f"{CANARY}-{name}"}} for name in ("faq", "tickets")}}
            given = {"certificates": certificates(minion_id, hosts[minion_id]["address"])}
        else:
            self.host.merge(NO_SECRETS, environment)
        names = ("common.sls", f"environments/{environment}.sls")
        self.files = {name: yaml.safe_load((self.host.pillar / name).read_text()) for name in names}
        self.files |= {"hosts.yaml": hosts, f"builds/{environment}.sls": BUILDS}
        if secrets:
            self.files |= {f"secrets/{environment}.sls": secrets, f"certificates/{environment}/{minion_id}.sls": given}
        for name, content in self.files.items():
            self.write(name, written(name, content))
        self.opts = salt.config.minion_config(str(directory / "minion"))
        self.opts["grains"] = salt.loader.grains(self.opts)
        # This takes half of a compile's time. It is kept for the next one, as a running minion keeps it.
        self.functions = salt.loader.minion_mods(self.opts, utils=salt.loader.utils(self.opts))

    def write(self, name, text):
        """Write a pillar file.

        :param name: below the pillar's root.
        :param text: its content, as bytes.
        """
        path = self.host.pillar / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text)

    def compile(self):
        """Compile as salt-call does; return ``compiled`` with state IDs, or ``refused`` with messages."""
        compiler = salt.pillar.Pillar(self.opts, self.opts["grains"], self.host.id, "base", functions=self.functions)
        pillar = compiler.compile_pillar()
        if messages := pillar.get("_errors"):
            return "refused", [line for message in messages for line in message.removeprefix(PREFIX).splitlines()]
        states = salt.state.HighState(dict(self.opts, pillar=pillar), initial_pillar=pillar).compile_low_chunks()
        if not all(isinstance(state, dict) for state in states):
            return "failed", list(map(str, states))
        return "compiled", [state["__id__"] for state in states]

    def outcome(self, mutation):
        """Compile with a mutation; return ``compiled``, ``refused`` or ``failed``, and state IDs or messages."""
        self.write(mutation.name, mutation.text)
        try:
            return self.compile()
        except Exception:
            return "failed", [traceback.format_exc()]
        finally:
            self.write(mutation.name, written(mutation.name, self.files[mutation.name]))


def outcomes_of(directory, environment, kind):
    """Return each mutation of a kind, of an environment's pillar, with its outcome.

    :param directory: an empty directory.
    :param environment: such as ``dev``.
    :param kind: such as ``drop``.
    """
    # Salt logs each refusal with a traceback, which only root can read.
    logging.disable()
    subject = Subject(directory, environment)
    return [(each, *subject.outcome(each)) for each in mutations(kind, subject.files, environment, COUNT)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Each mutation with its outcome and the messages or state IDs, by kind."""
    tasks = [(tmp_path_factory.mktemp(kind), name, kind) for kind in KINDS for name in ENVIRONMENTS]
    found = {kind: [] for kind in KINDS}
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        for (_, _, kind), some in zip(tasks, pool.map(outcomes_of, *zip(*tasks, strict=True)), strict=True):
            found[kind] += some
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_mutated_compiles_as_it_is(tmp_path, environment):
    what, ids = Subject(tmp_path, environment).compile()
    assert what == "compiled", "\n".join(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_refused_by_path_or_compiles(outcomes, kind):
    wrong = []
    for mutation, what, lines in outcomes[kind]:
        clear = [line for line in lines if re.fullmatch(f"{BY_PATH}|{UNKNOWN}", line)]
        unclear = [line for line in lines if line not in clear and not re.fullmatch(OF_SALT, line)]
        if what == "failed" or (what == "refused" and (unclear or not clear)):
            wrong.append(f"{mutation.about}:\n" + "\n".join(lines))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_tells_no_value(outcomes, kind):
    for mutation, what, lines in outcomes[kind]:
        if what == "refused":
            told = [line for line in lines if re.search(f"{CANARY}|{CANARY_NUMBER}", line, re.IGNORECASE)]
            assert not told, mutation.about


def test_there_are_five_hundred_and_some_of_each_end(outcomes, capsys):
    counts = {kind: collections.Counter(what for _, what, _ in some) for kind, some in outcomes.items()}
    with capsys.disabled():
        print()
        for kind, count in counts.items():
            print(f"  {kind:<9}", ", ".join(f"{count[what]:>3} {what}" for what in ("refused", "compiled", "failed")))
    assert sum(count.total() for count in counts.values()) >= 500
    assert all(count["refused"] for count in counts.values())
    assert any(count["compiled"] for count in counts.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_says_what_was_found_here(outcomes, tmp_path, kind):
    subject = Subject(tmp_path, "dev")
    ends = {what: (mutation, lines) for mutation, what, lines in outcomes[kind][COUNT - 1 :: -1]}
    for what, (mutation, lines) in ends.items():
        subject.write(mutation.name, mutation.text)
        code, output = subject.host.call("--out", "json", "state.show_lowstate")
        assert "Traceback" not in output, mutation.about
        if what == "compiled":
            assert code == 0, mutation.about
            assert [state["__id__"] for state in json.loads(output)["local"]] == lines, mutation.about
        else:
            assert code != 0, mutation.about
            assert CANARY not in output, mutation.about
            said = [line.removeprefix("- ").removeprefix(PREFIX) for line in output.splitlines()]
            assert [line for line in said if line in lines] == lines, mutation.about
        subject.write(mutation.name, written(mutation.name, subject.files[mutation.name]))
