"""The state that judges the packages of apps before anything is changed."""

import pytest

from saltern.apps import packages
from saltern.settings import load
from saltern.system import apt

LOW = [
    {"__id__": "base-packages", "state": "pkg", "fun": "installed", "name": "base-packages", "pkgs": ["less"]},
    {"__id__": "app-packages", "state": "pkg", "fun": "installed", "name": "app-packages", "pkgs": ["tree"]},
]


@pytest.fixture
def judged(app_packages_states, dunders, monkeypatch):
    """A function that runs the state; it returns the result, the comment and what was done."""

    def run(there=(), answers=(), test=False, has_lists=True):
        did, answers = [], list(answers)
        monkeypatch.setattr(load, "check", lambda pillar: None)
        monkeypatch.setattr(apt, "installed", lambda: dict.fromkeys(there))
        monkeypatch.setattr(apt, "has_lists", lambda: has_lists)
        monkeypatch.setattr(packages, "refusals", lambda *asked: did.append(asked) or answers.pop(0))
        monkeypatch.setattr(packages, "note", lambda apps, names: did.append(("noted", sorted(names))))
        salt = {
            "apt_lock.missing": lambda low: [name for one in low for name in one["pkgs"]],
            "settings.debian": lambda: {"version": 13},
            "pkg.refresh_db": lambda: did.append("refreshed"),
        }
        pillar = {"app": {"faq": {"build": {"packages": ["tree"]}}}}
        dunders(app_packages_states, salt=salt, pillar=pillar, opts={"test": test}, lowstate=LOW)
        done = app_packages_states.judged("app-packages")
        assert done["changes"] == {}
        return done["result"], done["comment"], did

    return run


ASKED = ({"tree": ["faq"]}, ["less"], "Debian 13")


def test_what_apt_can_install_is_noted_and_a_dry_run_notes_nothing(judged):
    assert judged(answers=[[]]) == (True, "apt can install tree", [ASKED, ("noted", ["tree"])])
    assert judged(answers=[[]], test=True) == (True, "apt can install tree", [ASKED])


def test_where_all_is_installed_apt_is_not_asked(judged):
    assert judged(["tree"]) == (True, "No package is to be installed for an app", [("noted", [])])


def test_a_package_is_refused_once_the_lists_are_fresh(judged):
    assert judged(answers=[["no"], ["no"]]) == (False, "no", [ASKED, "refreshed", ASKED])
    assert judged(answers=[["no"], []])[0] is True
    assert judged(answers=[["no"]], test=True) == (False, "no", [ASKED])


def test_a_dry_run_without_lists_cannot_tell(judged):
    result, comment, did = judged(test=True, has_lists=False)
    assert (result, did) == (True, [])
    assert comment == "apt has no lists of packages yet: the converge fetches them, and asks it then"
