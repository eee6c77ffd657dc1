"""Storage: a directory for each app that attaches one, closed to everybody else."""

import pytest

SIZES = {unit: 1024**power for power, unit in enumerate("kmgt", 1)}


@pytest.fixture(scope="module")
def attached(apps, roles, processes):
    """Each attached storage: its name, its app, its path, and the PID of a process that has the path."""
    if "storage" not in roles:
        pytest.skip("the host does not have the role storage")
    if not apps:
        pytest.skip("no app runs on the host")
    found = []
    for app, one in sorted(apps.items()):
        for variable, target in one["attach"].items():
            if "storage" in target and "url" not in target:
                found.append((target["storage"], app, variable, next(iter(processes(app).values()))["pid"]))
    if not found:
        pytest.skip("no app attaches a storage")
    return found


@pytest.fixture(scope="module")
def may(host):
    """A function that tells whether a user may write, or pass, a directory: ``may("shop", "-w", path)``."""
    return lambda user, what, path: host.run("runuser -u %s -- test %s %s", user, what, path).rc == 0


def files(name):
    return f"/srv/storage/{name}/files"


def test_a_process_has_the_path_and_may_write_there(host, attached, may):
    for name, app, variable, pid in attached:
        environ = host.file(f"/proc/{pid}/environ").content_string.split("\0")
        assert f"{variable}={files(name)}" in environ
        assert may(app, "-w", files(name))


def test_no_other_app_passes_and_nginx_only_where_it_serves(attached, apps, settings, may):
    for name, app, *_ in attached:
        for other in sorted({*apps} - {app}):
            assert not may(other, "-e", files(name))
        served = bool(settings["storage"]["directories"][name].get("served"))
        assert may("www-data", "-x", files(name)) == served
        assert not may("www-data", "-w", files(name))


def test_what_nobody_attaches_is_closed(host, attached):
    own = {name for name, *_ in attached}
    for note in host.check_output("find /srv/storage -mindepth 2 -maxdepth 2 -name owner").splitlines():
        gate = note.removesuffix("/owner")
        if gate.rpartition("/")[2] not in own:
            assert (host.file(gate).user, host.file(gate).mode & 0o077) == ("root", 0)


def test_no_storage_holds_more_than_its_quota(host, attached, settings):
    for name, *_ in attached:
        if quota := settings["storage"]["directories"][name].get("quota"):
            size = int(host.check_output("du --summarize --bytes %s", files(name)).split()[0])
            assert size <= int(quota[:-1]) * SIZES[quota[-1]], f"{name} holds {size} bytes; its quota is {quota}"
