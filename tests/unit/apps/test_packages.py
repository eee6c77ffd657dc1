"""The packages that apps ask for: who asks for which, which apt cannot install, and which nobody needs any more."""

import pytest

from saltern import kept
from saltern.apps import packages
from saltern.host import Host
from saltern.releases import store
from saltern.system import apt

APPS = {
    "shop": {"build": {"packages": ["ffmpeg", "tree"]}},
    "faq": {"build": {"packages": ["tree"]}},
    "pad": {"build": {}},
}


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A function that says which releases pad has, and which packages are installed."""
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))

    def have(releases, *names):
        monkeypatch.setattr(store, "numbers", lambda app: sorted(releases) if app == "pad" else [])
        monkeypatch.setattr(store, "record", lambda app, number: {"build": str(number)})
        monkeypatch.setattr(store, "outcome", lambda app, number: releases[number][0])
        monkeypatch.setattr(store, "build", lambda app, sha256: {"packages": releases[int(sha256)][1]})
        monkeypatch.setattr(apt, "installed", lambda: {name: apt.Package("1", 2_000_000) for name in names})

    return have


def test_declared_builds_and_releases_to_go_back_to_ask_for_packages(host):
    host({1: ("rolled back", ["poppler-utils"]), 2: ("refused: health", ["less"]), 3: ("serving", None)}, "tree")
    assert packages.listed(APPS) == {
        "ffmpeg": {"apps": ["shop"], "installed": None},
        "poppler-utils": {"apps": ["pad"], "installed": None},
        "tree": {"apps": ["faq", "shop"], "installed": "1"},
    }
    assert packages.missing("pad", 1) == ["poppler-utils"]
    host({1: ("serving", ["tree"])}, "tree")
    assert packages.missing("pad", 1) == []


def simulated(**answers):
    """Return a stand-in for apt, by the packages that it is asked to install, and nothing else is in the way."""
    return lambda names: answers.get("_".join(names), apt.Outcome([], ""))


TIME = apt.Outcome(["systemd-timesyncd"], "")
UNMET = apt.Outcome([], "a : Conflicts: b")
ADVICE = "Change the Aptfile, and build again"
REFUSED = {
    "all is well": ({"tree": ["faq"]}, ["nginx"], {}, []),
    "an unknown name": (
        {"tre": ["faq", "shop"]},
        [],
        {},
        [f"app.faq.build, app.shop.build: Aptfile: tre: Debian 13 has no such package; expected tree. {ADVICE}"],
    ),
    "a name like no other": (
        {"quantum-flux": ["faq"]},
        [],
        {},
        [
            "app.faq.build: Aptfile: quantum-flux: Debian 13 has no such package; expected a package that it has "
            f"(apt-cache search). {ADVICE}"
        ],
    ),
    "a removal": (
        {"chrony": ["faq"], "tree": ["shop"]},
        [],
        {"chrony_tree": TIME, "chrony": TIME},
        [
            "app.faq.build: Aptfile: chrony: would remove systemd-timesyncd; expected packages that take nothing from "
            f"the host. {ADVICE}"
        ],
    ),
    "two that exclude each other": (
        {"a": ["faq"], "b": ["shop"]},
        [],
        {"a_b": UNMET},
        [
            "app.faq.build, app.shop.build: Aptfile: a, b: cannot be installed: a : Conflicts: b; expected packages "
            f"that fit together. {ADVICE}"
        ],
    ),
    "what is none of the app's doing": ({"tree": ["faq"]}, ["x"], {"tree_x": UNMET, "x": UNMET}, []),
}


@pytest.mark.parametrize("wanted, others, answers, expected", REFUSED.values(), ids=REFUSED)
def test_a_package_is_refused_by_the_apps_that_ask_for_it(monkeypatch, wanted, others, answers, expected):
    monkeypatch.setattr(apt, "known", lambda: {"tree", "chrony", "a", "b"})
    monkeypatch.setattr(apt, "simulated", simulated(**answers))
    assert packages.refusals(wanted, others, "Debian 13") == expected


def left(apps, base=()):
    return packages.left(Host.of({}, {"app": apps, "base": {"packages": list(base)}}, {}))


def test_a_package_that_no_app_asks_for_any_more_is_listed_with_the_command_that_removes_it(host):
    host({}, "tree", "ffmpeg")
    packages.note(APPS, ["tree"])
    assert left(APPS) == {}
    # Until the next converge it is not known since when.
    listed = left({"pad": {"build": {}}})["package:tree"]
    assert listed == {"app": "faq", "size": "2.0 MB", "since": None, "remove": "apt-get purge tree"}
    packages.note({}, [])
    assert left({})["package:tree"]["since"]
    assert left({}, base=["tree"]) == {}
    # Asked for again, it is kept no more; and what an operator has removed is forgotten.
    packages.note(APPS, [])
    assert kept.of("package", "tree")["since"] is None
    host({})
    packages.note({}, [])
    assert kept.listed("package") == {}


def test_what_was_there_before_an_app_asked_for_it_is_not_noted(host):
    host({}, "tree", "ffmpeg")
    packages.note(APPS, [])
    assert kept.listed("package") == {}
    assert left({}) == {}
