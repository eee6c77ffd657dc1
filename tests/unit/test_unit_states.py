"""A unit in its declared state is asked about once; for all else Salt's own states are called."""

import pytest

from saltern.system import systemd

RIGHT = {"ActiveState": "active", "UnitFileState": "enabled"}


@pytest.fixture
def states(unit_states, dunders, monkeypatch):
    """A function that runs a state; it returns the state's answer and the calls of Salt's own states."""

    def run(function, shown, test=False, packages=("stock",), **arguments):
        asked = []

        def of_salt(word):
            return lambda name, **options: asked.append((word, name, options)) or {"comment": word}

        monkeypatch.setattr(systemd, "shown", lambda name, *properties, among: shown)
        dunders(
            unit_states,
            salt={"pkg.version": lambda name: "1.0" if name in packages else ""},
            states={f"service.{word}": of_salt(word) for word in ("running", "enabled")},
            opts={"test": test},
            context={},
            instance_id="one",
            lowstate=[],
            running={},
        )
        return getattr(unit_states, function)("stock", **arguments), asked

    return run


@pytest.mark.parametrize("test", [False, True], ids=["run", "dry run"])
def test_a_unit_in_its_declared_state_is_asked_about_once(states, test):
    for function in ("running", "enabled"):
        ret, asked = states(function, RIGHT, test=test, package="stock")
        assert (ret["result"], ret["changes"], asked) == (True, {}, [])


@pytest.mark.parametrize(
    "wrong", [{"ActiveState": "failed"}, {"ActiveState": "activating"}, {"UnitFileState": "masked"}]
)
def test_a_unit_in_another_state_is_left_to_salts_own_state(states, wrong):
    ret, asked = states("running", RIGHT | wrong, package="stock")
    assert asked == [("running", "stock", {"enable": True})]
    assert ret == {"comment": "running"}


def test_a_unit_that_another_one_starts_need_not_be_enabled(states):
    assert states("running", RIGHT | {"UnitFileState": "disabled"}, package="stock", enable=False)[1] == []
    asked = states("running", {"ActiveState": "inactive"}, package="stock", enable=False)[1]
    assert asked == [("running", "stock", {"enable": None})]


def test_what_is_to_be_enabled_need_not_run(states):
    assert states("enabled", RIGHT | {"ActiveState": "inactive"}, package="stock")[1] == []
    assert states("enabled", {"UnitFileState": "disabled"}, package="stock")[1] == [("enabled", "stock", {})]


def test_a_dry_run_leaves_a_start_to_the_package_that_is_missing(states):
    ret, asked = states("running", {}, test=True, packages=(), package="stock")
    assert (ret["result"], ret["comment"], asked) == (True, "The package stock starts stock", [])
    assert states("running", {}, test=True, packages=(), package=None)[1] == [("running", "stock", {"enable": True})]
