"""The directory of builds: which ones are removed, and which stay whatever their age."""

import io
import json
import os
import tarfile

import pytest

from saltern.builds.make import output
from tests.unit.builds.make.apps import record


@pytest.fixture
def builds(tmp_path):
    """Return a function that writes a build of an app, each older than the one before."""
    directory, count = tmp_path / "dist", iter(range(1, 100))
    directory.mkdir()

    def write(name, app="shop"):
        path = directory / name
        text = json.dumps({"app": app}).encode()
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("build.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        os.utime(path, (1_000_000 - next(count),) * 2)
        return str(path)

    write.directory = directory
    return write


def name(number, version="{:012x}", app="shop"):
    return f"{app}-{version.format(number)}-py3.13.tar.gz"


def test_the_oldest_builds_of_an_app_are_removed_and_told(builds, tmp_path, capsys):
    made = builds(name(0))
    for number in range(1, 5):
        builds(name(number))
    output.prune(str(builds.directory), "shop", made, 3, [str(tmp_path)])
    assert sorted(path.name for path in builds.directory.iterdir()) == [name(0), name(1), name(2)]
    told = capsys.readouterr().err
    assert f"{name(3)}: removed, since {builds.directory} keeps 3 builds of an app (--keep)" in told
    assert f"{builds.directory}: 1 MB are free again" in told
    output.prune(str(builds.directory), "shop", made, 3, [str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_what_is_declared_or_named_or_another_apps_stays(builds, tmp_path):
    made = builds(name(0))
    stay = [builds(name(1)), builds(name(2, "tree-{:012x}"))]
    stay += [builds(name(3, "v1.{}")), builds(name(4, app="shop-admin"), app="shop-admin")]
    stay += [builds(name(5, "tree-{:012x}"), app="shop-tree"), builds(f"{name(6)}.asc"), builds("notes.txt")]
    (tmp_path / "builds").mkdir()
    for environment, number in (("production", 1), ("dev", 2)):
        text = f"app: {{shop: {{build: {{source: '/srv/{os.path.basename(stay[number - 1])}'}}}}}}"
        (tmp_path / f"builds/{environment}.sls").write_text(text)
    gone = builds(name(9))
    output.prune(str(builds.directory), "shop", made, 1, [str(tmp_path / "builds"), str(tmp_path / "none")])
    assert [path for path in [made, *stay, gone] if not os.path.exists(path)] == [gone]


def test_a_build_prunes_and_one_that_is_built_already_counts_as_new(shop, made, commit, tmp_path):
    first = made(shop)
    old = [tmp_path / "dist" / name(number) for number in range(3)]
    for path in old:
        path.write_bytes((tmp_path / "dist" / os.path.basename(first["path"])).read_bytes())
        os.utime(path, (1_000_000,) * 2)
    os.utime(first["path"], (1_000,) * 2)
    assert made(shop, "--keep", "2")["sha256"] == first["sha256"]
    assert sum(path.exists() for path in old) == 1
    assert record(first)["app"] == "shop"


def test_no_build_is_kept_by_a_number_below_one(shop, run):
    done = run(shop, "--keep", "0")
    assert (done.returncode, "--keep: expected 1 or more" in done.stderr) == (2, True)
