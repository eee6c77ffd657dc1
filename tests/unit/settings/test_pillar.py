"""A host's pillar: compiled of the files of the tree, and checked."""

import copy
import re
from pathlib import Path

import jinja2
import pytest
import yaml

from saltern import inventory
from saltern.paths import Roots
from saltern.secrets.files import Keyring
from saltern.services import listed
from saltern.settings import pillar as pillars
from saltern.settings.files import unreadable
from tests.unit.settings.declared import BUILD, shop

HOSTS = {"one": {"environment": "dev", "roles": ["database", "cache", "app", "proxy"], "address": "10.0.0.1"}}

ROOT = Path(__file__).parents[3]


def rendered(path):
    """Return what Salt makes of a pillar file with Jinja."""
    return yaml.safe_load(jinja2.Template(Path(path).read_text()).render())


@pytest.fixture
def tree(tmp_path):
    """The tree's own formulas, and a pillar with two files."""
    for name, text in {"common.sls": "", "environments/dev.sls": "ephemeral: True\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return Roots([str(tmp_path)], [str(ROOT / "salt"), str(ROOT / "formulas")], str(tmp_path))


@pytest.fixture
def compiled(tree, tmp_path):
    """A function that compiles the pillar of a host."""

    def run(pillar, minion_id):
        # The value of hosts comes from the inventory's file.
        if "hosts" in pillar:
            (tmp_path / "hosts.yaml").write_text(yaml.safe_dump(pillar["hosts"]))
        # On a second compile, the pillar has hosts already.
        is_first = "_declared" not in pillar
        files = {key: value for key, value in pillar.items() if not (is_first and key == "hosts")}
        return pillars.compiled(files, minion_id, tree, Keyring.of({}), rendered)

    return run


BUILT_OF = BUILD | {"processes": ["web", "worker", "release"]}
NO_SUCH = "the declared build has no such process type; expected one of"
FORMATIONS = {
    "what the build has": (BUILT_OF, {"web": 2, "worker": 1}, []),
    "a type that it has not": (
        BUILT_OF,
        {"web": 1, "wroker": 1},
        [f"app.shop.formation.wroker: {NO_SUCH} web, worker; did you mean 'worker'?"],
    ),
    "a type like no other": (BUILT_OF, {"beat": 1}, [f"app.shop.formation.beat: {NO_SUCH} web, worker"]),
    "none of a type that it has not": (BUILT_OF, {"web": 1, "beat": 0}, []),
    "the default, of a build without a web process": (
        BUILD | {"processes": ["worker"]},
        None,
        [f"app.shop.formation.web: {NO_SUCH} worker"],
    ),
    "a build that only releases": (
        BUILD | {"processes": ["release"]},
        None,
        [f"app.shop.formation.web: {NO_SUCH} none"],
    ),
    "a declaration from before it named them": (BUILD, {"wroker": 1}, []),
}


@pytest.mark.parametrize("build, formation, expected", FORMATIONS.values(), ids=FORMATIONS)
def test_a_formation_is_of_what_the_declared_build_has(compiled, build, formation, expected):
    said = {"build": build} | ({"formation": formation} if formation else {})
    assert compiled({"hosts": HOSTS} | shop(**said), "one")[1] == expected


def test_an_order_is_of_what_the_declared_build_has(compiled):
    said = {"build": BUILT_OF, "order": {"worker": "stop-first", "baet": "stop-first"}}
    expected = [f"app.shop.order.baet: {NO_SUCH} web, worker"]
    assert compiled({"hosts": HOSTS} | shop(**said), "one")[1] == expected


def test_what_is_counted_in_the_environment_is_of_what_the_declared_build_has(compiled):
    said = {"build": BUILT_OF, "count": {"worker": "environment", "baet": "environment"}}
    expected = [f"app.shop.count.baet: {NO_SUCH} worker"]
    assert compiled({"hosts": HOSTS} | shop(**said), "one")[1] == expected


def test_a_value_that_is_a_secret_stands_in_one_file(compiled, tmp_path):
    for name in ("environments", "secrets"):
        (tmp_path / name).mkdir(exist_ok=True)
    secret = (
        "app: {shop: {domains: [b], config: {KEY: canary, OTHER: canary}, attach: {URL: {url: 'redis://canary'}}}}\n"
    )
    (tmp_path / "secrets/dev.sls").write_text(secret)
    (tmp_path / "common.sls").write_text("app: {shop: {port: 8000}}\n")
    assert compiled({"hosts": HOSTS} | shop(), "one")[1] == []
    (tmp_path / "environments/dev.sls").write_text(
        "ephemeral: True\napp: {shop: {domains: [a], config: {KEY: a}, attach: {URL: {url: c}}}}\n"
    )
    (tmp_path / "common.sls").write_text("{% set c = 'c' %}\napp: {shop: {config: {OTHER: {{ c }}}, port: 8000}}\n")
    end = "too; expected in one of them. Remove the other"
    mistakes = compiled({"hosts": HOSTS} | shop(), "one")[1]
    assert [message for message in mistakes if "in one of them" in message] == [
        f"app.shop.attach.URL.url: is in pillar/secrets/dev.sls and in pillar/environments/dev.sls {end}",
        f"app.shop.config.KEY: is in pillar/secrets/dev.sls and in pillar/environments/dev.sls {end}",
        f"app.shop.config.OTHER: is in pillar/secrets/dev.sls and in pillar/common.sls {end}",
    ]
    assert "canary" not in str(mistakes)


def test_a_host_has_the_settings_of_every_formula(compiled, schemas):
    found, mistakes = compiled({"hosts": HOSTS} | shop(), "one")
    assert mistakes == []
    assert {key for key in found if not key.startswith("_")} == {"hosts", *schemas}
    assert found["app"]["shop"]["health"]["path"] == "/healthz"


def test_settings_that_are_compiled_again_stay_the_same(compiled):
    pillar = {"hosts": HOSTS} | shop(attach={"DATABASE_URL": {"postgres": "shop"}, "REDIS_URL": {"redis": "shop"}})
    once, _ = compiled(copy.deepcopy(pillar), "one")
    # Salt lays the files' top-level keys over the existing pillar.
    assert compiled(once | copy.deepcopy(pillar), "one") == (once, [])


@pytest.mark.parametrize(
    "pillar, expected",
    [
        ({"hosts": {}}, "hosts: not acceptable; expected mapping that is not empty (The inventory, pillar/hosts.yaml"),
        (
            {"hosts": {"two": HOSTS["one"]}},
            "hosts.one: missing; expected a row for this host's id in pillar/hosts.yaml",
        ),
        ({"hosts": HOSTS, "zzz": 1}, "zzz: unknown setting; expected one of app"),
        ({"hosts": HOSTS, 1: 1}, "1: YAML reads this name as integer"),
        ({"hosts": HOSTS, "nginx": {}, None: 1}, "None: YAML reads this name as nothing"),
        ({"hosts": HOSTS} | shop(attach={"X": {}}), f"app.shop.attach.X: expected one of {next(iter(listed()))}, "),
    ],
)
def test_the_inventory_the_settings_and_the_attachments_are_checked(compiled, pillar, expected):
    _, mistakes = compiled(copy.deepcopy(pillar), "one")
    assert len(mistakes) == 1
    assert mistakes[0].startswith(expected)


UNLOADABLE = {
    **dict.fromkeys(
        ("include: a\n", "include: [1]\n", "include: [null]\n", "include:\n- a: {b: [c]}\n- {}\n", "include:\n"),
        "include: not here; expected settings alone",
    ),
    "include:\n- common\n": "include: not here; expected settings alone",
    "- a\n": "found list; expected mapping",
    "hunter2\n": "found string; expected mapping",
    "a: {}\na: {}\n": "line 2, column 1: found conflicting ID; expected YAML",
    "a:\n\tb: 1\n": "line 2, column 1: found character that cannot start any token; expected YAML",
    "a: *hunter2\n": "line 1, column 4: found undefined alias; expected YAML",
    f"a: {'9' * 5000}\n": "a number that cannot be read; expected YAML; put it in quotes if it is text",
    "a: " + "{a: " * 900 + "1" + "}" * 900: "more than 20 lists and mappings inside each other; expected settings",
    "a: &a {b: *a}\n": "more than 20 lists and mappings inside each other; expected settings",
    **{
        f"#!{name}\na: 1\n": f"line 1: #!{name}: no such renderer here; expected #!yaml, #!jinja|yaml, #!yaml|gpg or "
        "#!jinja|yaml|gpg"
        for name in ("py", "nothere", "gpg", "yaml|mako")
    },
    b"a: \xe9\n": "not in UTF-8; expected YAML in UTF-8",
    None: "cannot be read: Is a directory; expected a file that root may read",
}


@pytest.mark.parametrize("content", UNLOADABLE, ids=lambda content: ascii(content)[:30])
def test_a_pillar_file_that_salt_cannot_load_is_told_once_and_not_given_to_it(tmp_path, content):
    for name in ("common.sls", "environments/dev.sls", "builds/dev.sls"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1\n")
    assert pillars.loadable("dev", "one", [str(tmp_path)], rendered) == ["common", "environments.dev", "builds.dev"]
    path = tmp_path / "environments/dev.sls"
    path.unlink()
    assert pillars.loadable("dev", "one", [str(tmp_path)], rendered) == ["common", "builds.dev"]
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert unreadable([tmp_path], ["environments/dev.sls"]) == [f"pillar/environments/dev.sls: {UNLOADABLE[content]}"]
    assert pillars.loadable("dev", "one", [str(tmp_path)], rendered) == ["common", "builds.dev"]


def test_a_route_to_a_type_that_the_build_lacks_is_told_once(compiled):
    routed = {"hosts": HOSTS} | shop(build=BUILT_OF, site={"routes": {"/ws/": "wroker"}})
    assert compiled(routed, "one")[1] == [f"app.shop.site.routes./ws/: {NO_SUCH} web, worker; did you mean 'worker'?"]


def test_a_pillar_file_that_must_be_there_is_told(compiled, tmp_path):
    (tmp_path / "common.sls").unlink()
    mistakes = ["pillar/common.sls: missing; expected this file: it may be empty"]
    assert compiled({"hosts": HOSTS} | shop(), "one") == ({}, mistakes)


def test_an_environment_is_one_that_has_a_file(compiled, tmp_path):
    (tmp_path / "environments/dev.sls").rename(tmp_path / "environments/qa.sls")
    mistakes = ["hosts.one.environment: expected one of qa"]
    assert compiled({"hosts": HOSTS} | shop(), "one") == ({}, mistakes)


@pytest.mark.parametrize("said", [False, "yes", 1])
def test_an_environment_is_ephemeral_by_one_line_alone(compiled, said):
    mistakes = [
        "ephemeral: expected the line `ephemeral: True` in pillar/environments/dev.sls, "
        "or nothing of it in any pillar file"
    ]
    assert compiled({"hosts": HOSTS, "ephemeral": True} | shop(), "one")[1] == []
    assert compiled({"hosts": HOSTS, "ephemeral": said} | shop(), "one")[1] == mistakes


def test_a_name_that_no_host_can_have_is_told(compiled, tmp_path):
    (tmp_path / "hosts.yaml").write_text(f"? {'a' * 1100}\n: {{}}\n")
    (message,) = compiled({}, "one")[1]
    assert re.match(r"hosts\.a+\.\.\.: a name that cannot be used here; expected a host's id", message)


def test_only_files_of_the_hosts_own_environment_stop_it(compiled, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/production.sls").write_text("a: [\n")
    assert compiled({"hosts": HOSTS} | shop(), "one")[1] == []
    (tmp_path / "secrets/dev.sls").write_text("a: [\n")
    (message,) = compiled({"hosts": HOSTS} | shop(), "one")[1]
    assert message.startswith("pillar/secrets/dev.sls: line 2, column 1: ")
    (tmp_path / "hosts.yaml").write_text("a: [\n")
    (message,) = compiled({}, "one")[1]
    assert message.startswith("pillar/hosts.yaml: line 2, column 1: ")


def test_the_inventory_is_in_no_pillar_file(compiled, tree):
    once, mistakes = compiled({"hosts": HOSTS} | shop(), "one")
    assert mistakes == []
    other = {"hosts": {"one": HOSTS["one"] | {"address": "10.0.0.9"}}}
    for pillar in (other | shop(), {"hosts": HOSTS} | shop(), once | other):
        _, mistakes = pillars.compiled(pillar, "one", tree, Keyring.of({}), rendered)
        assert mistakes == ["hosts: set in a pillar file; expected in pillar/hosts.yaml alone"]


def test_a_host_is_told_of_no_other(compiled):
    other = {"environment": "dev", "roles": ["app"], "address": "10.0.0.7"}
    found, mistakes = compiled({"hosts": HOSTS | {"two": other}} | shop(), "one")
    assert mistakes == []
    assert found["hosts"] == HOSTS


def test_an_inventory_that_was_checked_is_known_until_it_is_another(compiled, tree, tmp_path):
    assert inventory.known(tree) is None
    compiled({"hosts": {"one": HOSTS["one"] | {"adress": 1}}} | shop(), "one")
    assert inventory.known(tree) is None
    compiled({"hosts": HOSTS} | shop(), "one")
    assert inventory.known(tree) == HOSTS == inventory.read(tree)
    (tmp_path / "hosts.yaml").write_text((tmp_path / "hosts.yaml").read_text() + "two: {}\n")
    assert inventory.known(tree) is None
    assert inventory.read(tree) == HOSTS | {"two": {}}
    assert compiled({}, "one")[1] != []
    (tmp_path / "saltern-inventory.json").write_text("{")
    assert inventory.known(tree) is None
