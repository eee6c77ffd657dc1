"""A host's declared builds: where they lie, how they are unpacked, and what a dry run knows of them."""

import hashlib
import json
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from saltern.builds import declared, manifest, venv
from saltern.contracts import judge
from saltern.host import Host
from saltern.releases import store, supervisor
from tests.unit.builds import members
from tests.unit.builds.members import LIMITS, folder, member, unpacked


def on(directory, pillar, salt):
    """Return a host whose apps are below a directory of the test's.

    :param salt: functions of Salt by name.
    """
    return declared.Host(Host.of(salt, pillar, {"id": "one"}), str(directory), f"{directory}/locks")


def test_the_place_of_a_build_is_named_by_app_and_digest(monkeypatch, tmp_path):
    pillar = {"app": {"shop": {"build": {"sha256": "0123456789ab" + "c" * 52}}}}
    monkeypatch.setattr(supervisor, "is_well", lambda app: True)
    host = on(tmp_path, pillar, {})
    assert not declared.is_unpacked(host, "shop")
    unpacked(tmp_path / "shop/builds/0123456789ab")
    assert declared.is_unpacked(host, "shop")


def test_two_that_unpack_a_build_at_once_have_it_whole_and_made_once(monkeypatch, tmp_path, tarball):
    source = tarball(member("manage.py", content=b"print()"))
    said = {"source": source, "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest()}
    host = on(
        tmp_path,
        pillar={
            "app": {"shop": {"build": said, "unpacked": LIMITS, "formation": {}, "site": {"serve": {}, "errors": {}}}}
        },
        salt={},
    )
    monkeypatch.setattr(judge, "judge", lambda *_: None)
    monkeypatch.setattr(supervisor, "is_well", lambda app: True)
    monkeypatch.setattr(declared, "grp", types.SimpleNamespace(getgrnam=lambda app: types.SimpleNamespace(gr_gid=0)))
    monkeypatch.setattr(manifest, "judge", lambda app, staged: {})
    made, begun = [], threading.Event()

    def make_venv(app, staged, earlier):
        begun.set()
        made.append(staged)
        # Long enough for the second run to start, and to remove this one's files if it did not wait.
        time.sleep(0.3)
        unpacked(Path(staged))

    monkeypatch.setattr(venv, "make", make_venv)
    first = threading.Thread(target=declared.unpack, args=[host, "shop"])
    first.start()
    begun.wait(5)
    declared.unpack(host, "shop")
    first.join()
    assert len(made) == 1
    assert declared.damage(host, "shop", deeply=True) == ""
    assert (tmp_path / "shop/builds" / said["sha256"][:12] / "manage.py").exists()


@pytest.fixture
def foresee(tarball, monkeypatch, tmp_path):
    """Return a function that has a dry run judge a tarball, and returns the arguments of the contract check."""
    monkeypatch.setattr(manifest, "python_version", lambda: "{}.{}".format(*sys.version_info))

    def call(*members, source="here", processes=None, packages=None, serve=None):
        path = tarball(*members)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if source != "other" else "0" * 64
        where = {"here": path, "other": path, "elsewhere": f"{path}.absent"}.get(source, source)
        build = {"source": where, "sha256": digest} | ({"processes": processes} if processes else {})
        build |= {"packages": packages} if packages else {}
        said = {"build": build, "unpacked": LIMITS}
        asked = []
        host = on(
            tmp_path,
            salt={"cp.cache_file": lambda source: path},
            pillar={"app": {"shop": said | {"formation": {"web": 1}, "site": {"serve": serve or {}, "errors": {}}}}},
        )

        def judged(host, app, sha256, made, read):
            asked.append((app, sha256 == digest, read("v1")))

        monkeypatch.setattr(judge, "judge", judged)
        declared.foresee(host, "shop")
        return asked

    return call


def whole(**changes):
    record = json.dumps(members.manifest(contracts={"v1": {}}, **changes)).encode()
    parts = [member("Procfile"), member("build.json", content=record), member("requirements.txt")]
    return [*parts, member("openapi/v1.yaml", content=b"paths: {}")]


@pytest.mark.parametrize("source", ["here", "salt://here", "elsewhere", "https://builds.example.com/a.tar.gz"])
def test_a_dry_run_judges_what_is_at_hand(foresee, source):
    at_hand = source in ("here", "salt://here")
    assert foresee(*whole(), source=source) == ([("shop", True, "paths: {}")] if at_hand else [])


def test_a_dry_run_refuses_another_tarball_than_the_declared_one(foresee):
    with pytest.raises(
        CommandExecutionError, match=r"^app\.shop\.build\.sha256: .* has the sha256 .*; expected the declared"
    ):
        foresee(*whole(), source="other")


FORESEEN = {
    "no build.json": ([member("Procfile")], "has no valid build.json"),
    "a build.json that is none": ([member("build.json", content=b"[]")], "has no valid build.json"),
    "a build of another app": (whole(app="other"), "is a build of other; declare one of shop"),
    "no requirements": (whole()[:2], "has no requirements.txt"),
    "what leaves the build": ([*whole(), member("../evil")], "../evil leaves the build"),
    "what fills the host": ([*whole(), member("big", content=bytes(11_000_000))], "unpacks to more than"),
}


@pytest.mark.parametrize("members, reason", FORESEEN.values(), ids=FORESEEN)
def test_a_dry_run_refuses_what_the_run_would(foresee, members, reason):
    with pytest.raises(CommandExecutionError, match=f"app.shop.build: .*{reason}"):
        foresee(*members)


def test_a_directory_that_nginx_shall_serve_must_be_in_the_build(foresee):
    serve = {"/static/": {"build": "static"}}
    assert foresee(*whole(), folder("static"), serve=serve)
    with pytest.raises(
        CommandExecutionError, match=r"app\.shop\.site\.serve\./static/\.build: the declared build has no "
    ):
        foresee(*whole(), serve=serve)


def test_a_declaration_that_names_other_process_types_than_the_build_is_refused(foresee):
    assert foresee(*whole(processes={"web": "a", "release": "b"}), processes=["web", "release"])
    with pytest.raises(CommandExecutionError, match=r"app\.shop\.build\.processes: the build has web; expected these"):
        foresee(*whole(), processes=["web", "worker"])


@pytest.mark.parametrize("has, said", [(["tree"], None), ([], ["tree"]), (["less", "tree"], ["tree"])])
def test_a_declaration_that_names_other_packages_than_the_build_is_refused(foresee, has, said):
    assert foresee(*whole(packages=["less", "tree"]), packages=["tree", "less"])
    with pytest.raises(CommandExecutionError) as raised:
        foresee(*whole(packages=has), packages=said)
    assert str(raised.value) == (
        f"app.shop.build.packages: the build's Aptfile asks for {', '.join(has) or 'none'}; expected these, as "
        "bin/build --declare writes them"
    )


@pytest.mark.parametrize(
    "source, authorities, serving, is_there, expected",
    [
        ("https://builds.example/faq.tar.gz", {}, None, False, True),
        ("/srv/faq.tar.gz", {"own": "..."}, None, False, True),
        ("https://builds.example/faq.tar.gz", {"own": "..."}, None, False, False),
        ("/srv/faq.tar.gz", {}, 3, False, False),
        ("/srv/faq.tar.gz", {}, None, True, False),
    ],
)
def test_a_build_waits_for_what_it_needs_and_for_apps_that_serve(
    monkeypatch, source, authorities, serving, is_there, expected
):
    host = on(
        Path("/nowhere"),
        pillar={
            "app": {"faq": {"build": {"source": source, "sha256": "a" * 64}}, "shop": {}},
            "base": {"ca_certificates": authorities},
        },
        salt={},
    )
    monkeypatch.setattr(store, "current", {"shop": serving}.get)
    monkeypatch.setattr(declared, "is_unpacked", lambda host, app: is_there)
    assert declared.is_first(host, "faq") is expected


def test_an_app_that_is_not_declared_is_told_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "current", lambda app: None)
    host = on(tmp_path, {"app": {"faq": {}, "tickets": {}}}, {})
    told = r"^nosuch: no app of this host has this name; expected one of faq, tickets$"
    for ask in (declared.damage, declared.is_first, declared.unpack):
        with pytest.raises(CommandExecutionError, match=told):
            ask(host, "nosuch")
