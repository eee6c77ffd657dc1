"""The state of the second nginx, which speaks HTTP/3: when it is started, reloaded, left alone and removed."""

import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.system import systemd
from saltern.tls import site
from saltern.web import http3, tree, workers

UNIT, NEW = "saltern-http3", "[Service]\n"
# Whether it is declared, the text of the unit that is there, whether it runs, and whether its workers are old.
CASES = {
    "off, and never was there": (False, None, False, False, set(), []),
    "it is switched on": (True, None, False, False, {"file", UNIT}, ["read", "on"]),
    "it runs as declared": (True, NEW, True, False, set(), []),
    "a domain or a certificate changed": (True, NEW, True, True, {UNIT}, ["reload /run/saltern-http3.pid"]),
    "somebody stopped it": (True, NEW, False, False, {UNIT}, ["on"]),
    "a new unit does not cut its connections": (True, "old", True, False, {"file"}, ["read"]),
    "it is switched off": (False, NEW, True, False, {"file", UNIT}, ["off", "read"]),
    "somebody stopped it, and it is switched off": (False, NEW, False, False, {"file"}, ["read"]),
}


@pytest.fixture
def run(nginx_http3_states, dunders, monkeypatch, tmp_path):
    """A function that runs the state; it returns what was told, the changes, and what was done."""

    def apply(is_declared, there, is_running, is_old, is_dry, running=None):
        done, path = [], tmp_path / f"{UNIT}.service"
        (tmp_path / "new").write_text(NEW)
        if there is not None:
            path.write_text(there)
        monkeypatch.setattr(nginx_http3_states, "UNITS", str(tmp_path))
        monkeypatch.setattr(systemd, "is_switched", lambda name, on: is_running is on)
        monkeypatch.setattr(systemd, "switch", lambda name, on: done.append("on" if on else "off"))
        monkeypatch.setattr(systemd, "read", lambda: done.append("read"))
        monkeypatch.setattr(workers, "is_stale", lambda root, paths, pid_file: is_old)
        monkeypatch.setattr(workers, "reload", lambda pid_file: done.append(f"reload {pid_file}"))
        dunders(
            nginx_http3_states,
            salt={"cp.cache_file": lambda address: str(tmp_path / "new")},
            pillar={"nginx": {"http3": is_declared, "sites": {"shop": {}}}},
            opts={"test": is_dry},
            running=running or {},
        )
        ret = nginx_http3_states.current(UNIT, "salt://unit")
        left = path.read_text() if path.exists() else None
        return ret, {"file" if key == str(path) else key for key in ret["changes"]}, done, left

    return apply


@pytest.mark.parametrize("is_declared, there, is_running, is_old, changes, done", CASES.values(), ids=CASES)
def test_it_is_as_declared_and_a_dry_run_tells_it_before(run, is_declared, there, is_running, is_old, changes, done):
    ret, told, did, left = run(is_declared, there, is_running, is_old, is_dry=True)
    assert (ret["result"], told, did, left) == (None if changes else True, changes, [], there)
    ret, told, did, left = run(is_declared, there, is_running, is_old, is_dry=False)
    assert (ret["result"], told, did, left) == (True, changes, done, NEW if is_declared else None)


TOLD = {
    "its configuration": ({"name": tree.ROOT, "changes": {http3.CONFIG: "diff"}}, {UNIT}),
    "a certificate": ({"name": site.path("shop"), "changes": {"issuer": "another"}}, {UNIT}),
    "an upstream": ({"name": tree.ROOT, "changes": {"sites/shop.conf": "diff"}}, set()),
    "a certificate of another app": ({"name": site.path("faq"), "changes": {"issuer": "another"}}, set()),
}


@pytest.mark.parametrize("result, changes", TOLD.values(), ids=TOLD)
def test_a_dry_run_tells_a_reload_for_what_the_second_nginx_reads_alone(run, result, changes):
    assert run(True, NEW, True, False, is_dry=True, running={"one": result})[1] == changes
    # Then the files themselves tell it.
    assert run(True, NEW, True, False, is_dry=False, running={"one": result})[1] == set()


def test_a_debian_whose_nginx_has_no_http3_is_refused_by_path():
    bookworm, asked = {"version": 12, "http3": False}, {"http3": True, "sites": {"shop": {}}}
    said = "nginx.http3: the nginx of Debian 12 has no HTTP/3; expected False, or a newer Debian"
    with pytest.raises(CommandExecutionError, match=re.escape(said)):
        http3.judge(asked, bookworm)
    http3.judge(asked, {"version": 13, "http3": True})
    http3.judge(asked | {"http3": False}, bookworm)
    # A host that is no proxy serves nothing.
    http3.judge(asked | {"sites": {}}, bookworm)
