"""The limits of an app: what systemd is told, and what the kernel enforces."""

import os

import pytest
from salt.exceptions import CommandExecutionError

from saltern.apps import limits
from saltern.system import systemd

LIMITS = {"memory": "75%", "tasks": 1024, "processes": {}}
PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_systemd_is_told_by_the_names_of_its_units():
    kinds = {"send_mail-now": {"memory": "64m", "cpu": "50%"}, "web": {"tasks": 30}}
    found = limits.units("my-shop", LIMITS | {"cpu": "150%", "processes": kinds})
    own = found.pop("/etc/systemd/system/app-my\\x2dshop.slice")
    assert own.endswith("[Slice]\nMemoryMax=75%\nTasksMax=1024\nCPUQuota=150%\nCPUWeight=100\n")
    of = "/etc/systemd/system/app-my\\x2dshop-{}-.scope.d/20-saltern.conf"
    assert {path: text.partition("\n")[2] for path, text in found.items()} == {
        of.format("send_mail\\x2dnow"): "[Scope]\nMemoryMax=64M\nCPUQuota=50%\n",
        of.format("web"): "[Scope]\nTasksMax=30\n",
    }


def test_only_a_systemd_that_knows_it_is_told_to_go_on_where_one_process_was_ended():
    assert ["OOMPolicy" in next(iter(limits.common(version).values())) for version in (252, 257)] == [False, True]


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """A function that writes files that stand in for the kernel's control groups."""
    monkeypatch.setattr(limits, "GROUPS", str(tmp_path))

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


GROUP = "app.slice/app-shop.slice"
SCOPE = f"{GROUP}/app-shop-send\\x2dmail-1.v3.scope"
KERNELS = {
    "version 2": {
        "cgroup.controllers": "cpu memory pids",
        f"{GROUP}/memory.max": f"{PHYSICAL * 3 // 4}\n",
        f"{GROUP}/memory.current": f"{50 << 20}\n",
        f"{GROUP}/pids.max": "1024\n",
        f"{GROUP}/pids.current": "7\n",
        f"{GROUP}/cpu.max": "max 100000\n",
        f"{SCOPE}/memory.max": f"{64 << 20}\n",
        f"{SCOPE}/memory.current": f"{8 << 20}\n",
        f"{SCOPE}/pids.max": "max\n",
        f"{SCOPE}/pids.current": "3\n",
        f"{SCOPE}/cpu.max": "50000 100000\n",
    },
    "version 1": {
        f"memory/{GROUP}/memory.limit_in_bytes": f"{PHYSICAL * 3 // 4 - 4095}\n",
        f"memory/{GROUP}/memory.usage_in_bytes": f"{50 << 20}\n",
        f"pids/{GROUP}/pids.max": "1024\n",
        f"pids/{GROUP}/pids.current": "7\n",
        f"cpu/{GROUP}/cpu.cfs_quota_us": "-1\n",
        f"memory/{SCOPE}/memory.limit_in_bytes": f"{64 << 20}\n",
        f"memory/{SCOPE}/memory.usage_in_bytes": f"{8 << 20}\n",
        f"pids/{SCOPE}/pids.max": "max\n",
        f"pids/{SCOPE}/pids.current": "3\n",
        f"cpu/{SCOPE}/cpu.cfs_quota_us": "50000\n",
        f"cpu/{SCOPE}/cpu.cfs_period_us": "100000\n",
    },
}
DECLARED = LIMITS | {"processes": {"send-mail": {"memory": "64m", "cpu": "50%"}}}


@pytest.mark.parametrize("files", KERNELS.values(), ids=KERNELS)
def test_what_the_kernel_enforces_is_compared_with_what_is_declared(kernel, files):
    kernel(files)
    assert limits.differences("shop", DECLARED) == {}
    wanted = DECLARED | {"tasks": 2000, "processes": {"send-mail": {"memory": "1g", "cpu": "50%"}}}
    scope = "app-shop-send\\x2dmail-1.v3.scope"
    assert limits.differences("shop", wanted) == {
        "app-shop.slice": "tasks 1024, expected 2000",
        scope: "memory 64 MiB, expected 1024 MiB",
    }
    unlimited = "memory 64 MiB, expected no limit; cpu 0.5 processors, expected no limit"
    assert limits.differences("shop", LIMITS) == {scope: unlimited}
    assert limits.differences("other", LIMITS) == {}


