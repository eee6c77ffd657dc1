"""A failed state stays failed, although Salt then calls its ``mod_watch``: salt#43008."""

import ast
import inspect
import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.system import systemd

from .conftest import ROOT

# The fixtures of conftest.py that load the state modules with a mod_watch.
FIXTURES = {
    "certificate": "certificate_states",
    "nginx_tree": "nginx_tree_states",
    "postgres_cluster": "postgres_cluster",
    "redis_instance": "redis_instance",
    "service_config": "service_config",
}


def functions(path):
    """Return the functions of a module, by name."""
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def public():
    """Return the states of modules that have a mod_watch, each as module and function."""
    for path in sorted((ROOT / "salt/_states").glob("*.py")):
        names = functions(path)
        if "mod_watch" in names:
            yield from ((path.stem, name) for name in names if is_state(names[name]))


def is_state(function):
    """Tell whether a function of a state module is a state: its first parameter is ``name``."""
    is_public = function.name != "mod_watch" and not function.name.startswith("_")
    return is_public and [one.arg for one in function.args.args][:1] == ["name"]


STATES = sorted(public())


def watchers():
    """Return the formulas' states with ``watch`` or ``listen``, each as module and function."""
    found = set()
    for path in sorted((ROOT / "formulas").glob("*/*.sls")):
        function = None
        for line in path.read_text().splitlines():
            if match := re.fullmatch(r"  ([a-z_]+)\.([a-z_]+):", line):
                function = match.groups()
            elif re.match(r"\s+- (watch|listen)(_any)?:", line):
                found.add(function)
            # No formula uses watch_in or listen_in, which this search would miss.
            assert not re.match(r"\s+- (watch|listen)_in:", line), path
    return found


class Fails(dict):
    """Modules of which every function raises."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, name):
        def function(*arguments, **options):
            raise self.error

        return function


@pytest.mark.parametrize("module, function", sorted(watchers()), ids=map(".".join, sorted(watchers())))
@pytest.mark.parametrize("error", [CommandExecutionError("refused"), RuntimeError("unforeseen")], ids=["told", "crash"])
def test_a_failed_state_stays_failed_when_a_watched_state_changed(
    request, dunders, monkeypatch, tmp_path, module, function, error
):
    states = request.getfixturevalue(FIXTURES[module])

    def among(*run):
        raise error

    monkeypatch.setattr(systemd, "among", among)
    dunders(
        states,
        salt=Fails(error),
        pillar={"nginx": {"sites": {}, "peers": {}, "guests": {}}},
        opts={"test": False, "cachedir": ""},
        context={},
        running={},
        lowstate=[],
        instance_id="x",
    )
    state = getattr(states, function)
    parameters = inspect.signature(state).parameters.values()
    given = {one.name: "/nowhere" for one in parameters if one.default is one.empty} | {"name": "/nowhere"}
    given |= {key: str(tmp_path) for key in given.keys() & {"directory"}}
    given |= {key: ["/nowhere"] for key in given.keys() & {"files", "units", "apps", "instances", "ports"}}
    ret = state(**given)
    assert (ret["result"], ret["skip_watch"]) == (False, True)
    assert str(error) in ret["comment"]


@pytest.mark.parametrize("module, function", STATES, ids=map(".".join, STATES))
def test_every_state_with_a_mod_watch_keeps_its_failure(module, function):
    decorators = map(ast.unparse, functions(ROOT / f"salt/_states/{module}.py")[function].decorator_list)
    assert "watching.failure_counts" in decorators


def test_what_watches_in_a_formula_is_one_of_them():
    assert watchers() <= set(STATES)
    assert {("nginx_tree", "current"), ("service_config", "loaded")} <= watchers()


CHANGED = {
    "a new file": ({"/a": {"newfile": "/a"}}, True),
    "another content": ({"/a": {"diff": "+b", "user": "root"}}, True),
    "another content that is not shown": ({"/a": {"diff": "<show_changes=False>"}}, True),
    "another owner": ({"/a": {"user": "root"}}, False),
    "another mode and group": ({"/a": {"mode": "0644", "group": "redis"}}, False),
    "of two files one": ({"/a": {"user": "root"}, "/b": {"diff": "+b"}}, True),
    "of two files none": ({"/a": {"user": "root"}, "/b": {"mode": "0600"}}, False),
    "another file": ({"/a": {"user": "root"}, "/c": {"diff": "+b"}}, False),
    "a certificate": ({"/a": {}, "/b": {"/b": {"old": "another", "new": "written"}}}, True),
    "something else": ({"/a": {}, "/b": {}, "x": {"x": {"old": "a", "new": "b"}}}, True),
}


@pytest.mark.parametrize("changes, is_written", CHANGED.values(), ids=CHANGED)
def test_a_new_owner_of_a_file_causes_no_reload(watching, changes, is_written):
    running = {f"file_|-{name}": {"name": name, "changes": one} for name, one in changes.items()}
    assert watching.would_write(running, ("/a", "/b")) == is_written


def test_an_app_whose_release_failed_stays_as_it_is(watching):
    results = {
        "release_|-app-release-shop_|-shop_|-current": False,
        "release_|-app-release-faq_|-faq_|-current": None,
        "release_|-app-release-tickets_|-tickets_|-current": True,
        "build_|-app-build-mirror_|-mirror_|-unpacked": False,
        "app_|-app-retired_|-/srv/apps_|-retired": False,
        "odd": False,
    }
    assert watching.staying({tag: {"result": result} for tag, result in results.items()}) == ["", "shop"]
    assert watching.staying({}) == []