def test_a_run_of_a_job_has_the_limits_of_its_process_type(kernel):
    run = "app-shop-send\\x2dmail-night\\x2dmail.1764454512345.v3.scope"
    kernel({"cgroup.controllers": "pids", f"{GROUP}/{run}/pids.max": "7\n", f"{GROUP}/{run}/pids.current": "3\n"})
    assert limits.differences("shop", DECLARED) == {run: "tasks 7, expected no limit"}
    assert limits.shown("shop")["processes"] == {"v3 send-mail.night\\x2dmail.1764454512345": {"tasks": "3 of 7"}}


@pytest.mark.parametrize("files", KERNELS.values(), ids=KERNELS)
def test_what_an_app_takes_is_shown_beside_what_it_may(kernel, files):
    kernel(files)
    assert limits.shown("shop") == {
        "memory": f"50 MiB of {PHYSICAL * 3 / 4 / (1 << 20):.0f} MiB",
        "tasks": "7 of 1024",
        "processes": {
            "v3 send-mail.1": {
                "memory": "8 MiB of 64 MiB",
                "tasks": "3 of no limit",
                "cpu": "at most 0.5 processors",
            }
        },
    }


def test_files_of_what_is_gone_are_found_and_those_of_others_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "UNITS", str(tmp_path))
    wanted = limits.units("shop", DECLARED)
    texts = wanted | limits.units("old", DECLARED) | {f"{tmp_path}/app-own.slice": "[Slice]\n"}
    for path, text in texts.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)
    assert limits.stale(wanted) == sorted(limits.units("old", DECLARED))


@pytest.mark.parametrize("files", KERNELS.values(), ids=KERNELS)
def test_systemd_is_told_also_what_is_not_limited(kernel, files):
    kernel(files)
    scope = os.path.basename(SCOPE)
    own = {"MemoryMax": "64M", "TasksMax": "infinity", "CPUQuota": "50%"}
    assert limits.properties(scope, "shop", DECLARED) == own
    assert limits.properties(scope, "shop", LIMITS) == dict.fromkeys(own, "infinity") | {"CPUQuota": ""}
    assert limits.properties("app-shop.slice", "shop", DECLARED)["TasksMax"] == str(LIMITS["tasks"])


@pytest.mark.parametrize("is_lazy", [True, False], ids=["257", "252"])
def test_what_systemd_does_not_take_from_its_files_it_is_told(
    app_limits_states, dunders, monkeypatch, tmp_path, is_lazy
):
    kernel, did = {"app-shop.slice": "tasks 1024, expected 60"}, []

    def read():
        did.append("read")
        if not is_lazy:
            kernel.clear()

    def enforce(unit, properties):
        did.append((unit, properties))
        del kernel[unit]

    monkeypatch.setattr(limits, "units", lambda app, own: {f"{tmp_path}/app-shop.slice": "[Slice]\nTasksMax=60\n"})
    monkeypatch.setattr(limits, "differences", lambda app, own: dict(kernel))
    monkeypatch.setattr(limits, "properties", lambda unit, app, own: {"TasksMax": "60"})
    monkeypatch.setattr(systemd, "read", read)
    monkeypatch.setattr(systemd, "enforce", enforce)
    dunders(app_limits_states, pillar={"app": {"shop": {"limits": {"tasks": 60}}}}, opts={"test": False})
    ret = app_limits_states.enforced("shop")
    assert (ret["result"], list(ret["changes"])) == (True, [f"{tmp_path}/app-shop.slice"])
    assert did == (["read", ("app-shop.slice", {"TasksMax": "60"}), "read"] if is_lazy else ["read"])


def test_the_limits_of_an_app_that_is_not_declared_are_not_shown(app_limits, dunders, kernel):
    dunders(app_limits, salt={}, pillar={"app": {"shop": {}}}, opts={})
    assert app_limits.shown("shop") == {"processes": {}}
    with pytest.raises(
        CommandExecutionError, match=r"^nosuch: no app of this host has this name; expected one of shop$"
    ):
        app_limits.shown("nosuch")
